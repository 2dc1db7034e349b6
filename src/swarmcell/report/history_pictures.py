"""The learning curve: validation by round, of each model that a run trained."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from swarmcell.report import style
from swarmcell.report.marks import marker
from swarmcell.report.portrait_pictures import counts
from swarmcell.report.style import Picture
from swarmcell.workflows.evaluation.portrait_values import RoundRow
from swarmcell.workflows.evaluation.values import Evaluation

STAGES = {"cell": "Cell types", "patient": "Patients"}
MODELS = {"merged": "swarm", "local": "local"}


def learning_curve(evaluation: Evaluation) -> Picture | None:
    """Draw validation loss by round; `None` if the run wrote none down."""
    rows = [row for row in evaluation.history if row.validation_loss is not None and row.stage in STAGES]
    stages = [stage for stage in STAGES if any(row.stage == stage for row in rows)]
    if not stages:
        return None
    models = list(dict.fromkeys(row.model for row in rows))
    figure, panels = style.blank(min(7.2, 1.4 + 2.9 * len(stages)), 3.1, n_columns=len(stages))
    for axes, stage in zip(panels, stages, strict=True):
        for index, model in enumerate(models):
            _curve(axes, [row for row in rows if row.model == model and row.stage == stage], index)
        axes.set(title=STAGES[stage], xlabel="round of the stage")
        axes.set_ylim(bottom=0)
        style.gridlines(axes)
    panels[0].set_ylabel("validation loss")
    for index, model in enumerate(models):
        panels[0].plot([], [], label=MODELS.get(model, model), linewidth=1.4, **marker(index))
    style.legend(panels[0], outside=True)
    return Picture(
        name="learning_curve",
        title="Learning curve",
        caption="Mean loss on validation donors held back within training, of the parameters that each round began "
        f"with; none of the held-out is among them ({counts(evaluation)}). "
        "The local model's is of its own site's donors, the swarm's of all sites'.",
        alt="Validation loss by round. " + " ".join(_words(rows, stages, models)),
        figure=figure,
    )


def _curve(axes: Axes, rows: Sequence[RoundRow], index: int) -> None:
    if rows:
        first = rows[0].round
        points = [(row.round - first, row.validation_loss) for row in rows]
        axes.plot(*zip(*points, strict=True), linewidth=1.4, **(marker(index) | {"markersize": 3.5}))


def _words(rows: Sequence[RoundRow], stages: Sequence[str], models: Sequence[str]) -> list[str]:
    words = []
    for stage in stages:
        for model in models:
            losses = [row.validation_loss for row in rows if row.model == model and row.stage == stage]
            known = [loss for loss in losses if loss is not None]
            if known:
                name = MODELS.get(model, model)
                words.append(f"{STAGES[stage]}, {name}: {known[0]:.2f} at first, {min(known):.2f} at best.")
    return words
