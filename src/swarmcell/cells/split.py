"""Which donors are trained on and which are held out: whole donors, seeded, whatever the order of the cells."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from swarmcell.errors import CellsError

SplitKind = Literal["within-site", "by-site", "by-donor", "none"]
TRAIN, HELD_OUT = "train", "held_out"
INNER_DONORS_MIN = 3  # training donors below which a site has no inner validation
INNER_SHARE = 0.2  # chosen
Donor = TypeVar("Donor")
_STRICT = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How donors are held out.

    `within-site` holds out a share of each site's donors, stratified by condition; `by-site` holds out whole sites
    (those in `held_out_sites`); `by-donor` holds out the donors that are named; `none` trains on all.
    """

    __pydantic_config__ = _STRICT

    kind: SplitKind = "within-site"
    held_out_share: float = 0.25  # of each site's donors; chosen
    held_out_sites: tuple[str, ...] = ()
    held_out_donors: tuple[str, ...] = ()  # names of other sites' donors mean nothing here
    seed: int = 0


@dataclass(frozen=True)
class Split:
    """`side[donor]` is `train` or `held_out`; `notes` say what a reader must know about small sites."""

    side: Mapping[str, str]
    notes: tuple[str, ...] = ()


def assign(strata: Mapping[str, str], rule: SplitRule, *, site: str) -> Split:
    """Split the donors of one site.

    Parameters
    ----------
    strata
        Donor -> stratum: its condition, or its conditions joined where its samples differ; `""` without conditions.
    rule
        How donors are held out.
    site
        The site's name, for `by-site` and for messages.

    Raises
    ------
    CellsError
        If a donor is to be held out and the site has fewer than two.
    """
    if rule.kind == "none":
        return Split(dict.fromkeys(strata, TRAIN))
    if rule.kind == "by-site":
        return Split(dict.fromkeys(strata, HELD_OUT if site in rule.held_out_sites else TRAIN))
    if rule.kind == "by-donor":
        side = {donor: HELD_OUT if donor in rule.held_out_donors else TRAIN for donor in strata}
        return Split(side, () if HELD_OUT in side.values() else (_nobody_named(rule, site),))
    if len(strata) < 2:
        msg = (
            f"{site}: {len(strata)} donor(s), and a within-site split needs at least 2: one to train, one to hold "
            "out. Use --split by-site (the site trains or tests whole) or --split none."
        )
        raise CellsError(msg)
    held = hold_out(strata, share=rule.held_out_share, seed=rule.seed)
    side = {donor: HELD_OUT if donor in held else TRAIN for donor in strata}
    return Split(side, tuple(_notes(strata, held, site)))


def hold_out(strata: Mapping[str, str], *, share: float, seed: int) -> frozenset[str]:
    """Choose donors to hold out: about `share` of them, in each stratum alike.

    A stratum's last donor is never held out, unless no stratum has two: then one donor of all is. At least one and
    never all donors are held out. The choice depends on the donors' names, their strata and the seed only.

    Parameters
    ----------
    strata
        Donor -> stratum; at least two donors.
    share
        Share of donors to hold out, in (0, 1).
    seed
        Seed of the choice.

    Raises
    ------
    CellsError
        If there are fewer than two donors.
    """
    if len(strata) < 2:
        msg = f"{len(strata)} donor(s); expected at least 2, to train on one and hold out another."
        raise CellsError(msg)
    groups = [_shuffled((d for d in strata if strata[d] == s), seed) for s in sorted(set(strata.values()))]
    room = [len(group) - 1 for group in groups]
    if not any(room):
        return frozenset(_shuffled(strata, seed)[:1])
    n_held = min(max(1, round(share * len(strata))), sum(room))
    quotas = _quotas([share * len(group) for group in groups], room, n_held)
    return frozenset(donor for group, n in zip(groups, quotas, strict=True) for donor in group[:n])


def leave_one_out(donors: Sequence[Donor]) -> Iterator[Donor]:
    """Yield each donor once, in order: the one that a fold holds out."""
    yield from dict.fromkeys(donors)


def repeated(
    by_site: Mapping[str, Mapping[str, str]], *, share: float, seed: int, number: int
) -> dict[str, frozenset[str]]:
    """Choose donors to hold out for the `number`-th of several splits, site by site as `hold_out` does.

    Parameters
    ----------
    by_site
        Site -> donor -> stratum. A site with one donor trains.
    share, seed
        As of `hold_out`; the splits of one seed are independent.
    """
    key = int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:6], "big")
    return {
        site: hold_out(donors, share=share, seed=key) if len(donors) > 1 else frozenset()
        for site, donors in by_site.items()
    }


def inner_validation(donors: Iterable[str], strata: Mapping[str, str], seed: int) -> frozenset[str]:
    """Choose training donors for inner validation (early stopping); none where a site has fewer than three.

    Parameters
    ----------
    donors
        Training donors of one site.
    strata
        Donor -> condition, or `""`.
    seed
        Seed of the choice.
    """
    chosen = {donor: strata.get(donor, "") for donor in donors}
    if len(chosen) < INNER_DONORS_MIN:
        return frozenset()
    return hold_out(chosen, share=INNER_SHARE, seed=seed)


def _shuffled(donors: Iterable[str], seed: int) -> list[str]:
    """Order donors by a keyed digest: unlike a generator's order, it does not change when other donors come or go."""
    return sorted(donors, key=lambda donor: hashlib.sha256(f"{seed}\0{donor}".encode()).digest())


def _quotas(wanted: list[float], room: list[int], n_total: int) -> list[int]:
    """Round `wanted` to integers that sum to `n_total`, each at most its `room`, by the largest remainder."""
    quotas = [min(int(w), r) for w, r in zip(wanted, room, strict=True)]
    while sum(quotas) > n_total:
        quotas[quotas.index(max(quotas))] -= 1
    while sum(quotas) < n_total:
        free = [i for i, q in enumerate(quotas) if q < room[i]]
        quotas[max(free, key=lambda i: (wanted[i] - quotas[i], -i))] += 1
    return quotas


def _nobody_named(rule: SplitRule, site: str) -> str:
    return (
        f"{site}: none of the {len(rule.held_out_donors)} donor(s) of [split] held_out_donors is here; all train. "
        "Check their spelling, if one of them should be."
    )


def _notes(strata: Mapping[str, str], held: frozenset[str], site: str) -> Iterable[str]:
    trained = [strata[d] for d in strata if d not in held]
    for stratum in sorted(set(strata.values()) - {""}):
        if stratum not in {strata[d] for d in held}:
            yield f"{site}: no donor of {stratum!r} is held out (it has {list(strata.values()).count(stratum)})."
        if stratum not in trained:
            yield f"{site}: no donor of {stratum!r} is trained on; its only donor is held out."
    if len(trained) < INNER_DONORS_MIN:
        yield f"{site}: {len(trained)} training donor(s), too few for inner validation; rounds are fixed there."
