"""Facts about the merged state: canonical bytes there and back, and nothing else is taken for a state."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcell.errors import MergeError
from swarmcell.model.encoding import Named, encode
from swarmcell.model.state import (
    DONE,
    MergedState,
    Score,
    StageResult,
    digest,
    from_bytes,
    from_header,
    header,
    to_bytes,
)

RESULT = StageResult(rounds=3, best_round=2, sites=2, n_cells=9, n_donors=4, score=Score(n=4, correct=3, nll=5))
STATE = MergedState(
    rules="ab" * 32,
    stage="cell",
    phase="fit",
    round=4,
    best=Score(n=4, correct=3, nll=5),
    results={"features": replace(RESULT, score=None)},
    arrays={"now.weight": np.arange(4, dtype=np.int32), "now.bias": np.zeros(2, np.int32), "mean": np.arange(2)},
)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"format": "1"},
        {"colour": 1},
        {"results": []},
        {"results": {"cell": {"rounds": 1}}},
        {"best": {"n": 1}},
        {"best": {"n": 1, "correct": 1, "nll": 1, "more": 1}},
        {"last": 3},
    ],
    ids=repr,
)
def test_another_header_is_no_state(change):
    with pytest.raises(MergeError, match="merged state"):
        from_bytes(encode(Named(header(STATE) | change, STATE.arrays)))


@pytest.mark.parametrize("key", ["format", "rules", "best", "last", "results", "stage"])
def test_a_header_without_a_key_is_no_state(key):
    fields = header(STATE)
    del fields[key]
    with pytest.raises(MergeError, match="merged state"):
        from_header(fields, STATE.arrays)


def test_bytes_that_are_no_state_are_refused():
    for raw in (b"", b"SCA1", to_bytes(STATE)[:-1], to_bytes(STATE) + b"\0"):
        with pytest.raises(MergeError):
            from_bytes(raw)


counts = st.integers(0, 2**40)
scores = st.builds(Score, n=counts, correct=counts, nll=counts)
results = st.builds(
    StageResult,
    rounds=counts,
    best_round=counts,
    sites=counts,
    n_cells=counts,
    n_donors=counts,
    score=st.none() | scores,
)
states = st.builds(
    MergedState,
    rules=st.text(max_size=5),
    stage=st.text(max_size=5),
    phase=st.text(max_size=5),
    round=counts,
    stage_round=counts,
    bad_rounds=counts,
    best_round=counts,
    best=st.none() | scores,
    last=st.none() | scores,
    results=st.dictionaries(st.text(max_size=5), results, max_size=2),
    failure=st.text(max_size=5),
)


@given(states)
def test_a_state_survives_the_round_trip(state):
    assert from_bytes(to_bytes(state)) == state


def test_arrays_survive_the_round_trip_and_the_digest_is_that_of_the_bytes():
    raw = to_bytes(STATE)
    found = from_bytes(raw)
    assert header(found) == header(STATE)
    for name, array in STATE.arrays.items():
        assert np.array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype
    assert to_bytes(found) == raw
    assert digest(raw) == sha256(raw).hexdigest()


def test_a_group_is_replaced_whole_and_nothing_beside_it():
    changed = STATE.with_group("now", {"weight": np.ones(1, np.int32)})
    assert sorted(changed.arrays) == ["mean", "now.weight"]
    assert sorted(changed.group("now")) == ["weight"]
    assert STATE.group("n") == {}


def test_only_the_end_is_the_end():
    assert not STATE.finished
    assert replace(STATE, stage=DONE).finished


def test_scores_are_compared_as_exact_fractions():
    n = 2**53
    first, second = Score(n=n, correct=0, nll=n), Score(n=n, correct=0, nll=n + 1)
    assert first.loss == second.loss
    assert first.better_than(second)
    assert not second.better_than(first)
    assert not first.better_than(first)


def test_a_score_says_loss_in_nats_and_accuracy_as_a_share():
    score = Score(n=4, correct=3, nll=2 << 24)
    assert (score.loss, score.accuracy) == (0.5, 0.75)
    assert Score(n=0, correct=0, nll=0).accuracy == 0
