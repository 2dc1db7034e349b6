"""Simulated cohorts with planted strata, and a study solved by its two calls."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swarmcell.model.strata.rounds import Stratifier
from swarmcell.model.strata.state import StrataState, from_bytes
from swarmcell.model.strata.table import SampleTable, blocks_of
from swarmcell.model.study import Floors, StrataRule, Study

N_TYPES, N_GENES = 5, 20


@dataclass(frozen=True)
class Cohort:
    """Samples of all sites, and the stratum that was planted in each."""

    table: SampleTable
    planted: np.ndarray


def simulated(
    seed: int,
    *,
    n: int = 45,
    strata: int = 3,
    separation: float = 1.0,
    batch: float = 0.0,
    shares: Sequence[float] = (0.6, 0.3, 0.1),
) -> Cohort:
    """Return a cohort of `n` donors at unequal sites, each site with a shift of its own."""
    rng = np.random.default_rng(seed)
    planted = rng.integers(0, strata, n)
    site = np.sort(rng.choice(len(shares), n, p=shares))
    centres = rng.normal(size=(strata, N_TYPES + N_GENES)) * separation
    shift = rng.normal(size=(len(shares), N_TYPES + N_GENES)) * batch
    features = centres[planted] + shift[site] + rng.normal(size=(n, N_TYPES + N_GENES)) * 0.5
    table = SampleTable(
        blocks=blocks_of("rna", [f"type {i}" for i in range(N_TYPES)], [f"G{i}" for i in range(N_GENES)]),
        features=features,
        sites=tuple(f"site-{s}" for s in site),
        donors=tuple(f"d{i}" for i in range(n)),
        samples=tuple(f"s{i}" for i in range(n)),
        n_cells=rng.integers(50, 500, n),
        condition=(planted == 0).astype(np.int64),
        covariates={"age": rng.normal(60, 10, n)},
    )
    return Cohort(table, planted)


def study_of(**rule: object) -> Study:
    return Study(
        name="strata",
        modality="rna",
        cell_types=tuple(f"type {i}" for i in range(N_TYPES)),
        conditions=("well", "sick"),
        floors=Floors(donors=1, cells=1),
        strata=StrataRule(
            **({"k_max": 4, "starts": 12, "resamples": 10, "nulls": 19, "covariates": {"age": ()}} | rule)
        ),
    )


def solved(study: Study, tables: Sequence[SampleTable]) -> StrataState:
    """Run a study of one site per table; the first and the last site merge, and must get the same bytes."""
    sites = [Stratifier(study, table) for table in tables]
    state, stop = sites[0].start(), threading.Event()
    while not from_bytes(state).finished:
        contributions = [site.contribute(state, stop) for site in sites]
        outcome = sites[0].merge(state, contributions)
        assert not outcome.left_out
        assert len(sites) == 1 or sites[-1].merge(state, contributions[::-1]).state == outcome.state
        state = outcome.state
    return from_bytes(state)
