"""What is random about strata, drawn from names: the same at every site, for any partition, on any machine.

Rules: numbers that all sites must agree on come from SHA-3's extendable output, by integers alone. A site's own draws
are keyed by the donor or the sample, so that a donor is drawn alike wherever the cells are.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from swarmcell.model.fixed import Floats

_UNIFORMS = 12  # their sum has variance 1 and mean 6: a normal number, up to its far tails
_BYTES = 4


def normals(key: str, n: int) -> Floats:
    """Return `n` nearly normal numbers (mean 0, variance 1) that depend on the key alone, exact multiples of 2**-32."""
    raw = hashlib.shake_256(key.encode()).digest(n * _UNIFORMS * _BYTES)
    parts = np.frombuffer(raw, "<u4").reshape(n, _UNIFORMS).astype(np.int64).sum(axis=1)
    return np.asarray((parts - (_UNIFORMS // 2 << 32)).astype(np.float64) / float(1 << 32))


def is_drawn(key: str, share: float) -> bool:
    """Whether what the key names is among a drawn share."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big") < share * (1 << 56)


def shuffled(key: str, n: int) -> npt.NDArray[np.int64]:
    """Return a permutation of `0 .. n - 1` that depends on the key alone."""
    raw = np.frombuffer(hashlib.shake_256(key.encode()).digest(8 * n), "<u8")
    return np.argsort(raw, kind="stable").astype(np.int64)


def below(key: str, n: int) -> int:
    """Return an integer of `0 .. n - 1` that depends on the key alone; uneven by 2**-128 at most."""
    return int.from_bytes(hashlib.sha512(key.encode()).digest(), "big") % n
