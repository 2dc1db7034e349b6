"""Presence: who is up, apart from who makes progress. Announced every few seconds, never in the log.

Rules: an announcement is signed, so that an engine cannot make a dead member look alive with words of its own; it may
replay an old one, which costs patience and nothing else. Nothing that counts depends on presence.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from swarmcell.engine.log import Announcement
from swarmcell.node.identity import Identity, verify
from swarmcell.swarm.encoding import EncodingError, decode, encode

ANNOUNCE_EVERY_S = 2.0
UP_WITHIN_S = 8.0
_DOMAIN = b"swarmcell/presence/v1\0"
_SIGNATURE_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Presence:
    """What a peer last said of itself, and how long ago (seconds)."""

    height: int
    round: int
    doing: str
    age_s: float

    @property
    def is_up(self) -> bool:
        """It was heard of late."""
        return self.age_s <= UP_WITHIN_S


def announcement(identity: Identity, swarm: bytes, *, height: int, round_number: int, doing: str) -> bytes:
    """Return a signed sign of life."""
    content = encode({"height": height, "round": round_number, "doing": doing[:200]})
    return identity.sign(_DOMAIN + swarm + content) + content


def read(swarm: bytes, announcements: Mapping[bytes, Announcement]) -> dict[bytes, Presence]:
    """Return what each author truly said; what is not signed by it does not count."""
    found = {}
    for author, heard in announcements.items():
        signature, content = heard.content[:_SIGNATURE_BYTES], heard.content[_SIGNATURE_BYTES:]
        if not verify(author, _DOMAIN + swarm + content, signature):
            continue
        try:
            said = decode(content)
        except EncodingError:
            continue
        match said:
            case {"height": int(height), "round": int(number), "doing": str(doing)}:
                found[author] = Presence(height=height, round=number, doing=doing, age_s=heard.age_s)
    return found
