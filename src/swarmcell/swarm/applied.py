"""What became of an entry that a state was given."""

from dataclasses import dataclass

from swarmcell.swarm.blocks import Block
from swarmcell.swarm.entries import Entry


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of an entry.

    Attributes
    ----------
    entry
        The decoded entry; `None` if malformed.
    reason
        Why it has no effect; empty if it has.
    stored
        Whether the ledger must keep it at this position.
    blocks
        Blocks that became final by it.
    """

    entry: Entry | None
    reason: str
    stored: bool
    blocks: tuple[Block, ...] = ()

    @property
    def signed(self) -> bool:
        """Whether the entry's signature was checked, now or before: only such an entry is for `Me.meet`."""
        return self.reason == "duplicate" or (self.stored and self.reason != "not a member")
