"""What a peer tells its observer: blocks, whom it waits for, an engine that is away. Each once, then now and then.

Rules: an observer is called on the loop and must be quick. Events and what they carry:

====================  ==================================================================================================
`block`               height, kind, round, state (hex), about, included (names), left_out (name -> reason), finished
`training`            round: this site's training has begun
`contributed`         round: this site's contribution is signed
`waiting`             why, who (names), away (those of them who give no sign of life), since_s: for some seconds nothing
                      could be done; the loud pause below a quorum
`resumed`             after a `waiting`: a block is final
`abstains`            why: something that this site cannot do now (it is tried again)
`engine_away`         why: the engine cannot be reached; retried for ever
`engine_mended`       what: the engine had lost entries
====================  ==================================================================================================
"""

import time
from collections.abc import Callable
from typing import Any

from swarmcell.swarm.actions import Wait
from swarmcell.swarm.blocks import Block
from swarmcell.swarm.body import Body
from swarmcell.swarm.genesis import Genesis

Observer = Callable[[str, dict[str, Any]], None]
TELL_AGAIN_S = 30.0
TELL_SOON_S = 3.0  # what takes less is no news; chosen


class Teller:
    """Tells one observer, by members' names."""

    def __init__(self, genesis: Genesis, observer: Observer) -> None:
        self.tell = observer
        self._names = {member.signing_key: member.name for member in genesis.founders}
        self._waiting: tuple[str, tuple[bytes, ...], tuple[bytes, ...]] = ("", (), ())
        self._waiting_told_s = 0.0
        self._outage_told_s = 0.0

    @property
    def doing(self) -> str:
        """Why the peer waits, if it does."""
        return self._waiting[0]

    def name_of(self, key: bytes) -> str:
        """Return a member's name."""
        return self._names.get(key, key.hex()[:8])

    def learn_names(self, body: Body) -> None:
        """Take up the names of the members after a block."""
        self._names |= {standing.member.signing_key: standing.member.name for standing in body.roster}

    def block(self, block: Block) -> None:
        """Tell of a final block."""
        body = block.body
        self._goes_on()
        self.learn_names(body)
        told = {
            "height": body.height,
            "kind": body.kind,
            "round": body.round,
            "state": body.state.hex(),
            "about": dict(body.about),
            "included": [self.name_of(author) for author, _ in body.included],
            "left_out": {self.name_of(author): reason for author, _, reason in body.left_out},
            "finished": body.finished,
        }
        self.tell("block", told)

    def waits(self, action: Wait, up: frozenset[bytes]) -> None:
        """Tell whom the peer waits for, once that takes long; below the quorum at once; and again now and then.

        Parameters
        ----------
        up
            Members heard of late; empty where nobody can be heard.
        """
        now_s = time.monotonic()
        since_s = max(0.0, now_s - action.since_ms / 1000)
        away = tuple(key for key in action.who if up and key not in up)
        changed = (action.reason, action.who, away) != self._waiting
        self._waiting = (action.reason, action.who, away)
        is_told = self._waiting_told_s > 0 and now_s - self._waiting_told_s < (TELL_SOON_S if changed else TELL_AGAIN_S)
        if is_told or since_s < TELL_SOON_S:
            return
        self._waiting_told_s = now_s
        names = {"who": [*map(self.name_of, action.who)], "away": [*map(self.name_of, away)]}
        self.tell("waiting", {"why": action.reason, **names, "since_s": since_s})

    def _goes_on(self) -> None:
        if self._waiting_told_s > 0:
            self._waiting_told_s = 0.0
            self.tell("resumed", {})

    def outage(self, why: str) -> None:
        """Tell that the engine is away."""
        now_s = time.monotonic()
        if now_s - self._outage_told_s > TELL_AGAIN_S:
            self._outage_told_s = now_s
            self.tell("engine_away", {"why": why})

    def mended(self, what: str) -> None:
        """Tell that the engine had lost entries, and what became of it."""
        self.tell("engine_mended", {"what": what})
