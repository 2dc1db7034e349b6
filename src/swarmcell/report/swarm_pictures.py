"""The swarm's timeline from the ledger: whose contribution every block merged, and what else happened."""

from typing import Any

from matplotlib.ticker import MaxNLocator

from swarmcell.report import style
from swarmcell.report.names import counted
from swarmcell.report.portrait_pictures import counts
from swarmcell.report.style import Picture
from swarmcell.workflows.evaluation.ledger_facts import LedgerFacts
from swarmcell.workflows.evaluation.swarm_figures import BlockRow, SwarmFigures
from swarmcell.workflows.evaluation.values import Evaluation

BLOCKS_DRAWN = 400  # chosen, the last ones: more marks are no longer told apart
STAGES = {"features": "model-3", "cell": "model-1", "patient": "model-2"}


def timeline(evaluation: Evaluation) -> Picture | None:
    """Draw members by blocks; `None` where no ledger was read."""
    swarm = evaluation.swarm or evaluation.ledger
    if swarm is None or not swarm.timeline:
        return None
    rows = swarm.timeline[-BLOCKS_DRAWN:]
    sites = sorted({site for row in rows for site in row.members})
    figure, (axes,) = style.blank(7.2, 1.5 + 0.3 * len(sites))
    for stage, role in STAGES.items():
        at = [(row.height, sites.index(site)) for row in rows if row.stage == stage for site in row.included]
        if at:
            look: dict[str, Any] = {"marker": "s", "color": style.ROLES[role], "markersize": _size(len(rows))}
            axes.plot(*zip(*at, strict=True), linestyle="none", label=f"merged, stage {stage}", **look)
    lost = [(row.height, sites.index(site)) for row in rows for site in row.left_out if site in sites]
    if lost:
        axes.plot(*zip(*lost, strict=True), linestyle="none", marker="x", color=style.INK, label="left out")
    for row in rows:
        if row.kind not in {"merge", "genesis"}:
            axes.axvline(row.height, color=style.MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.annotate(row.kind, (row.height, -0.7), fontsize=8, color=style.MUTED, annotation_clip=False)
    axes.set(ylim=(len(sites) - 0.5, -0.9), xlabel="block of the ledger")
    axes.set_yticks(range(len(sites)), sites)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(length=0)
    style.legend(axes, outside=True)
    return Picture(
        name="timeline",
        title="The swarm, block by block",
        caption="A mark: the member's contribution is merged in this block. "
        f"{counted(len(rows), 'block')} to height {swarm.head_height}"
        + (f" of {swarm.head_height + 1}" if len(rows) <= swarm.head_height else "")
        + f", from this site's ledger; none of the held-out is in them ({counts(evaluation)}).",
        alt=f"Contributions of {counted(len(sites), 'member')} over {counted(len(rows), 'block')}: "
        + _words(swarm, rows, sites),
        figure=figure,
    )


def _size(n_blocks: int) -> float:
    return 5.0 if n_blocks <= 60 else 3.0 if n_blocks <= 150 else 1.6


def _words(swarm: SwarmFigures | LedgerFacts, rows: tuple[BlockRow, ...], sites: list[str]) -> str:
    merged = {site: sum(site in row.included for row in rows) for site in sites}
    n_left_out = sum(len(row.left_out) for row in rows)
    words = ", ".join(f"{site} in {n}" for site, n in merged.items())
    return f"{words}; {counted(n_left_out, 'contribution')} left out; head {swarm.head[:16]}."
