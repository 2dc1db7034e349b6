"""Random labels, predictions and probabilities of held-out rows."""

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def one():
    """Weights of one batch in which each row counts once."""
    return lambda n: np.ones((1, n), dtype=np.int64)
