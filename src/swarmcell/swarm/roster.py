"""Who votes: the members after a block, and how many of them decide."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from swarmcell.swarm.body import Standing
from swarmcell.swarm.genesis import Genesis, Member, quorum


@dataclass(frozen=True)
class Roster:
    """The members after a block (at first, the founders), and the number of liars that they tolerate."""

    standings: tuple[Standing, ...]
    f: int

    @cached_property
    def members(self) -> dict[bytes, Member]:
        """Members by signing key."""
        return {standing.member.signing_key: standing.member for standing in self.standings}

    @cached_property
    def quorum(self) -> int:
        """How many votes decide."""
        return quorum(len(self.standings), self.f)

    @property
    def doubt(self) -> int:
        """How many members must say a thing so that an honest one does."""
        return self.f + 1

    def __contains__(self, key: object) -> bool:
        return key in self.members

    def awaited(self, number: int, blocks: int) -> frozenset[bytes]:
        """Return the members with a contribution in one of the last `blocks` rounds before `number`, and newcomers."""
        keys = (s.member.signing_key for s in self.standings if s.last_round >= number - blocks)
        return frozenset(keys)

    def seen(self, authors: Iterable[bytes], number: int) -> tuple[Standing, ...]:
        """Return the standings after round `number`, to which `authors` contributed."""
        present = frozenset(authors)
        return tuple(
            Standing(member=s.member, last_round=number) if s.member.signing_key in present else s
            for s in self.standings
        )


def founding(genesis: Genesis) -> Roster:
    """Return the roster of the founders, ascending by signing key."""
    founders = sorted(genesis.founders, key=lambda member: member.signing_key)
    return Roster(tuple(Standing(member=member, last_round=0) for member in founders), genesis.f)


def is_member(roster: Roster, author: bytes) -> bool:
    """Say whether an author's entries count."""
    return author in roster
