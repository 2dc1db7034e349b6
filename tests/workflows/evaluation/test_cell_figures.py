"""The cell task's intervals at the ends of the scale."""

import numpy as np
import pytest

from swarmcell.metrics import calibration
from swarmcell.workflows.evaluation.cell_figures import cell_task
from swarmcell.workflows.evaluation.cohort import Cohort, Donor
from swarmcell.workflows.evaluation.scores import THRESHOLDS, CellScores
from swarmcell.workflows.evaluation.values import Settings


def figures_of(confusion):
    """Return the figures of donors with these confusion matrices, shape `(n_donors, 2, 2)`."""
    n = len(confusion)
    reliability = np.zeros((n, calibration.N_BINS, 3))
    reliability[:, -1] = np.stack([confusion.sum(axis=(1, 2)), 0.99 * confusion.sum(axis=(1, 2)), np.full(n, 30)], 1)
    scores = CellScores(confusion, reliability, np.ones((n, len(THRESHOLDS), 2), np.int64))
    donors = tuple(Donor("site-a", f"p{i}") for i in range(n))
    cohort = Cohort((), donors, (), ("B", "T"), (), n_training_donors=0, notes=())
    settings = Settings(seed=0, n_bootstrap=200, n_permutations=20, level=0.95)
    return cell_task(cohort, {"swarm": scores}, settings).models[0].figures


def test_five_donors_without_an_error_are_no_certainty():
    found = figures_of(np.stack([np.diag([10 + i, 20 - i]) for i in range(5)]))
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert found[name].value == 1
        assert found[name].low == pytest.approx(0.5655, abs=1e-4), "Wilson's interval of five out of five"
        assert "donors as trials" in found[name].note


def test_a_model_that_always_says_one_type_has_its_figure_for_certain():
    found = figures_of(np.stack([np.array([[10 + i, 0], [20 - i, 0]]) for i in range(5)]))
    assert found["balanced_accuracy"].low == found["balanced_accuracy"].high == 0.5
    assert "no width" in found["balanced_accuracy"].note
    assert found["accuracy"].low < found["accuracy"].high
