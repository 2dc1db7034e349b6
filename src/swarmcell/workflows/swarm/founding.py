"""Founding a swarm: from a study's configuration and the founders' cards to the swarm file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from swarmcell.config import swarm_file
from swarmcell.config.swarm_file import SwarmFile
from swarmcell.files import write_whole
from swarmcell.node import identity
from swarmcell.privacy.secure_sum import SITES_MIN
from swarmcell.swarm.genesis import quorum


@dataclass(frozen=True)
class Founded:
    """A new swarm file, and what its numbers mean.

    Attributes
    ----------
    n, f, quorum
        Founders, liars tolerated, and how many members' votes decide.
    away
        Members that may be away while the swarm goes on; a secure sum needs three that are not.
    """

    path: Path
    swarm: SwarmFile
    n: int
    f: int
    quorum: int
    away: int

    def meaning(self) -> str:
        """Say in words what this swarm survives."""
        lying = f"{self.f} lying member(s)" if self.f else "no lying member (f = 0)"
        if self.away == 0:
            crash = f"all {self.n} peers must be up: {self._waits()}"
        else:
            up = self.n - self.away
            crash = f"{up} of {self.n} peers must be up: it survives {self.away} crashed or silent peer(s)"
        return f"{crash}, and tolerates {lying}."

    def _waits(self) -> str:
        if self.n > self.quorum:
            return f"a secure sum needs {SITES_MIN}, so it waits for one that is away, and goes on when it is back"
        return "it survives no crash (3 peers survive one, 4 with f = 1 one liar)"


def found(
    config: Path, founders: Sequence[str], out: Path, *, secure_aggregation: bool = False, force: bool = False
) -> Founded:
    """Write the swarm file of a study; each founder is a public card's file or a local identity's name.

    Parameters
    ----------
    secure_aggregation
        Whether to hide each site's part, whatever the configuration says of it.

    Raises
    ------
    ConfigError, InputError
        If the configuration or a card cannot be read, or no swarm can run by these rules.
    OutputError
        If `out` exists (without `force`) or cannot be written.
    """
    cards = [identity.load_card(founder) for founder in founders]
    rules = swarm_file.load_config(config)
    if secure_aggregation:
        privacy = replace(rules.study.privacy, secure_aggregation=True)
        rules = rules.model_copy(update={"study": replace(rules.study, privacy=privacy)})
    made = swarm_file.create(rules, cards)
    write_whole(out, swarm_file.dump(made), force=force)
    n, f = len(cards), made.swarm.f
    at_least = max(quorum(n, f), SITES_MIN if made.study.privacy.secure_aggregation else 0)
    return Founded(out, made, n, f, quorum(n, f), n - at_least)
