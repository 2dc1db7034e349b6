"""What each site would have learnt alone, and all of them in one place: models to put beside a swarm's, made here.

Rules: only where the files of several sites lie on one machine; each model is trained by the study's own rules on the
training donors of these files, as `train` does it. They are for comparison, so their files are not kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from swarmcell.cells.split import TRAIN
from swarmcell.errors import CellsError, UsageError
from swarmcell.model import released
from swarmcell.model.study import Study
from swarmcell.workflows.evaluation.values import Evaluation
from swarmcell.workflows.stream import PreparedFile
from swarmcell.workflows.train import Options, train_alone

POOLED = "pooled"
LOCAL_MODEL = "local.safetensors"
MADE_HERE = "trained for this comparison, not kept"


def peers(
    model: Path, files: Sequence[Path], folder: Path, *, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Path]:
    """Train each site's own model and the pooled one into `folder`; return name -> file, for `evaluate(against=...)`.

    A site whose own model lies beside `model` (`local.safetensors`) is not trained again.

    Parameters
    ----------
    model
        Model file, for its study's rules.
    files
        Prepared files of at least two sites.
    tell
        Called with a line per model.

    Raises
    ------
    UsageError
        If the files hold training donors of fewer than two sites, or the study starts from another model.
    CellsError, PanelError
        If a file breaks the data contract, or was prepared for another study.
    """
    study = released.load(model).study
    if study.start_sha256:
        msg = f"--compare: the study {study.name!r} starts from a model. Train with train --from, and use --against."
        raise UsageError(msg)
    by_site = _by_site(files)
    if len(by_site) < 2:
        msg = f"--compare: the files hold training donors of {len(by_site)} site(s), at least 2 are needed. Name all."
        raise UsageError(msg)
    known = _site_beside(model)
    wanted = {f"{site} alone": paths for site, paths in by_site.items() if site != known}
    wanted[POOLED] = list(dict.fromkeys(path for paths in by_site.values() for path in paths))
    found = {
        name: _trained(name, paths, study, folder / str(i), tell) for i, (name, paths) in enumerate(wanted.items())
    }
    return {name: path for name, path in found.items() if path is not None}


def _trained(name: str, files: Sequence[Path], study: Study, runs: Path, tell: Callable[[str], None]) -> Path | None:
    """Train on these files alone; `None`, and the reason told, where they cannot teach anything."""
    tell(f"training for comparison: {name}")
    options = Options(seed=study.seed)
    try:
        done = train_alone(files, runs=runs, name="run", study=study, options=options, observer=lambda *_: None)
    except CellsError as error:
        tell(f"{name}: left out of the comparison: {error}")
        return None
    return done.models["local"]


def said_so(found: Evaluation, made: dict[str, Path]) -> Evaluation:
    """Return the result with models of `peers` named as what they are, in place of files that are gone."""
    models = (replace(facts, file=MADE_HERE) if facts.name in made else facts for facts in found.models)
    return replace(found, models=tuple(models))


def _by_site(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the files by the site (or sites) whose training donors they hold."""
    found: dict[str, list[Path]] = {}
    for path in files:
        with PreparedFile(path) as file:
            sites = sorted(set(file.labels("site")[file.labels("split") == TRAIN]))
        if sites:
            found.setdefault(" + ".join(sites), []).append(path)
    return dict(sorted(found.items()))


def _site_beside(model: Path) -> str:
    """Return the site of the local model beside a model; empty where there is none."""
    beside = model.parent / LOCAL_MODEL
    if not beside.is_file() or beside.resolve() == model.resolve():
        return ""
    sites = released.load(beside).card.get("sites", ())
    return str(sites[0]) if len(sites) == 1 else ""
