"""Facts about a study's rules: one digest for the same rules, also after a journey through JSON."""

import json
from dataclasses import asdict, replace

import pytest

from swarmcell.model.study import FitRule, Floors, Study, from_plain, rules_digest

STUDY = Study(name="x", modality="rna", cell_types=("B", "T"), conditions=("ill", "well"), seed=3)


@pytest.mark.parametrize("change", [{"colour": 1}, {"cell": {"colour": 1}}, {"floors": {"patients": 1}}])
def test_an_unknown_rule_is_refused(change):
    with pytest.raises(TypeError):
        from_plain(asdict(STUDY) | change)


def test_rules_survive_json_with_their_digest():
    found = from_plain(json.loads(json.dumps(asdict(STUDY))))
    assert found == STUDY
    assert rules_digest(found) == rules_digest(STUDY)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "y"},
        {"seed": 4},
        {"cell_types": ("T", "B")},
        {"universe_sha256": "00"},
        {"floors": Floors(donors=4)},
        {"patient": FitRule(l2=0.5)},
    ],
    ids=repr,
)
def test_another_rule_is_another_digest(change):
    assert rules_digest(replace(STUDY, **change)) != rules_digest(STUDY)
