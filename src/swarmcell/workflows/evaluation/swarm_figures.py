"""Swarm-wide figures of one merged model, from what the members published in the log: the same at every peer.

Rules: the first evaluation of a member for a model counts, so nobody can look at the others and count again. Figures
are a function of these counts and the study alone, and stand beside the digest of the model and the head of the ledger.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from swarmcell.metrics import pooled, pooled_patient
from swarmcell.metrics.calibration import N_BINS
from swarmcell.metrics.estimate import Estimate
from swarmcell.metrics.patient import positive_condition
from swarmcell.model.study import Study
from swarmcell.workflows.evaluation import site_counts
from swarmcell.workflows.evaluation.site_counts import CELL, PATIENT, SCORE_BINS, Counts


@dataclass(frozen=True, kw_only=True)
class SitePart:
    """What one member published: donors and cells of the cell task, samples of each condition; `fault` if unusable."""

    site: str
    n_donors: int
    n_cells: int
    samples: Mapping[str, int]
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class BlockRow:
    """One final block, for the timeline: who contributed, who was left out and why."""

    height: int
    kind: str
    stage: str
    round: int
    members: tuple[str, ...]
    included: tuple[str, ...]
    left_out: Mapping[str, str]
    digest: str


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What one member's last update says it trained on."""

    site: str
    n_donors: int
    n_cells: int
    updates: int


@dataclass(frozen=True, kw_only=True)
class SwarmFigures:
    """The swarm's own evaluation of a merged model.

    Attributes
    ----------
    model_digest
        The merged state that was evaluated, and the height of the block that made it.
    head, head_height
        Digest and height of the last block of this site's ledger.
    waiting
        Members who have published nothing.
    cell, patient
        Figure -> estimate, empty where no usable counts are.
    """

    swarm: str
    model_digest: str
    model_height: int
    head: str
    head_height: int
    sites: tuple[SitePart, ...]
    waiting: tuple[str, ...]
    cell: Mapping[str, Estimate]
    patient: Mapping[str, Estimate]
    n_donors: int
    n_cells: int
    samples: Mapping[str, int]
    confusion: tuple[tuple[int, ...], ...]
    timeline: tuple[BlockRow, ...] = ()
    trained: tuple[Trained, ...] = ()


def parts(published: Mapping[str, Counts], study: Study) -> tuple[SitePart, ...]:
    """Return what each member published, by name; what contradicts itself is named and not used."""
    found = []
    for site in sorted(published):
        counts = published[site]
        fault = "; ".join(site_counts.faults(counts, study))
        n = len(study.conditions)
        table = np.zeros((n, n), np.int64) if fault else site_counts.added([counts], PATIENT, (n, n))
        found.append(
            SitePart(
                site=site,
                n_donors=0 if fault else counts.get("cell.donors", (0,))[0],
                n_cells=0 if fault else sum(counts.get(CELL, ())) + counts.get(site_counts.MERGED, (0,))[0],
                samples=dict(zip(study.conditions, table.sum(axis=1).tolist(), strict=True)),
                fault=fault,
            )
        )
    return tuple(found)


def figures(published: Mapping[str, Counts], study: Study) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Return the swarm-wide figures of the cell task and of the patient task; empty where nobody counted."""
    usable = [counts for site, counts in sorted(published.items()) if not any(site_counts.faults(counts, study))]
    return _cell(usable, study), _patient(usable, study)


def confusion(published: Mapping[str, Counts], study: Study) -> tuple[tuple[int, ...], ...]:
    """Return the swarm-wide confusion matrix of cells; empty where nobody counted."""
    usable = [c for c in published.values() if CELL in c and not any(site_counts.faults(c, study))]
    n = len(study.cell_types)
    return tuple(map(tuple, site_counts.added(usable, CELL, (n, n)).tolist())) if usable else ()


def _cell(every: list[Counts], study: Study) -> dict[str, Estimate]:
    every = [counts for counts in every if CELL in counts]
    if not every:
        return {}
    n = len(study.cell_types)
    with_moments = all("cell.moments" in counts for counts in every)
    with_bins = all("cell.rows" in counts for counts in every)
    with_gaps = all("cell.gaps" in counts for counts in every)
    bins = [site_counts.added(every, key, (N_BINS,)) for key in ("cell.rows", "cell.confidence", "cell.hits")]
    reliability = np.stack([bins[0], bins[1] / 2**pooled.SCALE_BITS, bins[2]], axis=1)
    found = pooled.cell_figures(
        site_counts.added(every, CELL, (n, n)),
        site_counts.added(every, "cell.moments", (site_counts.moments_of(n),)) if with_moments else None,
        int(site_counts.added(every, "cell.donors", (1,))[0]),
        reliability,
        site_counts.added(every, "cell.gaps", (site_counts.GAPS,)) if with_gaps else None,
        site_counts.added(every, site_counts.MERGED, (2,)),
    )
    return found if with_bins else {k: v for k, v in found.items() if k != "expected_calibration_error"}


def _patient(every: list[Counts], study: Study) -> dict[str, Estimate]:
    every = [counts for counts in every if PATIENT in counts and "patient.scores" in counts]
    if not every:
        return {}
    n = len(study.conditions)
    return pooled_patient.patient_figures(
        [np.array(counts["patient.scores"], np.int64).reshape(n, n, SCORE_BINS) for counts in every],
        site_counts.added(every, PATIENT, (n, n)),
        site_counts.added(every, "patient.donors", (n,)),
        positive=positive_condition(study.conditions),
        least=study.floors.donors,
    )
