"""How much figures depend on who was held out: the study fitted again on other splits of the same donors.

Rules: each fold is a training and an evaluation like any other, on copies of the files with another split; whole
donors, as ever. What comes out is a spread over splits, no confidence interval: folds share most of their donors. The
model that is evaluated beside it is not changed, and a refit is made of these files only, without a swarm.
"""

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np

from swarmcell.cells import hdf5, schema
from swarmcell.cells.labels import strata
from swarmcell.cells.split import HELD_OUT, TRAIN, leave_one_out, repeated
from swarmcell.errors import CellsError, UsageError
from swarmcell.metrics import patient
from swarmcell.metrics.estimate import Estimate
from swarmcell.metrics.score_intervals import newcombe_auroc
from swarmcell.model import released
from swarmcell.workflows.evaluate import evaluate
from swarmcell.workflows.evaluation.portrait_values import Fold, Refit, Spread
from swarmcell.workflows.evaluation.values import Evaluation
from swarmcell.workflows.stream import PreparedFile
from swarmcell.workflows.train import Options, train_alone

DONORS = "donors"
REFITS_MAX = 100  # chosen: each is a training
FIGURES = {
    "cell": ("accuracy", "balanced_accuracy", "macro_f1"),
    "patient": ("auroc", "auprc", "balanced_accuracy", "brier"),
}
Held = frozenset[tuple[str, str]]  # site and donor


@dataclass(frozen=True)
class _Done:
    held: Held
    found: Evaluation


def refit(
    model: Path,
    files: Sequence[Path],
    how: str,
    *,
    share: float = 0.25,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Refit:
    """Fit the model's study again on other splits of the donors of these files, and evaluate each fit.

    Parameters
    ----------
    model
        Model file, for its study's rules.
    files
        Prepared files; all of their donors take part, whatever their split.
    how
        `donors`: each donor is held out once. A number: so many random splits, stratified, site by site.
    share
        Of donors held out by a random split.
    seed
        Of the random splits.
    tell
        Called with a line per fold.

    Raises
    ------
    UsageError
        If `how` is neither, or the folds are too many.
    CellsError
        If there are too few donors.
    """
    study = released.load(model).study
    folds = list(_folds(files, how, share, seed))
    if len(folds) > REFITS_MAX:
        msg = f"--refit {how}: {len(folds)} trainings, at most {REFITS_MAX}. Ask for a number of random splits."
        raise UsageError(msg)
    done = []
    with tempfile.TemporaryDirectory(prefix="swarmcell-refit-") as name:
        for number, held in enumerate(folds):
            folder = Path(name) / str(number)
            folder.mkdir()
            copies = [_copy(path, folder / f"{i}.h5ad", held) for i, path in enumerate(files)]
            trained = train_alone(
                copies,
                runs=folder,
                name="fold",
                study=study,
                options=Options(seed=study.seed),
                observer=lambda *_: None,
            )
            done.append(_Done(held, evaluate(trained.models["local"], copies, n_bootstrap=0)))
            tell(f"refit {number + 1} of {len(folds)}: held out {_names(held)}")
            shutil.rmtree(folder)
    return _collected(done, how)


def _folds(files: Sequence[Path], how: str, share: float, seed: int) -> Iterator[Held]:
    by_site: dict[str, dict[str, str]] = {}
    for path in files:
        with PreparedFile(path) as file:
            for site in sorted(set(file.labels("site"))):
                mine = file.obs[file.obs["site"].astype(str) == site]
                by_site.setdefault(str(site), {}).update(strata(mine))
    n_donors = sum(map(len, by_site.values()))
    if n_donors < 3:
        msg = f"--refit: the files hold {n_donors} donors; at least 3 are needed, to train on two and hold one out."
        raise CellsError(msg)
    if how == DONORS:
        everybody = [(site, donor) for site, donors in sorted(by_site.items()) for donor in donors]
        yield from (frozenset([one]) for one in leave_one_out(everybody))
    elif how.isdecimal() and int(how) > 0:
        for number in range(int(how)):
            chosen = repeated(by_site, share=share, seed=seed, number=number)
            yield frozenset((site, donor) for site, donors in chosen.items() for donor in donors)
    else:
        msg = f"--refit {how}: expected 'donors' (each donor held out once) or a number of random splits."
        raise UsageError(msg)


def _copy(path: Path, target: Path, held: Held) -> Path:
    """Copy a prepared file, with the split that holds these donors out."""
    shutil.copyfile(path, target)
    with PreparedFile(path) as file:
        pairs = zip(file.labels("site"), file.labels("donor"), strict=True)
        obs = file.obs.copy()
        obs["split"] = [HELD_OUT if pair in held else TRAIN for pair in pairs]
        obs["split"] = schema.categories(obs["split"])
    with hdf5.output(target, mode="r+") as copy:
        del copy["obs"]
        ad.io.write_elem(copy, "obs", obs)
    return target


def _names(held: Held) -> str:
    listed = [f"{site}/{donor}" for site, donor in sorted(held)]
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def _collected(done: Sequence[_Done], how: str) -> Refit:
    folds = tuple(
        Fold(held_out=tuple(f"{site}/{donor}" for site, donor in sorted(one.held)), figures=dict(_values(one.found)))
        for one in done
    )
    names = list(dict.fromkeys(name for fold in folds for name in fold.figures))
    spreads = {name: _spread([fold.figures.get(name) for fold in folds]) for name in names}
    return Refit(
        kind="leave-one-donor-out" if how == DONORS else "random splits",
        folds=folds,
        spreads={name: spread for name, spread in spreads.items() if spread is not None},
        auroc=_pooled_auroc(done) if how == DONORS else None,
    )


def _values(found: Evaluation) -> Iterator[tuple[str, float | None]]:
    for task, what in ((found.cell, "cell"), (found.patient, "patient")):
        if task is not None:
            figures: Mapping[str, Estimate] = task.models[0].figures
            yield from ((f"{what}.{name}", figures[name].value) for name in FIGURES[what] if name in figures)


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(mean=statistics.mean(known), lowest=min(known), highest=max(known), n=len(known))


def _pooled_auroc(done: Sequence[_Done]) -> Estimate | None:
    """Return the AUROC of all samples, each by the model that never saw its donor (two conditions only)."""
    rows: list[Any] = [s for one in done if one.found.patient for s in one.found.patient.models[0].samples]
    tasks = [one.found.patient for one in done if one.found.patient]
    if not tasks or len(tasks[0].conditions) != 2:
        return None
    positive = tasks[0].positive
    place = tasks[0].conditions.index(positive)
    known = [row for row in rows if row.condition]
    true = np.array([row.condition == positive for row in known])
    donors = {(row.site, row.donor): row.condition for row in known}
    n_positive = sum(condition == positive for condition in donors.values())
    if not 0 < n_positive < len(donors):
        return None
    score = np.array([row.probabilities[place] for row in known])
    value = float(patient.auroc(true, score, np.ones((1, len(true)), np.int64))[0])
    low, high = newcombe_auroc(value, n_positive, len(donors) - n_positive)
    note = "each sample by a model that never saw its donor; models differ from fold to fold"
    return Estimate(value=value, low=low, high=high, method="score", note=note)
