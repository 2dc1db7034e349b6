"""Secure aggregation: every peer computes the sum of what sites contribute, and nobody learns one site's part.

Rules: a study that learns from sums (`exact-sum`, weighted averages, all statistics) is wrapped, and knows nothing of
it. A sum takes rounds of the log, each an ordinary block, so participants and survivors are final before anybody acts
on them:

======== ============================================= ==========================================================
phase    a site says                                   the block fixes
======== ============================================= ==========================================================
keys     two public keys                               who may deal
shares   its seeds in sealed shares, a commitment      who masks: the dealers
masked   its masked vector; keys for the next sum      who stays: those whose vector is in, and their masked sum
reveal   shares of own seeds of who stays, of pair     the sum, and with it the study's next state
         seeds of who left; shares for the next sum
======== ============================================= ==========================================================

Keys and shares of the next sum travel with the present one, so a study costs two rounds per sum. A site reveals one
kind of share per dealer, by the block of the masked round. Too few sites in any phase: all begins anew with fresh keys.
No round but that of `reveal` closes with fewer than three sites: the block says so (`sites_needed`, to the swarm's
core), so a swarm of three waits for one that is away, and does not begin anew in vain.

What it hides: one site's vector from fewer than `threshold` colluding members. What it does not: the sum, who takes
part, the numbers of cells and donors. A lying site can spoil a sum; only the sum's bounds are checked.

References
----------
Bonawitz et al. 2017, CCS, doi 10.1145/3133956.3133982.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from swarmcell.errors import ModelError
from swarmcell.model.contribution import Contribution, Kind, MergeOutcome, Slot
from swarmcell.model.encoding import Array, Named, decode, encode
from swarmcell.privacy import masks, shares
from swarmcell.privacy.masks import RoundKeys
from swarmcell.privacy.noise import Noise
from swarmcell.privacy.secure_parts import Part, flat, said, screen
from swarmcell.privacy.secure_state import SHARE_WORDS, SecureState, Session, from_bytes, salt_of, to_bytes

SITES_MIN = 3  # with two, each knows the other's part from the sum
SITES_MAX = 100  # shares grow with the square; a state of 100 sites holds 720 KB of them
ATTEMPTS_MAX = 100
FIGURES = ("n", "correct", "nll")


class Summing(Protocol):
    """A study whose merge reads nothing but sums over sites (`model.learning.Learner`, `model.strata`)."""

    def start(self) -> bytes:
        """Return the merged state before round 1."""
        ...

    def contribute(self, state: bytes, stop: threading.Event) -> Contribution | None:
        """Return this site's part; `None` if `stop` was set meanwhile."""
        ...

    def merge(self, state: bytes, contributions: Sequence[Contribution]) -> MergeOutcome:
        """Merge contributions into the next state."""
        ...

    def describe(self, state: bytes) -> dict[str, str | int]:
        """Say what `state` is."""
        ...

    def slots(self, state: bytes) -> Mapping[str, Slot]:
        """Return what a contribution to the round after `state` holds."""
        ...

    def envelope(self, state: bytes, *, weight: int) -> tuple[Kind, dict[str, Any]]:
        """Return kind and header of a contribution to the round after `state`."""
        ...

    def failed(self, state: bytes, text: str) -> bytes:
        """Return the state of a study that cannot go on after `state`."""
        ...


class Noisy(Protocol):
    """A study under differential privacy, whose part of a sum is made with a share of noise."""

    def contribute(self, state: bytes, stop: threading.Event, *, noise: Noise) -> Contribution | None:
        """Return this site's part with that noise; `None` if `stop` was set meanwhile."""
        ...


class SecureSum:
    """A study whose sites' parts stay secret.

    Parameters
    ----------
    study
        What is learnt.
    n_cells, n_donors
        Of this site.
    me
        This site's label, as contributions carry it.
    secret
        32 bytes that nobody else knows; keys of every round are derived from it. `None` for one who only merges.
    f
        Lying members that the swarm tolerates.
    noised
        The study again, where it is under differential privacy: sites add shares of noise, and no sum is taken twice.
    """

    def __init__(
        self,
        study: Summing,
        *,
        n_cells: int = 0,
        n_donors: int = 0,
        me: str = "",
        secret: bytes | None = None,
        f: int,
        noised: Noisy | None = None,
    ) -> None:
        self._study, self._me, self._secret, self._f, self._noised = study, me, secret, f, noised
        self._own = Part(author=me, n_cells=n_cells, n_donors=n_donors)
        self._answered: dict[bytes, tuple[int, ...]] = {}

    def start(self) -> bytes:
        """Return the merged state before round 1, equal at every peer."""
        return self._study.start()

    def describe(self, state: bytes) -> dict[str, str | int]:
        """Say what `state` is: the study's own description, where its next sum stands, and how many sites that needs.

        To be revealed it needs no more than a quorum, which holds the shares, whoever has left since.
        """
        now = from_bytes(state)
        facts: dict[str, str | int] = dict(self._study.describe(now.inner))
        facts |= {} if now.phase == "reveal" else {"sites_needed": SITES_MIN}
        return facts if state is now.inner else facts | {"secure_sum": now.phase, "secure_attempt": now.attempt}

    # -- this site's part ------------------------------------------------------------------------------------------

    def contribute(self, state: bytes, stop: threading.Event) -> Contribution | None:
        """Return this site's part of the round after `state`; `None` if `stop` was set meanwhile.

        Raises
        ------
        ModelError
            If both kinds of shares of one sum are asked for, or what the study raises.
        """
        now, salt = from_bytes(state), salt_of(state)
        part: dict[str, object] = {}
        if now.phase in {"keys", "masked"}:
            part["keys"] = b"".join(self._keys(salt).public)
        if now.phase in {"shares", "reveal"} and now.coming is not None and self._me in now.coming.sites:
            part |= self._dealt(now.coming)
        if now.phase == "reveal" and now.current is not None and self._me in now.current.sites:
            part["revealed"] = self._revealed(now.current, now.staying)
        if now.phase == "masked" and now.current is not None and self._place(now.current) in now.current.dealers:
            masked = self._masked(now, now.current, stop)
            if masked is None:
                return None
            part["masked"] = masked
        own = vars(self._own) | part
        return said(Part(**own), now, salt)

    def _keys(self, salt: bytes) -> RoundKeys:
        assert self._secret is not None, "who only merges does not contribute"  # noqa: S101 (our own bug)
        return masks.round_keys(self._secret, salt)

    def _place(self, session: Session) -> int:
        return session.sites.index(self._me) if self._me in session.sites else -1

    def _dealt(self, session: Session) -> dict[str, object]:
        keys, n_sites = self._keys(session.salt), len(session.sites)
        enough = self._threshold(n_sites)
        pair, own = (shares.split(seed, enough, n_sites) for seed in (keys.pair_seed, keys.own_seed))
        rows = [shares.seal(pair[i], own[i], keys.share_key, session.share_key(i)) for i in range(n_sites)]
        sealed = np.frombuffer(b"".join(rows), "<i8").reshape(n_sites, SHARE_WORDS).astype(np.int64)
        return {"shares": sealed, "commitment": masks.commitment(keys.own_seed)}

    def _masked(self, now: SecureState, session: Session, stop: threading.Event) -> Array | None:
        made = self._part(now.inner, session, stop)
        if made is None:
            return None
        keys, mine = self._keys(session.salt), self._place(session)
        named = decode(made.parameters)
        vector = flat(
            named.arrays, [int(named.header.get("weight", 0)), *(made.figures.get(name, 0) for name in FIGURES)]
        )
        others = [i for i in session.dealers if i != mine]
        pairs = (masks.pair_mask(keys.pair_seed, session.pair_key(i), len(vector), is_first=mine < i) for i in others)
        masked = masks.total([vector.view(np.uint64), masks.own_mask(keys.own_seed, len(vector)), *pairs], len(vector))
        return masked.view(np.int64)

    def _part(self, inner: bytes, session: Session, stop: threading.Event) -> Contribution | None:
        """Return the study's part; under differential privacy with a share of noise.

        The shares are so large that those who stay add all of it, even if the readers take away their own.
        """
        if self._noised is None:
            return self._study.contribute(inner, stop)
        assert self._secret is not None, "who only merges does not contribute"  # noqa: S101 (our own bug)
        noise = Noise(self._secret, session.salt, share=1 / self.honest_min(len(session.sites)))
        return self._noised.contribute(inner, stop, noise=noise)

    def honest_min(self, n_sites: int) -> int:
        """Return how many sites, of those whose sum is revealed, add noise that a reader does not know, at least."""
        return max(SITES_MIN, self._threshold(n_sites)) - max(1, self._f)

    def _revealed(self, session: Session, staying: tuple[int, ...]) -> Array:
        if self._answered.setdefault(session.salt, staying) != staying:  # no two final blocks say so: a second guard
            msg = "asked for both kinds of shares of one sum, which would lay a site's part bare; nothing is revealed."
            raise ModelError(msg)
        keys, mine = self._keys(session.salt), self._place(session)
        found = np.zeros((len(session.sites), 2), np.int64)
        for dealer in session.dealers:
            opened = shares.open_sealed(session.sealed(dealer, mine), keys.share_key, session.share_key(dealer))
            if opened is not None:
                found[dealer] = np.frombuffer(opened[1] if dealer in staying else opened[0], "<i8")
        return found

    # -- everybody's merge -----------------------------------------------------------------------------------------

    def merge(self, state: bytes, contributions: Sequence[Contribution]) -> MergeOutcome:
        """Merge contributions, in any order, into the next state. Pure."""
        now = from_bytes(state)
        slots = self._study.slots(now.inner)
        n_values = sum(int(np.prod(slot.shape)) for slot in slots.values()) + 1 + len(FIGURES)
        parts, left_out = screen(now, salt_of(state), n_values, contributions)
        merged = self._advanced(now, slots, parts, salt_of(state))
        if isinstance(merged, MergeOutcome):
            return MergeOutcome(**vars(merged) | {"left_out": left_out})
        if merged.attempt > ATTEMPTS_MAX:
            return self._failed(merged)
        return MergeOutcome(state=to_bytes(merged), left_out=left_out)

    def _threshold(self, n_sites: int) -> int:
        """Return how many shares give a seed back: a quorum, so that more than `f` honest sites must take part."""
        return (n_sites + self._f) // 2 + 1

    def _advanced(
        self, now: SecureState, slots: Mapping[str, Slot], parts: Sequence[Part], salt: bytes
    ) -> SecureState | MergeOutcome:
        match now.phase:
            case "keys":
                session = _announced(parts, salt)
                return now.again() if session is None else now.with_(phase="shares", coming=session)
            case "shares":
                dealt = self._dealers(now.coming, parts)
                return now.again() if dealt is None else now.with_(phase="masked", current=dealt, coming=None)
            case "masked":
                return self._summed(now, parts, salt)
            case _:
                return self._unmasked(now, slots, parts)

    def _dealers(self, session: Session | None, parts: Sequence[Part]) -> Session | None:
        """Return the session with the shares that were dealt; `None` if too few dealt any."""
        dealt = {p.author: (p.shares, p.commitment) for p in parts if p.shares is not None}
        if session is None or len(dealt) < max(SITES_MIN, self._threshold(len(session.sites))):
            return None
        n_sites = len(session.sites)
        table = np.zeros((n_sites, n_sites, SHARE_WORDS), np.int64)
        commitments = bytearray(32 * n_sites)
        places = tuple(i for i, site in enumerate(session.sites) if site in dealt)
        for i in places:
            table[i], commitments[32 * i : 32 * i + 32] = dealt[session.sites[i]]
        about = vars(session) | {"dealers": places, "commitments": bytes(commitments), "shares": table}
        return Session(**about)

    def _summed(self, now: SecureState, parts: Sequence[Part], salt: bytes) -> SecureState:
        """Return the state with the masked sum of who stays."""
        session = now.current
        staying = [part for part in parts if part.masked is not None]
        if session is None or len(staying) < max(SITES_MIN, self._threshold(len(session.sites))):
            return now.again()
        vectors = [part.masked.view(np.uint64) for part in staying if part.masked is not None]
        return now.with_(
            phase="reveal",
            coming=_announced(parts, salt),
            staying=tuple(sorted(session.sites.index(part.author) for part in staying)),
            facts={"n_cells": sum(p.n_cells for p in staying), "n_donors": sum(p.n_donors for p in staying)},
            masked=masks.total(vectors, len(vectors[0])).view(np.int64),
        )

    def _unmasked(
        self, now: SecureState, slots: Mapping[str, Slot], parts: Sequence[Part]
    ) -> SecureState | MergeOutcome:
        session = now.current
        if session is None:
            return now.again()
        seeds, lost = self._seeds(now, session, parts)
        if lost:
            return self._lost(now.with_(excluded=tuple(sorted({*now.excluded, *lost}))))
        if len(seeds) < len(session.dealers):
            return self._lost(now)
        summed = self._summed_contribution(now, session, slots, _total(now, session, seeds))
        merged = self._study.merge(now.inner, [summed])
        if merged.left_out:  # the sum is out of bounds: somebody lied, and nobody can say who
            return self._lost(now)
        if merged.finished or merged.failure:
            return merged
        after = SecureState(phase="keys", inner=merged.state, excluded=now.excluded)
        dealt = self._dealers(now.coming, parts)
        return after if dealt is None else after.with_(phase="masked", current=dealt)

    def _lost(self, now: SecureState) -> SecureState | MergeOutcome:
        """Return the state after shares were revealed and no sum came of it.

        A sum of noised parts may have been seen by somebody, so it counts as spent: it is not taken again.
        """
        if self._noised is None:
            return now.again()
        merged = self._study.merge(now.inner, [])
        if merged.finished or merged.failure:
            return merged
        return SecureState(phase="keys", inner=merged.state, excluded=now.excluded)

    def _seeds(
        self, now: SecureState, session: Session, parts: Sequence[Part]
    ) -> tuple[dict[int, bytes], tuple[str, ...]]:
        """Return the seeds that shares gave back, by dealer; and the dealers whose shares are false for certain."""
        told = {session.sites.index(p.author): p.revealed for p in parts if p.revealed is not None}
        enough = self._threshold(len(session.sites))
        seeds: dict[int, bytes] = {}
        lost: list[str] = []
        for dealer in session.dealers:
            held = {i: table[dealer].astype("<i8").tobytes() for i, table in told.items() if table[dealer].any()}
            seed = shares.combine(held, enough, _proof(session, dealer, stays=dealer in now.staying))
            if seed is not None:
                seeds[dealer] = seed
            elif len(told) >= enough + self._f:  # so many that enough honest ones are among them
                lost.append(session.sites[dealer])
        return seeds, tuple(lost)

    def _failed(self, now: SecureState) -> MergeOutcome:
        text = (
            f"secure aggregation began {ATTEMPTS_MAX} times and never came to a sum: at least {SITES_MIN} sites and a "
            "quorum must stay through four rounds. Begin again when all are up."
        )
        return MergeOutcome(state=self._study.failed(now.inner, text), finished=True, failure=text)

    def _summed_contribution(
        self, now: SecureState, session: Session, slots: Mapping[str, Slot], total: Array
    ) -> Contribution:
        """Return the sum as the one contribution that the study merges, in the names of all who stayed."""
        arrays: dict[str, Array] = {}
        start = 0
        for name in sorted(slots):
            shape = slots[name].shape
            stop = start + int(np.prod(shape))
            arrays[name] = total[start:stop].reshape(shape)
            start = stop
        weight, *figures = (int(value) for value in total[start:])
        kind, header = self._study.envelope(now.inner, weight=weight)
        return Contribution(
            kind=kind,
            parameters=encode(Named(header, arrays)),
            n_cells=now.facts["n_cells"],
            n_donors=now.facts["n_donors"],
            figures=dict(zip(FIGURES, figures, strict=True)) if kind == "update" else {},
            author=" ".join(session.sites[i] for i in now.staying),
        )


def _announced(parts: Sequence[Part], salt: bytes) -> Session | None:
    """Return a session of the sites that announced keys; `None` if they are too few."""
    fit = [part for part in parts if part.keys][:SITES_MAX]
    if len(fit) < SITES_MIN:
        return None
    return Session(salt=salt, sites=tuple(part.author for part in fit), keys=b"".join(part.keys for part in fit))


def _proof(session: Session, dealer: int, *, stays: bool) -> "_Proof":
    return _Proof(session.commitment(dealer) if stays else session.pair_key(dealer), stays=stays)


class _Proof:
    """Says whether a seed is the one that its dealer published something of."""

    def __init__(self, published: bytes, *, stays: bool) -> None:
        self._published, self._stays = published, stays

    def __call__(self, seed: bytes) -> bool:
        made = masks.commitment(seed) if self._stays else masks.public_of_seed(seed)
        return made == self._published


def _total(now: SecureState, session: Session, seeds: Mapping[int, bytes]) -> Array:
    """Return the sum without its masks."""
    n = len(now.masked)
    found = now.masked.view(np.uint64).copy()
    for dealer, seed in seeds.items():
        if dealer in now.staying:
            found -= masks.own_mask(seed, n)
            continue
        for i in now.staying:
            found += masks.pair_mask(seed, session.pair_key(i), n, is_first=dealer < i)
    return found.view(np.int64)
