"""Below the floors of a class nothing of its cells leaves a site; with secure sums the floors hold for all sites."""

from dataclasses import replace

import numpy as np
import pytest
from exact_cells import STUDY, learn, pool, split
from scipy import sparse

from swarmcell.errors import CellsError
from swarmcell.model.class_floors import donors_per_class
from swarmcell.model.exact_rounds import ABSENT
from swarmcell.model.learning import Learner
from swarmcell.model.study import FitRule, Floors, PrivacyRule, Study
from swarmcell.model.training_cells import gather

TYPES = ("B", "NK", "T")
FLOORS = Floors(donors=4, cells=20)
RULES = Study(
    name="floors", modality="rna", cell_types=TYPES, conditions=("control", "disease"), cell=FitRule(rounds_max=9),
    patient=FitRule(rounds_max=9), floors=FLOORS,
)  # fmt: skip


def gathered(adata, floors=FLOORS, study=RULES):
    named = [("site-a.h5ad", adata)]
    return gather(named, cell_types=study.cell_types, conditions=study.conditions, seed=0, floors=floors)


def labelled_apart(adata, rows, label):
    """Return a copy in which these rows have this type."""
    copy = adata.copy()
    kinds = copy.obs["cell_type"].astype(object).to_numpy(copy=True)  # pandas 3 lends a view that cannot be written
    kinds[rows] = label
    copy.obs["cell_type"] = kinds
    return copy


def everything_said(lab, cells):
    """Return all that one site publishes in a study, one contribution per round."""
    return [c.parameters for _, said in lab.rounds([Learner(RULES, cells, threads=1)]) for c in said]


@pytest.mark.parametrize("label", ["NK", None], ids=["a rare type", "cells without a label"])
def test_of_a_class_below_the_floor_nothing_at_all_is_published(lab, make, label):
    adata = make(types=("B", "T"), n_donors=8)
    fit = np.flatnonzero(adata.obs["split"] == "train")[::9][:19]
    rare = labelled_apart(adata, fit, label)
    cells = gathered(rare)
    assert cells.n_cells == int((adata.obs["split"] == "train").sum()) - len(fit)
    assert any("below the floor of a class" in note for note in cells.notes)
    other = rare.copy()
    X = other.X.toarray()
    X[fit] = 7.0  # other people's cells altogether
    other.X = sparse.csr_matrix(X)
    assert everything_said(lab, cells) == everything_said(lab, gathered(other))
    free = gathered(rare, floors=None)
    assert everything_said(lab, free) != everything_said(lab, gathered(other, floors=None)), "so the test can fail"


def test_a_class_at_the_floor_is_published_and_one_donor_is_too_few(make):
    adata = make(types=("B", "T"), n_donors=8)
    train = np.flatnonzero(adata.obs["split"] == "train")
    donors = adata.obs["donor"].to_numpy()
    one = train[donors[train] == donors[train][0]][:25]
    assert "NK: 25 cells of 1 donor(s)" in " ".join(gathered(labelled_apart(adata, one, "NK")).notes)
    assert gathered(adata).notes == ()
    assert gathered(labelled_apart(adata, train[::3], "NK")).n_cells == len(train)


def test_a_condition_of_too_few_donors_stays_out_of_the_patient_tasks_sums_only(lab, make):
    adata = make(n_donors=6, conditions=("control",))
    patient = adata.obs["donor"] == "site-a-d5"
    adata.obs["condition"] = np.where(patient, "disease", "control")
    cells = gathered(adata)
    assert cells.n_cells == int((adata.obs["split"] == "train").sum())
    assert cells.in_sums.sum() == cells.n_samples - 1
    assert "disease: 1 training donor(s), below the floor of a condition (2)" in " ".join(cells.notes)
    assert not (cells.sample_condition == 1).any()


def test_a_site_of_which_nothing_is_above_the_floors_is_refused(make):
    with pytest.raises(CellsError, match=r"no class is above the floors.*train alone"):
        gathered(make(cells_per_donor=3))


def test_half_the_floor_of_donors_rounded_up_makes_a_class():
    assert [donors_per_class(Floors(donors=n)) for n in (1, 2, 3, 4, 5, 10)] == [1, 1, 2, 2, 3, 5]


# -- with secure sums --------------------------------------------------------------------------------------------------


def test_with_secure_sums_the_floor_is_on_all_sites_together():
    X, y = pool()
    n_rare = int((y == 3).sum())
    assert 3 < n_rare < 20
    sites = np.arange(len(y)) % 3
    study = replace(STUDY, privacy=PrivacyRule(secure_aggregation=True), floors=Floors(donors=1, cells=20))
    state = learn(study, split(X, y, sites, study))
    assert state.arrays["cells_by_type"][3] == 0
    assert state.arrays["cell.bias"][3] == ABSENT
    lower = replace(study, floors=Floors(donors=1, cells=n_rare))
    enough = learn(lower, split(X, y, sites, lower))
    assert enough.arrays["cells_by_type"][3] == n_rare
    assert enough.arrays["cell.bias"][3] != ABSENT, "few at each site, enough together"
