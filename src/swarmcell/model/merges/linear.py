"""Linear algebra whose bits are the same on every machine: Cholesky, and leading eigenvectors of symmetric matrices.

Rules: elementwise float64 and folded sums only (`elementwise`); no BLAS or LAPACK. That costs time, so it is for what
peers agree on: 2,000 features take seconds, 5,000 (`LIMIT`) about a minute.
"""

import hashlib
import math

import numpy as np

from swarmcell.errors import MergeError
from swarmcell.model.fixed import Floats
from swarmcell.model.merges.elementwise import dot, norm, totals

LIMIT = 5000  # features; DESIGN: beyond it, subspace iteration
RESIDUAL = 1e-10  # of an eigenvector, relative to the largest eigenvalue; chosen
CHECK_EVERY = 20  # steps of Lanczos
PANEL, TILE = 64, 128  # columns, and rows and columns, of what is worked on at a time; chosen
QL_STEPS = 60  # of one eigenvalue; Press et al. allow 30


def cholesky(matrix: Floats) -> Floats:
    """Return the lower triangular factor of a symmetric positive definite matrix.

    Raises
    ------
    MergeError
        If it is not positive definite.
    """
    left = np.array(matrix, np.float64)
    for first in range(0, len(left), PANEL):
        last = min(first + PANEL, len(left))
        for k in range(first, last):
            if not left[k, k] > 0:
                msg = "the matrix is not positive definite: more features than cells, or equal ones. Give a penalty."
                raise MergeError(msg)
            left[k:, k] /= math.sqrt(left[k, k])
            column = left[k + 1 :, k]
            left[k + 1 :, k + 1 : last] -= column[:, None] * column[: last - k - 1]
        _subtract_panel(left, first, last)
    return np.asarray(np.tril(left))


def _subtract_panel(left: Floats, first: int, last: int) -> None:
    """Subtract a panel's products from what lies below and right of it, tile by tile: a tile stays in the cache."""
    panel = np.ascontiguousarray(left[:, first:last].T)
    for top in range(last, len(left), TILE):
        for side in range(last, top + TILE, TILE):
            rows, columns = slice(top, top + TILE), slice(side, side + TILE)
            tile = left[rows, columns].copy()
            product = np.empty_like(tile)
            for one in panel:
                np.multiply(one[rows, None], one[columns], out=product)
                np.subtract(tile, product, out=tile)
            left[rows, columns] = tile


def solve(matrix: Floats, right: Floats) -> Floats:
    """Return `x` with `matrix @ x = right`, for a symmetric positive definite matrix and columns `right`."""
    lower, x = cholesky(matrix), np.array(right, np.float64)
    for k in range(len(x)):
        x[k] /= lower[k, k]
        x[k + 1 :] -= lower[k + 1 :, k, None] * x[k]
    for k in reversed(range(len(x))):
        x[k] /= lower[k, k]
        x[:k] -= lower[k, :k, None] * x[k]
    return x


def orthonormal(columns: Floats) -> Floats:
    """Return an orthonormal basis of columns by Gram-Schmidt, twice; a column that adds nothing becomes zero."""
    basis = np.array(columns, np.float64)
    for k in range(basis.shape[1]):
        one = without(without(basis[:, k], basis[:, :k]), basis[:, :k])
        length = norm(one)
        basis[:, k] = one / length if length > 1e-12 * norm(columns[:, k]) else 0.0
    return basis


def without(vector: Floats, basis: Floats) -> Floats:
    """Return a vector minus its part in an orthonormal basis, shape `(n, n_basis)`."""
    if not basis.shape[1]:
        return vector
    shares = totals(basis * vector[:, None])
    return vector - totals(np.ascontiguousarray((basis * shares).T))


def leading_eigenvectors(matrix: Floats, k: int) -> tuple[Floats, Floats]:
    """Return the `k` largest eigenvalues, descending, and their unit eigenvectors as rows.

    A vector's largest coordinate is positive. Of an eigenvalue that stands several times, one vector is found.

    Parameters
    ----------
    matrix
        Symmetric, positive semidefinite, shape `(n, n)`, at most `LIMIT` features.
    k
        1 to n.

    References
    ----------
    Golub and Van Loan 2013, Matrix Computations, algorithm 10.1.1, with full reorthogonalisation.
    """
    n = len(matrix)
    if not 1 <= k <= n <= LIMIT:
        msg = f"{k} eigenvectors of {n} features; expected 1 to n of at most {LIMIT}. Use subspace iteration."
        raise MergeError(msg)
    basis = np.zeros((n, min(n, max(4 * k, 4 * CHECK_EVERY))))
    diagonal: list[float] = []
    beside: list[float] = []
    vector = pseudo_random(n, 0)
    for step in range(n):
        if step == basis.shape[1]:
            basis = np.concatenate([basis, np.zeros((n, min(n - step, step)))], axis=1)
        basis[:, step] = vector
        image = totals(matrix * vector[:, None])
        diagonal.append(dot(image, vector))
        image = without(without(image, basis[:, : step + 1]), basis[:, : step + 1])
        length = norm(image)
        largest = max(map(abs, diagonal))
        is_whole = step + 1 == n
        if is_whole or (step + 1 >= k and (step + 1) % CHECK_EVERY == 0):
            values, vectors = tridiagonal_eigen(diagonal, beside)
            if is_whole or np.all(length * np.abs(vectors[-1, :k]) <= RESIDUAL * largest):
                return values[:k], _signed(_combined(basis[:, : step + 1], vectors[:, :k]))
        if length > 1e-13 * largest:
            beside.append(length)
            vector = image / length
        else:  # the space is closed: go on beside it
            beside.append(0.0)
            fresh = pseudo_random(n, step + 1)
            fresh = without(without(fresh, basis[:, : step + 1]), basis[:, : step + 1])
            vector = fresh / norm(fresh)
    raise AssertionError


def tridiagonal_eigen(diagonal: list[float], beside: list[float]) -> tuple[Floats, Floats]:
    """Return all eigenvalues, descending, and eigenvectors as columns, by implicit QL.

    References
    ----------
    Press et al. 2007, Numerical Recipes, section 11.4.
    """
    d, e = list(diagonal), [*beside[: len(diagonal) - 1], 0.0]
    rows = np.eye(len(d))  # eigenvectors as rows: rotations then touch neighbouring memory
    for low in range(len(d)):
        for _ in range(QL_STEPS):
            high = next((m for m in range(low, len(d) - 1) if abs(e[m]) <= 1e-16 * (abs(d[m]) + abs(d[m + 1]))), None)
            high = len(d) - 1 if high is None else high
            if high == low:
                break
            _ql_step(d, e, rows, low, high)
    order = sorted(range(len(d)), key=lambda i: (-d[i], i))
    return np.array([d[i] for i in order]), np.ascontiguousarray(rows[order].T)


def _ql_step(d: list[float], e: list[float], rows: Floats, low: int, high: int) -> None:
    g = (d[low + 1] - d[low]) / (2 * e[low])
    r = math.sqrt(g * g + 1)
    g = d[high] - d[low] + e[low] / (g + (r if g >= 0 else -r))
    s, c, p = 1.0, 1.0, 0.0
    for i in range(high - 1, low - 1, -1):
        f, b = s * e[i], c * e[i]
        r = math.sqrt(f * f + g * g)
        e[i + 1] = r
        if r == 0:
            d[i + 1] -= p
            e[high] = 0.0
            return
        s, c = f / r, g / r
        g = d[i + 1] - p
        r = (d[i] - g) * s + 2 * c * b
        p = s * r
        d[i + 1] = g + p
        g = c * r - b
        upper = rows[i + 1].copy()
        rows[i + 1] = s * rows[i] + c * upper
        rows[i] = c * rows[i] - s * upper
    d[low] -= p
    e[low], e[high] = g, 0.0


def _combined(basis: Floats, weights: Floats) -> Floats:
    """Return unit combinations of basis columns as rows."""
    wide = np.ascontiguousarray(basis.T)
    made = [totals(wide * weights[:, j, None]) for j in range(weights.shape[1])]
    return np.stack([one / norm(one) for one in made])


def _signed(vectors: Floats) -> Floats:
    largest = np.abs(vectors).argmax(axis=1)
    return np.asarray(vectors * np.where(vectors[np.arange(len(vectors)), largest] < 0, -1.0, 1.0)[:, None])


def pseudo_random(n: int, number: int) -> Floats:
    """Return a unit vector of a SHAKE-256 stream."""
    stream = hashlib.shake_256(f"swarmcell/eigen/{number}".encode()).digest(4 * n)
    drawn = np.frombuffer(stream, "<u4").astype(np.float64) / 2.0**32 - 0.5
    return np.asarray(drawn / norm(drawn))
