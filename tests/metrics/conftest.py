"""Random labels, predictions and probabilities of held-out rows."""

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("metrics", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("metrics")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def one():
    """Weights of one batch in which each row counts once."""
    return lambda n: np.ones((1, n), dtype=np.int64)
