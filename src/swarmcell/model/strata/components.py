"""Principal components of samples from exact sums of products: the space in which strata are looked for.

Rules: the sums are integers; the eigenvectors follow by orthogonal iteration in exact integer products and float64
`+ - x / sqrt` with `math.fsum`, so that all sites get the same bits.

References
----------
Golub, Van Loan 2013, Matrix Computations, section 8.2 (orthogonal iteration), 8.5 (Jacobi's method).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swarmcell.errors import MergeError
from swarmcell.model.fixed import Floats, Integers
from swarmcell.model.strata.draws import normals

PRODUCT_BITS = 20  # of scaled features
FEATURE_MAX = 32.0  # in units of a block's standard deviation; beyond it a value is cut
ROWS_MAX = 4096  # samples of one site: 2**25 x 2**25 x 2**12 stays in 64 bits
WIDTH_MAX = 1000  # features: 2**30 x 2**21 x 2**10 stays in 64 bits
VECTOR_BITS = 30
_OVERSAMPLED = 5
_ITERATIONS_MAX = 300
_CONVERGED = 1e-12
_SWEEPS_MAX = 30


@dataclass(frozen=True)
class Components:
    """Directions and variances of the samples' space.

    Attributes
    ----------
    vectors
        Fixed point 2**-30, shape `(n_features, n_components)`.
    variance
        Of the samples along each, float64, shape `(n_components,)`, descending.
    total
        Variance in all directions.
    """

    vectors: Integers
    variance: Floats
    total: float


def fixed(scaled: Floats) -> Integers:
    """Return scaled features as integers, shape `(n_samples, n_features)`."""
    return np.rint(np.clip(scaled, -FEATURE_MAX, FEATURE_MAX) * (1 << PRODUCT_BITS)).astype(np.int64)


def products(scaled: Integers) -> Integers:
    """Return the upper triangle of the sums of products, row by row, shape `(n_features * (n_features + 1) / 2,)`."""
    whole = scaled.T @ scaled
    return np.ascontiguousarray(whole[np.triu_indices(len(whole))])


def n_products(n_features: int) -> int:
    """Return the length of the triangle of `n_features`."""
    return n_features * (n_features + 1) // 2


def decompose(
    triangle: npt.NDArray[np.object_], n_samples: int, n_features: int, *, n_max: int, share: float
) -> Components:
    """Return the leading components: as few as hold `share` of the variance, at least one, at most `n_max`.

    Parameters
    ----------
    triangle
        Sums over all sites, Python integers in an object array.
    n_samples
        Samples summed, > 1.

    Raises
    ------
    MergeError
        If the samples do not vary at all.
    """
    matrix = np.zeros((n_features, n_features))
    matrix[np.triu_indices(n_features)] = triangle.astype(np.float64)
    matrix = matrix + np.triu(matrix, 1).T
    top = float(np.abs(matrix).max())
    if top == 0:
        msg = "the samples do not differ in any feature"
        raise MergeError(msg)
    unit = math.ldexp(1.0, -2 * PRODUCT_BITS) / n_samples
    values, vectors = _leading(matrix / top, min(n_features, n_max + _OVERSAMPLED))
    variance = [max(value, 0.0) * top * unit for value in values]
    total = math.fsum(np.diag(matrix).tolist()) * unit
    n = min(n_max, n_samples - 1, sum(value > total * 1e-9 for value in variance))
    held = [math.fsum(variance[: i + 1]) >= share * total for i in range(n)]
    n = max(1, held.index(True) + 1 if True in held else n)
    whole = np.rint(vectors[:, :n] * (1 << VECTOR_BITS)).astype(np.int64)
    return Components(whole, np.array(variance[:n]), total)


def project(scaled: Integers, vectors: Integers) -> Floats:
    """Return the samples' coordinates, shape `(n_samples, n_components)`: one sample's do not depend on the others."""
    rows = scaled.astype(np.float64) * math.ldexp(1.0, -PRODUCT_BITS)
    directions = vectors.astype(np.float64) * math.ldexp(1.0, -VECTOR_BITS)
    found = np.zeros((len(rows), directions.shape[1]))
    for feature in range(rows.shape[1]):  # elementwise, for the same bits in any company
        found += rows[:, feature, None] * directions[feature]
    return found


def _leading(matrix: Floats, n: int) -> tuple[list[float], Floats]:
    """Return the `n` largest eigenvalues and their eigenvectors of a symmetric matrix whose entries are within +-1."""
    exact = np.rint(matrix * (1 << 30)).astype(np.int64)
    basis = _orthonormal(normals("components", len(matrix) * n).reshape(len(matrix), n))
    values: list[float] = []
    for _ in range(_ITERATIONS_MAX):
        image = _times(exact, basis)
        small = np.array([[_dot(basis[:, i], image[:, j]) for j in range(n)] for i in range(n)])
        before = values
        values, turn = _jacobi((small + small.T) / 2)
        if before and _moved(values, before, n - _OVERSAMPLED) <= _CONVERGED * max(values[0], 1e-12):
            break
        basis = _orthonormal(_combined(image, turn))
    return values, _signed(_combined(basis, turn))


def _moved(values: list[float], before: list[float], n_wanted: int) -> float:
    """Return how far the wanted eigenvalues have moved; those that only help the others converge do not count."""
    return max(abs(a - b) for a, b in zip(values[: max(n_wanted, 1)], before, strict=False))


def _times(exact: Integers, basis: Floats) -> Floats:
    high = np.rint(basis * (1 << 21)).astype(np.int64)
    low = np.rint((basis - high * math.ldexp(1.0, -21)) * math.ldexp(1.0, 42)).astype(np.int64)
    scale = math.ldexp(1.0, -51)
    return np.asarray((exact @ high) * scale + (exact @ low) * (scale * math.ldexp(1.0, -21)))


def _dot(a: Floats, b: Floats) -> float:
    return math.fsum((a * b).tolist())


def _combined(columns: Floats, turn: Floats) -> Floats:
    found = np.zeros((len(columns), turn.shape[1]))
    for i in range(columns.shape[1]):
        found += columns[:, i, None] * turn[i]
    return found


def _orthonormal(columns: Floats) -> Floats:
    """Return an orthonormal basis by Gram and Schmidt, twice; a direction that vanishes becomes zero."""
    basis = columns.copy()
    for i in range(basis.shape[1]):
        for _ in range(2):
            for j in range(i):
                basis[:, i] -= _dot(basis[:, j], basis[:, i]) * basis[:, j]
        length = math.sqrt(_dot(basis[:, i], basis[:, i]))
        basis[:, i] = basis[:, i] / length if length > 1e-14 else 0.0
    return basis


def _jacobi(matrix: Floats) -> tuple[list[float], Floats]:
    """Return eigenvalues, descending, and eigenvectors (columns) of a small symmetric matrix."""
    n = len(matrix)
    a, turn = matrix.copy(), np.eye(n)
    for _ in range(_SWEEPS_MAX):
        off = math.fsum(a[i, j] * a[i, j] for i in range(n) for j in range(i))
        if off <= 1e-30:
            break
        for i in range(n - 1):
            for j in range(i + 1, n):
                _rotate(a, turn, i, j)
    order = sorted(range(n), key=lambda i: (-float(a[i, i]), i))
    return [float(a[i, i]) for i in order], turn[:, order]


def _rotate(a: Floats, turn: Floats, i: int, j: int) -> None:
    if abs(a[i, j]) < 1e-300:
        return
    theta = (a[j, j] - a[i, i]) / (2 * a[i, j])
    t = (1.0 if theta >= 0 else -1.0) / (abs(theta) + math.sqrt(theta * theta + 1))
    c = 1 / math.sqrt(t * t + 1)
    s = t * c
    for side in (a.T, a):
        left, right = side[i].copy(), side[j].copy()
        side[i], side[j] = c * left - s * right, s * left + c * right
    left, right = turn[:, i].copy(), turn[:, j].copy()
    turn[:, i], turn[:, j] = c * left - s * right, s * left + c * right


def _signed(vectors: Floats) -> Floats:
    """Make the largest entry of each vector positive."""
    largest = np.abs(vectors).argmax(axis=0)
    flip = np.where(vectors[largest, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)
    return np.asarray(vectors * flip)
