"""Gaussian noise that hides one unit in a site's sums, from a source that nobody can foresee.

Rules: the key of a site's noise is derived (HKDF) from the site's own secret, the state that the sums belong to and
the sums themselves. So a peer that is killed and begins again publishes the very same bytes; and should its cells have
changed meanwhile, the noise is another one, and the difference of both tells nothing. No two rounds share noise, and
none comes from the study's public seed. Who holds the site's identity file can compute it: it is as secret as that.

The key stream is ChaCha20; 63 bits and a sign become a normal value by the inverse of its distribution. Sums are whole
numbers, so adding a rounded value is the same as rounding the sum with the exact one: rounding costs no privacy.

References
----------
Dwork and Roth 2014, doi 10.1561/0400000042, appendix A. Mironov 2012, doi 10.1145/2382196.2382264 (why a grid).
"""

import secrets
import threading
from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from scipy.special import ndtri

from swarmcell.model.contribution import Contribution, MergeOutcome
from swarmcell.model.encoding import Array, Named, encode
from swarmcell.model.fixed import Floats
from swarmcell.model.learning import Learner
from swarmcell.privacy.masks import key_stream

_DOMAIN = b"swarmcell/noise/v1/"


class Noise:
    """A site's noise of one round.

    Parameters
    ----------
    secret
        32 bytes that nobody else knows.
    salt
        What the round is: the digest of the state that it follows.
    share
        This site's part of the whole variance.
    """

    def __init__(self, secret: bytes, salt: bytes, *, share: float = 1.0) -> None:
        self._secret, self._salt, self._share = secret, salt, share

    def added(self, arrays: Mapping[str, Array], deviation: float) -> dict[str, Array]:
        """Return integer arrays with this site's share of noise, whose whole has that standard deviation."""
        what = sha256(encode(Named({}, arrays))).digest()
        n = sum(array.size for array in arrays.values())
        values = normal(_key(self._secret, self._salt, b"sum/" + what), n) * (deviation * self._share**0.5)
        whole, found, start = np.rint(values).astype(np.int64), {}, 0
        for name in sorted(arrays):
            stop = start + arrays[name].size
            found[name] = arrays[name].astype(np.int64) + whole[start:stop].reshape(arrays[name].shape)
            start = stop
        return found

    def coins(self, n: int) -> Floats:
        """Return secret uniform numbers in `(0, 1)`, shape `(n,)`."""
        words = key_stream(_key(self._secret, self._salt, b"coins"), n)
        return np.asarray((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(key: bytes, n: int) -> Floats:
    """Return `n` values of the standard normal distribution from the key stream of a key."""
    words = key_stream(key, n)
    tail = ((words >> np.uint64(1)).astype(np.float64) + 0.5) * 2.0**-64  # in (0, 1/2): tails as fine as the middle
    return np.asarray(np.where(words & np.uint64(1), 1.0, -1.0) * -ndtri(tail))


def _key(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, _DOMAIN + purpose).derive(secret)


def alone(study: Learner, secret: bytes | None = None) -> "Learner | Noised":
    """Return a study of one site alone; under differential privacy with noise.

    Parameters
    ----------
    secret
        32 bytes, where the same model is wanted again and never given away; `None`: random ones, which are forgotten.
    """
    if study.study.privacy.differential_privacy is None:
        return study
    return Noised(study, secret or secrets.token_bytes(32))


class Noised:
    """A study each of whose sites adds the whole noise by itself: differential privacy without secure aggregation.

    Parameters
    ----------
    study
        What is learnt.
    secret
        32 bytes that nobody else knows; `None` for one who only merges.
    """

    def __init__(self, study: Learner, secret: bytes | None) -> None:
        self._study, self._secret = study, secret

    def start(self) -> bytes:
        """Return the merged state before round 1, equal at every peer."""
        return self._study.start()

    def contribute(self, state: bytes, stop: threading.Event) -> Contribution | None:
        """Return this site's noised part of the round after `state`; `None` if `stop` was set meanwhile."""
        assert self._secret is not None, "who only merges does not contribute"  # noqa: S101 (our own bug)
        return self._study.contribute(state, stop, noise=Noise(self._secret, sha256(state).digest()))

    def merge(self, state: bytes, contributions: Sequence[Contribution]) -> MergeOutcome:
        """Merge contributions, in any order, into the next state. Pure."""
        return self._study.merge(state, contributions)

    def describe(self, state: bytes) -> dict[str, str | int]:
        """Say what `state` is."""
        return self._study.describe(state)
