"""A study fitted again on other splits: every donor once, whole donors always, and figures of folds that add up."""

from dataclasses import replace

import pytest

from swarmcell.errors import CellsError, UsageError
from swarmcell.model import released
from swarmcell.model.study import FitRule
from swarmcell.workflows.evaluation.refit import _folds, refit


@pytest.fixture(scope="module")
def small(study_files, make_cells, fit_model, tmp_path_factory):
    """A model file whose study takes two rounds, and a prepared file of four donors."""
    from swarmcell.cells import schema

    folder = tmp_path_factory.mktemp("refit")
    cells = make_cells("site-a", n_donors=4, held_out=2, n_cells=40)
    schema.write_prepared(cells, folder / "a.h5ad")
    model = fit_model(cells)
    rule = FitRule(rounds_max=2, batch_rows=32)
    study = replace(model.study, cell=rule, patient=rule)
    from swarmcell.model.study import rules_digest

    state = replace(model.state, rules=rules_digest(study))
    released.save(released.assemble(state, study, model.panel_ids, {}), folder / "m.safetensors")
    return folder


def test_what_is_neither_donors_nor_a_number_is_refused(small):
    for how in ("cells", "0", "-1"):
        with pytest.raises(UsageError, match="expected 'donors'"):
            refit(small / "m.safetensors", [small / "a.h5ad"], how)
    with pytest.raises(UsageError, match="at most 100"):
        refit(small / "m.safetensors", [small / "a.h5ad"], "101")


def test_two_donors_are_too_few(small, make_cells, tmp_path):
    from swarmcell.cells import schema

    schema.write_prepared(make_cells("site-a", n_donors=2, held_out=1, n_cells=40), tmp_path / "two.h5ad")
    with pytest.raises(CellsError, match="hold 2 donors"):
        refit(small / "m.safetensors", [tmp_path / "two.h5ad"], "donors")


def test_each_donor_is_held_out_once_and_figures_are_the_folds(small):
    told = []
    found = refit(small / "m.safetensors", [small / "a.h5ad"], "donors", tell=told.append)
    assert found.kind == "leave-one-donor-out"
    assert [fold.held_out for fold in found.folds] == [(f"site-a/p{d}",) for d in range(4)]
    assert len(told) == 4
    accuracies = [fold.figures["cell.accuracy"] for fold in found.folds]
    spread = found.spreads["cell.accuracy"]
    assert (spread.lowest, spread.highest, spread.n) == (min(accuracies), max(accuracies), 4)
    assert "patient.auroc" not in found.spreads, "one sample defines no AUROC"
    assert found.auroc is not None
    assert found.auroc.has_interval


def test_random_splits_hold_out_whole_donors_and_differ(small, study_files):
    folds = list(_folds(study_files.files, "6", 0.25, 0))
    assert len(folds) == 6
    assert len(set(folds)) > 1
    for held in folds:
        assert {site for site, _ in held} == {"site-a", "site-b"}
        assert 0 < len(held) < 16
    assert folds == list(_folds(study_files.files, "6", 0.25, 0))
