import pytest
from planted_strata import Cohort, simulated, solved, study_of

from swarmcell.model.strata.state import StrataState


@pytest.fixture(scope="session")
def cohort() -> Cohort:
    return simulated(0)


@pytest.fixture(scope="session")
def state(cohort: Cohort) -> StrataState:
    """Strata of the cohort, found by its three sites."""
    return solved(study_of(), cohort.table.by_site())
