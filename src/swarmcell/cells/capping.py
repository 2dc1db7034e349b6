"""A seeded cap of events per donor, shared fairly between the donor's samples.

Rules: every event has one random key that depends on the seed and on its file's name alone, and the smallest keys are
kept: the choice does not depend on the order of files, nor on other donors.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.float64]  # shape (n_events,), uniform in [0, 1)


def event_keys(n_events: int, *, seed: int, source: str) -> Keys:
    """Return one random key per event of a file."""
    digest = hashlib.sha256(source.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")]).random(n_events)


def smallest(keys: Keys, n: int) -> npt.NDArray[np.intp]:
    """Return the positions of the `n` smallest keys, in the order of the events."""
    if n >= len(keys):
        return np.arange(len(keys))
    return np.sort(np.argpartition(keys, n)[:n]) if n else np.empty(0, np.intp)


def fair_shares(counts: Sequence[int], cap: int) -> list[int]:
    """Share a cap between samples as equally as their counts allow.

    Parameters
    ----------
    counts
        Events of each sample.
    cap
        Events in all; 0: no cap.

    Returns
    -------
    list of int
        Each at most its count; their sum is `min(cap, sum(counts))`, or the whole without a cap.
    """
    if cap == 0 or sum(counts) <= cap:
        return list(counts)
    shares = [0] * len(counts)
    left = cap
    by_size = sorted(range(len(counts)), key=lambda place: counts[place])
    for done, place in enumerate(by_size):
        shares[place] = min(counts[place], left // (len(counts) - done))
        left -= shares[place]
    return shares
