import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from swarmcell.cells.capping import event_keys, fair_shares, smallest


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=8), st.integers(0, 3000))
def test_shares_fill_the_cap_and_exceed_no_sample(counts: list[int], cap: int) -> None:
    shares = fair_shares(counts, cap)
    assert all(0 <= share <= count for share, count in zip(shares, counts, strict=True))
    assert sum(shares) == (sum(counts) if cap == 0 else min(cap, sum(counts)))
    cut = [share for share, count in zip(shares, counts, strict=True) if share < count]
    assert not cut or max(cut) - min(cut) <= 1
    assert not cut or max(shares) <= max(cut)


@given(st.integers(0, 500), st.integers(0, 600), st.integers(0, 99))
def test_the_smallest_keys_are_chosen_in_the_order_of_events(n_events: int, n: int, seed: int) -> None:
    keys = event_keys(n_events, seed=seed, source="a.fcs")
    chosen = smallest(keys, n)
    assert len(chosen) == min(n, n_events)
    assert (np.diff(chosen) > 0).all()
    left = np.delete(keys, chosen)
    assert not len(left) or not len(chosen) or keys[chosen].max() <= left.min()


def test_keys_depend_on_the_seed_and_the_file_alone() -> None:
    np.testing.assert_array_equal(event_keys(10, seed=1, source="a"), event_keys(10, seed=1, source="a"))
    assert not np.array_equal(event_keys(10, seed=1, source="a"), event_keys(10, seed=2, source="a"))
    assert not np.array_equal(event_keys(10, seed=1, source="a"), event_keys(10, seed=1, source="b"))
