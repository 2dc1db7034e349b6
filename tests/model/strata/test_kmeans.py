import numpy as np
import pytest
from sklearn.cluster import KMeans

from swarmcell.model.strata import kmeans

ONE = 2.0**24


@pytest.mark.parametrize("k", [2, 3, 5, 6])
def test_from_the_same_start_the_centres_are_scikit_learns(k: int) -> None:
    rng = np.random.default_rng(k)
    x = rng.normal(size=(4, 5))[rng.integers(0, 4, 80)] + rng.normal(size=(80, 5)) * 0.3
    rows = kmeans.rows_of(x, [""] * 80, [""] * 80).coordinates
    start = rows[rng.choice(80, k, replace=False)]
    centres = start[None]
    for _ in range(100):
        parts = [kmeans.sums(part, kmeans.nearest(part, centres), k) for part in np.array_split(rows, 3)]
        total, count = (sum(part[i] for part in parts) for i in (0, 1))
        before, centres = centres, kmeans.moved(centres, total, count)
        if (before == centres).all():
            break
    peer = KMeans(k, init=start / ONE, n_init=1, tol=0, max_iter=100, algorithm="lloyd").fit(rows / ONE)
    np.testing.assert_allclose(centres[0] / ONE, peer.cluster_centers_, atol=1e-6)
    np.testing.assert_array_equal(kmeans.nearest(rows, centres)[0], peer.labels_)
    squares = int((rows.astype(object) ** 2).sum())
    assert float(kmeans.within(squares, total[0], count[0])) / ONE**2 == pytest.approx(peer.inertia_, rel=1e-9)


def test_a_centre_without_a_sample_stays() -> None:
    rows = kmeans.rows_of(np.array([[0.0], [1.0]]), ["a", "b"], ["a", "b"]).coordinates
    centres = np.array([[[0], [1 << 24], [50 << 24]]])
    total, count = kmeans.sums(rows, kmeans.nearest(rows, centres), 3)
    assert count.tolist() == [[1, 1, 0]]
    np.testing.assert_array_equal(kmeans.moved(centres, total, count), centres)
