"""Small counts are merged into neighbours: none is published, no sum is lost, and all compute the same."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from swarmcell.metrics import cell, patient, pooled_patient
from swarmcell.model.study import Floors, Study
from swarmcell.workflows.evaluation import site_counts, swarm_figures
from swarmcell.workflows.evaluation.merged_counts import groups, merged_bins, merged_places, rare_types


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 25))
def test_no_bin_is_too_small_unless_all_together_are(counts, least):
    n = np.array(counts, np.int64)
    by_bin = np.stack([n, n * 0.5, n // 2], axis=1)[None].astype(float)
    merged = merged_bins(by_bin, least)
    assert merged.sum(axis=1) == pytest.approx(by_bin.sum(axis=1))
    rows = merged[0, :, 0]
    if n.sum() >= least:
        assert all(row == 0 or row >= least for row in rows)
    else:
        assert np.count_nonzero(rows) <= 1
    assert (np.diff(groups(n, least)) >= 0).all(), "neighbours only"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 49), st.integers(0, 9)), min_size=1, max_size=40), st.integers(1, 6))
def test_no_bin_of_probabilities_is_of_too_few_donors(samples, least):
    place, donor = (np.array(column, np.int64) for column in zip(*samples, strict=True))
    merged = merged_places(place, donor, 50, least)
    if len(set(donor.tolist())) >= least:
        assert all(len(set(donor[merged == at].tolist())) >= least for at in np.unique(merged))
    assert (merged[np.argsort(place, kind="stable")] == np.sort(merged)).all(), "order is kept, so ranks only tie"


def test_floors_of_one_change_nothing():
    place = np.array([0, 3, 3, 49])
    assert merged_places(place, np.arange(4), 50, 1).tolist() == place.tolist()
    by_bin = np.random.default_rng(0).integers(0, 9, (3, 10, 3)).astype(float)
    assert np.array_equal(merged_bins(by_bin, 1), by_bin)


@pytest.mark.parametrize(
    ("n_cells", "expected"),
    [
        ([50, 60, 70, 0], ([], False)),
        ([50, 60, 12, 9], ([2, 3], True)),
        ([50, 60, 70, 9], ([0, 3], True)),
        ([50, 60, 9, 0], ([2], False)),
    ],
)
def test_rare_types_are_merged_with_each_other_then_with_the_smallest_other_one(n_cells, expected):
    assert rare_types(np.array(n_cells), Floors()) == expected


TYPES = ("B", "NK", "T", "pDC")
STUDY = Study(name="t", modality="rna", cell_types=TYPES, conditions=("a", "b"), floors=Floors(donors=2, cells=20))


def counted(confusion):
    """Return what a site publishes whose donors have these matrices, all cells in one bin of confidence."""
    reliability = np.zeros((len(confusion), 10, 3))
    hits = np.trace(confusion, axis1=1, axis2=2)
    reliability[:, 8] = np.stack([confusion.sum(axis=(1, 2)), confusion.sum(axis=(1, 2)) * 0.85, hits], axis=1)
    called = np.zeros((len(confusion), 1, 2))
    scores = site_counts.CellScores(confusion=confusion, reliability=reliability, called=called)
    return site_counts.count_cells(scores, STUDY.floors, TYPES)


def test_rare_types_count_in_the_accuracy_and_show_in_no_row():
    rng = np.random.default_rng(1)
    confusion = rng.integers(5, 9, (6, 4, 4)) + 40 * np.eye(4, dtype=int)
    confusion[:, 2:] = 0
    confusion[:, 2, 2], confusion[:, 3, 1] = 2, 2  # 12 cells of T, all right; 12 of pDC, all wrong
    counts, said = counted(confusion)
    assert [reason.partition(":")[0] for reason in said.reasons] == ["T", "pDC"]
    assert counts["cell.merged"] == (24, 12)
    assert sum(counts["cell.confusion"][8:]) == 0
    assert not list(site_counts.faults(counts, STUDY))
    found, _ = swarm_figures.figures({"site-a": counts}, STUDY)
    assert found["accuracy"].value == pytest.approx(np.trace(confusion.sum(axis=0)) / confusion.sum())
    assert found["accuracy"].has_interval
    assert found["expected_calibration_error"].value is not None
    lie = counts | {"cell.merged": (5, 5)}
    assert any("merged cells, where the floor is 20" in fault for fault in site_counts.faults(lie, STUDY))


def merged_and_exact(seed, least, n_sites=3, n_donors=12):
    """Return swarm-wide figures of sites that merge bins, and those of the exact probabilities."""
    rng = np.random.default_rng(seed)
    by_site, every_true, every_p = [], [], []
    for _ in range(n_sites):
        true = np.arange(n_donors) % 2
        p = 1 / (1 + np.exp(-(1.5 * rng.normal(size=n_donors) + 2 * true - 1)))
        scores = np.zeros((2, 2, 50), np.int64)
        for k, of_k in enumerate((1 - p, p)):
            place = np.minimum((of_k * 50).astype(int), 49)
            np.add.at(scores[:, k], (true, merged_places(place, np.arange(n_donors), 50, least)), 1)
        by_site.append(scores)
        every_true.append(true)
        every_p.append(p)
    true, p = np.concatenate(every_true), np.concatenate(every_p)
    confusion = cell.confusion(true, (p > 0.5).astype(int), 2)
    found = pooled_patient.patient_figures(by_site, confusion, np.bincount(true), positive=1, least=least)
    exact = {
        "auroc": oracle.roc_auc_score(true, p),
        "auprc": oracle.average_precision_score(true, p),
        "brier": oracle.brier_score_loss(true, p),
        patient.SENSITIVITY: patient.sensitivity_at(true == 1, p, np.ones((1, len(p)), np.int64), specificity=0.9)[0],
    }
    return found, exact


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), least=st.integers(2, 6))
def test_the_exact_figures_lie_where_the_figures_of_merged_bins_say(seed, least):
    found, exact = merged_and_exact(seed, least)
    for name, value in exact.items():
        low, high = (float(word) for word in re.findall(r"\d\.\d{3}", found[name].note))
        assert low - 5e-4 <= value <= high + 5e-4, name
        assert found[name].low <= found[name].value <= found[name].high


def test_intervals_of_merged_bins_hold_the_exact_figure():
    """Three sites of 12 donors each, bins of at least 5, 100 cohorts: merging hides skill, and they allow it."""
    pairs = [merged_and_exact(seed, 5) for seed in range(100)]
    for name in ("auroc", "auprc", "brier", patient.SENSITIVITY):
        assert np.mean([found[name].contains(exact[name]) for found, exact in pairs]) >= 0.97
    for name in ("auroc", "auprc", patient.SENSITIVITY):
        assert np.mean([found[name].value <= exact[name] for found, exact in pairs]) >= 0.9
    assert not any(found["expected_calibration_error"].has_interval for found, _ in pairs)
