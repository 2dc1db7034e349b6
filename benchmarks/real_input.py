"""Figures on real input, as Markdown: `make figures`, or `python -m benchmarks.real_input [--data FOLDER] [CASE ...]`.

Rules: a figure stands with its interval over donors; where one donor is held out there is none, and the lowest and
highest fold stand in square brackets instead. The acceptance tests run the same cases (`real_cases.py`).
"""

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cli_study import Outcome, swarmcell
from benchmarks.real_cases import CASES, DATA, Case

HEAD = ("set and task", "held out", "figure", "swarm", "each site alone", "pooled", "guessing")
FOLDS_HEAD = ("set", "held out", "figure", "swarm", "each site alone", "pooled", "guessing")
NO_SWARM = "-"
MAPPED = 1500  # cells of a report's map; chosen
SHOWN = {  # the figure of each report that docs/reports.md shows
    "kang3": "map",
    "wnv12": "sample_probabilities",
    "aml": "sample_probabilities",
    "pbmc": "f1_by_class",
}
PICTURE_WIDTH, COLOURS = 900, 128  # of a picture in the manual: tens of kilobytes


def figure(outcome: Outcome, task: str, model: str, name: str) -> dict[str, Any]:
    """Return one figure of one model: `value`, `interval` (None where there is none) and `note`."""
    found: dict[str, Any] = next(m for m in outcome.evaluation[task]["models"] if m["model"] == model)["figures"][name]
    return found


def value(outcome: Outcome, task: str, model: str, name: str) -> float:
    """Return one figure of one model without its interval."""
    return float(figure(outcome, task, model, name)["value"])


def alone_models(outcome: Outcome, task: str) -> list[str]:
    """Return the names of the models that one site trained by itself."""
    return [m["model"] for m in outcome.evaluation[task]["models"] if m["model"] not in {"swarm", "pooled"}]


def guessing(outcome: Outcome, task: str, name: str) -> float:
    """Return what guessing earns: the most frequent class's share for the accuracy, else chance."""
    if task == "patient":
        return 0.5
    about = outcome.evaluation["cell"]
    return float(about["majority_accuracy" if name == "accuracy" else "chance_balanced_accuracy"])


def rows(case: Case, outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Return a row per figure: of the one study, or over all folds."""
    if len(outcomes) == 1:
        return [_row(case.title, case.task, outcomes[0], name) for name in case.figures]
    found = []
    for name in case.figures:
        columns = [_over(outcomes, case.task, models, name) for models in (["swarm"], None, ["pooled"])]
        guess = _spread([guessing(outcome, case.task, name) for outcome in outcomes])
        found.append([case.title, f"each of {len(outcomes)} donors", _words(name), *columns, guess])
    return found


def fold_rows(short: str, case: Case, outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Return a row per fold and figure; none where there is one study."""
    if len(outcomes) == 1:
        return []
    return [_row(short, case.task, outcome, name) for outcome in outcomes for name in case.figures]


def table(head: Sequence[str], found: Sequence[Sequence[str]]) -> str:
    """Return Markdown."""
    lines = [head, ["---"] * len(head), *found]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(title: str, task: str, outcome: Outcome, name: str) -> list[str]:
    shown = {m["model"]: _text(m["figures"][name]) for m in outcome.evaluation[task]["models"]}
    sites = "; ".join(shown[model] for model in alone_models(outcome, task))
    swarm, pooled = shown.get("swarm", NO_SWARM), shown.get("pooled", NO_SWARM)
    return [title, _held_out(outcome, task), _words(name), swarm, sites, pooled, f"{guessing(outcome, task, name):.2f}"]


def _over(outcomes: Sequence[Outcome], task: str, models: list[str] | None, name: str) -> str:
    """Return the mean over folds, of these models or (None) of those that one site trained."""
    values = [
        value(outcome, task, m["model"], name)
        for outcome in outcomes
        for m in outcome.evaluation[task]["models"]
        if m["model"] in (alone_models(outcome, task) if models is None else models)
    ]
    return _spread(values) if values else NO_SWARM


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.2f} [{min(values):.2f} to {max(values):.2f}]"


def _text(found: dict[str, Any]) -> str:
    if found["value"] is None:
        return "undefined"
    if found["interval"] is None:
        return f"{found['value']:.2f}"
    low, high = found["interval"]
    return f"{found['value']:.2f} ({low:.2f} to {high:.2f})"


def _held_out(outcome: Outcome, task: str) -> str:
    cohort = outcome.evaluation["cohort"]
    if task == "patient":
        return f"{cohort['n_donors']} donors, {cohort['n_samples']} samples"
    return f"{cohort['sites'][0]['site'].removeprefix('site-')}: {cohort['n_cells']} cells"


def _words(name: str) -> str:
    return "AUROC" if name == "auroc" else name.replace("_", " ")


def _note(case: Case, outcomes: Sequence[Outcome]) -> str:
    said = [outcome.evaluation["summary"][0] for outcome in outcomes] if len(outcomes) == 1 else []
    seconds = sum(outcome.seconds for outcome in outcomes)
    return "\n".join(
        [f"- {case.title}: {case.caveat}. ({seconds:.0f} s)", *(f"  `evaluate` says: {one}" for one in said)]
    )


def shown(report: Path, name: str, folder: Path) -> None:
    """Keep the figure of a case's report that the manual shows, small, as `folder/CASE.png`."""
    from PIL import Image  # noqa: PLC0415 (matplotlib brings it)

    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(report / "figures" / f"{SHOWN[name]}.png") as drawn:
        size = (PICTURE_WIDTH, round(drawn.height * PICTURE_WIDTH / drawn.width))
        small = drawn.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    small.quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(folder / f"{name}.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of real data")
    parser.add_argument("--reports", type=Path, help="folder to keep each case's first report in, as CASE/report.html")
    parser.add_argument("--pictures", type=Path, help="with --reports: folder for the pictures of docs/reports.md")
    options = parser.parse_args()
    found, folds, notes = [], [], []
    for name in options.cases or CASES:
        case = CASES[name]
        with tempfile.TemporaryDirectory(prefix="swarmcell-") as folder:
            outcomes = case.run(options.data.resolve(), Path(folder))
            if options.reports is not None:
                again = (*outcomes[0].evaluated_by, "--umap", str(MAPPED), "--force")
                swarmcell(outcomes[0].folder, again)  # a map of cells takes ten seconds, which the tests save
                shutil.copytree(outcomes[0].folder / "evaluation", options.reports / name, dirs_exist_ok=True)
                if options.pictures is not None and name in SHOWN:
                    shown(options.reports / name, name, options.pictures)
        found += rows(case, outcomes)
        folds += fold_rows(name, case, outcomes)
        notes.append(_note(case, outcomes))
    print(table(HEAD, found) + "\n\n" + "\n".join(notes))
    if folds:
        print("\nFold by fold:\n\n" + table(FOLDS_HEAD, folds))


if __name__ == "__main__":
    main()
