"""A site is told before it joins when a few donors differ from an earlier study, and when budgets add up."""

import json
import stat
from dataclasses import replace

import pytest

from swarmcell.model.study import NOISED, DifferentialPrivacy, FitRule, Floors, PrivacyRule, Study
from swarmcell.model.training_cells import gather
from swarmcell.workflows import earlier_studies

FIRST, SECOND, ME, ANEW = "ab" * 32, "cd" * 32, "ef" * 32, "12" * 32
STUDY = Study(name="first", modality="rna", cell_types=("B", "NK", "T"), floors=Floors(donors=3, cells=20))
NEXT = replace(STUDY, name="second")


@pytest.fixture(autouse=True)
def own_notes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def cells(make_cells):
    """Return a function: the training cells of a site of nine donors, without some, or with some cells dropped."""
    whole = make_cells("site-a", n_donors=9, held_out=0, n_cells=20)

    def of(*, without=(), dropped=()):
        kept = ~whole.obs["donor"].isin(without).to_numpy()
        kept[list(dropped)] = False
        return gather([("site-a", whole[kept].copy())], cell_types=STUDY.cell_types, conditions=(), seed=0)

    return of


@pytest.mark.parametrize(
    ("change", "n"), [({"without": ["p3"]}, 1), ({"without": ["p3", "p5"]}, 2), ({"dropped": [25]}, 1)]
)
def test_few_donors_more_or_less_than_in_an_earlier_study_are_said(cells, change, n):
    earlier_studies.note(STUDY, FIRST, ME, cells())
    (said,) = earlier_studies.said(NEXT, SECOND, cells(**change))
    assert said.startswith(f"{n} training donor(s) differ from those of study 'first'")
    assert "fewer than the floor of 3" in said
    secure = replace(NEXT, privacy=PrivacyRule(secure_aggregation=True))
    assert "where the other sites' donors are the same" in earlier_studies.said(secure, SECOND, cells(**change))[0]


def test_the_same_donors_many_others_and_other_people_are_no_news(cells, make_cells):
    earlier_studies.note(STUDY, FIRST, ME, cells())
    assert earlier_studies.said(NEXT, SECOND, cells()) == []
    assert earlier_studies.said(NEXT, SECOND, cells(without=["p1", "p3", "p5"])) == []
    other = gather([("b", make_cells("site-b", n_donors=9))], cell_types=STUDY.cell_types, conditions=(), seed=0)
    assert earlier_studies.said(NEXT, SECOND, other) == []


def test_a_donor_withdrawn_while_the_same_swarm_trains_is_said_too(cells):
    earlier_studies.note(STUDY, FIRST, ME, cells())
    assert len(earlier_studies.said(STUDY, FIRST, cells(without=["p3"]))) == 1
    earlier_studies.note(STUDY, FIRST, ME, cells(without=["p3"]))
    earlier_studies.note(STUDY, FIRST, ME, cells())
    (path,) = (earlier_studies.identity_folder().parent / "studies").iterdir()
    assert len(json.loads(path.read_text())) == 2, "what was kept stays, and nothing is kept twice"


def private(epsilon):
    rule = DifferentialPrivacy(unit="donor", epsilon=epsilon, noise_multiplier=20.0, statistics_multiplier=20.0)
    fit = FitRule(merge=NOISED, rounds_max=3)
    stages = ("features", "cell")
    return replace(STUDY, stages=stages, cell=fit, privacy=PrivacyRule(differential_privacy=rule))


def test_budgets_of_several_swarms_on_the_same_donors_add_up_whatever_became_of_the_run(cells):
    study = private(8.0)
    assert earlier_studies.said(study, FIRST, cells()) == []
    earlier_studies.note(study, FIRST, ME, cells())
    assert earlier_studies.said(study, FIRST, cells()) == [], "to go on with a run spends nothing anew"
    (alone,) = [row["epsilon"] for row in kept_rows()]
    (said,) = earlier_studies.said(study, ANEW, cells(without=["p1"], dropped=range(9 * 20 - 1, 0, -20)))
    assert "1 earlier study(ies) under differential privacy ('first' of " in said
    assert f"at most epsilon = {2 * alone:.2f} at delta = 2e-05" in said
    earlier_studies.note(STUDY, SECOND, ME, cells())
    assert "without noise" in earlier_studies.said(study, ANEW, cells())[1]


def kept_rows():
    folder = earlier_studies.identity_folder().parent / "studies"
    return [row for path in folder.iterdir() for row in json.loads(path.read_text())]


def test_notes_name_no_donor_are_for_this_user_only_and_a_broken_one_is_said(cells):
    earlier_studies.note(STUDY, FIRST, ME, cells())
    (path,) = (earlier_studies.identity_folder().parent / "studies").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "p3" not in path.read_text()
    path.write_text("{")
    (said,) = earlier_studies.said(NEXT, SECOND, cells())
    assert "cannot be read" in said
