"""Where the auditor begins if the log's beginning is trimmed: at a checkpoint that somebody known vouches for.

Rules: a founder is known by the genesis, a body by a pin (an invitation's word, say); nobody else is. Which checkpoint
is taken decides how much is checked, never what is believed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from swarmcell.swarm.audit_entries import Verify, body_name, read_body, read_entry


@dataclass(frozen=True)
class Anchor:
    """A checkpoint's block that may be taken for final.

    Attributes
    ----------
    height, digest, body
        Of the block.
    founders
        Signing keys of the founders that committed to it in one view.
    """

    height: int
    digest: bytes
    body: dict[str, Any]
    founders: frozenset[bytes]


def anchors(
    checkpoints: Iterable[Mapping[str, Any]],
    swarm: bytes,
    rules: Mapping[str, Any],
    verify: Verify,
    pins: Mapping[int, bytes],
) -> list[Anchor]:
    """Return the blocks of these checkpoints that a quorum of the founders or a pin vouches for, the oldest first."""
    founders = {member["signing_key"] for member in rules["founders"]}
    needed = (len(founders) + rules["f"]) // 2 + 1
    found = {}
    for said in checkpoints:
        body, digest = read_body(said["content"]), body_name(said["content"])
        if body is None or body["height"] != said["height"] or pins.get(said["height"], digest) != digest:
            continue
        signers = _committed(said, digest, swarm, verify) & founders
        if said["height"] in pins or len(signers) >= needed:
            found[said["height"], digest] = Anchor(said["height"], digest, body, signers)
    return [found[key] for key in sorted(found)]


def _committed(said: Mapping[str, Any], digest: bytes, swarm: bytes, verify: Verify) -> frozenset[bytes]:
    """Return who committed to a checkpoint's body, in the view in which most did."""
    by_view: dict[int, set[bytes]] = {}
    for raw in said["certificate"]:
        entry = read_entry(raw, swarm, verify)
        if isinstance(entry, str) or entry["kind"] != "commit":
            continue
        vote = entry["payload"]
        if (vote["height"], vote["body"]) == (said["height"], digest):
            by_view.setdefault(vote["view"], set()).add(entry["author"])
    most: set[bytes] = max(by_view.values(), key=len, default=set())
    return frozenset(most)
