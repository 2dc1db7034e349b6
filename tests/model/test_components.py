import numpy as np
import pytest
from sklearn.decomposition import PCA

from swarmcell.errors import MergeError
from swarmcell.model import components


def samples(n: int, p: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 4)) * [4, 3, 2, 1] @ rng.normal(size=(4, p)) + rng.normal(size=(n, p)) * 0.3
    x -= x.mean(axis=0)
    return np.asarray(x / np.sqrt(x.var(axis=0).sum()))


@pytest.mark.parametrize(("n", "p"), [(40, 12), (12, 60)])
def test_components_are_those_of_scikit_learn_on_pooled_samples(n: int, p: int) -> None:
    x = samples(n, p)
    fixed = components.fixed(x)
    found = components.decompose(components.products(fixed).astype(object), n, p, n_max=6, share=0.95)
    peer = PCA().fit(x)
    q = len(found.variance)
    assert np.cumsum(peer.explained_variance_ratio_)[q - 1] >= 0.95 - 1e-6
    np.testing.assert_allclose(found.variance, peer.explained_variance_[:q] * (n - 1) / n, rtol=1e-5)
    cosines = np.abs((found.vectors / 2.0**components.VECTOR_BITS * peer.components_[:q].T).sum(axis=0))
    np.testing.assert_allclose(cosines, 1, atol=1e-6)  # vectors are multiples of 2**-22
    scores = components.project(fixed, found.vectors)
    np.testing.assert_allclose(np.abs(scores), np.abs(peer.transform(x)[:, :q]), atol=2e-5)


def test_components_are_the_same_bits_for_any_partition_of_the_samples() -> None:
    fixed = components.fixed(samples(30, 15))
    whole = components.decompose(components.products(fixed).astype(object), 30, 15, n_max=5, share=0.9)
    parts = [components.products(part).astype(object) for part in (fixed[20:], fixed[:3], fixed[3:20])]
    apart = components.decompose(sum(parts), 30, 15, n_max=5, share=0.9)
    np.testing.assert_array_equal(whole.vectors, apart.vectors)
    np.testing.assert_array_equal(whole.variance, apart.variance)


def test_samples_that_do_not_differ_have_no_components() -> None:
    with pytest.raises(MergeError, match="do not differ"):
        components.decompose(np.zeros(6, object), 4, 3, n_max=2, share=0.8)
