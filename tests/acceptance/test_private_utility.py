"""What a model of real cells is worth under differential privacy, and that noise without end would show."""

import statistics

import pytest
from benchmarks import bench_dp
from benchmarks.merge_cases import DATA

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")


@pytest.fixture(scope="module")
def lines():
    """Cells of five lung cancer lines, each batch held out in turn."""
    return bench_dp._by_batch()


def f1(folds, epsilon, **options):
    return statistics.mean(bench_dp._f1(fold, "cell", epsilon, **options) for fold in folds)


def test_at_epsilon_8_a_model_of_cell_lines_keeps_nine_tenths_of_its_macro_f1(lines):
    assert f1(lines[:1], 8.0) > 0.9 * f1(lines[:1], None, secure=False)


def test_a_small_budget_costs_accuracy(lines):
    assert f1(lines[:1], 0.3) < 0.7, "so that the fact above can fail"
