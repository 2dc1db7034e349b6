"""Where one peer's reading of the log stands. `State.apply` takes an entry; nothing else changes a `State`.

Rules: applying is total (it raises for no bytes), costs O(1) amortised, never rolls back, and takes the same entry
twice at no cost. What is malformed, unsigned, by a non-member or over quota is ignored and counted. A final block is
never judged again.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeAlias

from swarmcell.swarm.actions import Offer
from swarmcell.swarm.applied import Applied
from swarmcell.swarm.blocks import Block, Candidate, Changed, Founded, Merged, follows
from swarmcell.swarm.body import Body, decode_body
from swarmcell.swarm.chains import Chains
from swarmcell.swarm.checkpoints import Checkpoints
from swarmcell.swarm.encoding import EncodingError
from swarmcell.swarm.entries import Entry, decode_entry
from swarmcell.swarm.founding import Founding
from swarmcell.swarm.genesis import Genesis
from swarmcell.swarm.memo import Memo
from swarmcell.swarm.payloads import (
    Accept,
    Acknowledge,
    Approve,
    Attest,
    Blob,
    Checkpoint,
    Commit,
    Evaluation,
    Next,
    Patience,
    Propose,
    Statistics,
    TrainedOn,
    Update,
    Wrap,
)
from swarmcell.swarm.proposals import Proposals
from swarmcell.swarm.roster import Roster, founding, is_member
from swarmcell.swarm.rounds import KEPT_ROUNDS, Closing, Rounds
from swarmcell.swarm.votes import Ballot
from swarmcell.swarm.wanted import Wanted, lacks, want

Verify: TypeAlias = Callable[[bytes, bytes, bytes], bool]
AHEAD_PER_AUTHOR_MAX = 8192  # votes for heights that are not open yet
STRANGERS_MAX = 256  # entries of keys that are no members yet; bigger entries than the next are not held
STRANGER_BYTES_MAX = 64 * 1024


class State:
    """One peer's reading of the log.

    Parameters
    ----------
    genesis
        The swarm's rules.
    verify
        `verify(public_key, message, signature)`: ed25519.
    pins
        Body digests by height that an invitation vouches for; another history halts this state.

    Attributes
    ----------
    last, blocks
        The last final block (`None` before height 0 is), and all that were read or restored, by height.
    roster, ballot, rounds, closing, proposals, founding, checkpoints, chains
        The parts, each documented in its module.
    candidate
        What view 0 of the open height decides; `None` as long as nothing closed.
    ignored
        How many entries had no effect, by reason.
    halted
        Why this history cannot be followed further; empty as long as it can.
    """

    def __init__(self, genesis: Genesis, verify: Verify, *, pins: Mapping[int, bytes] | None = None) -> None:
        self.genesis = genesis
        self.swarm = genesis.digest
        self.pins = dict(pins or {})
        self.roster = self._founders = founding(genesis)
        self.last: Block | None = None
        self.blocks: dict[int, Block] = {}
        self.ballot = Ballot(0, self.roster)
        self.chains = Chains(genesis.quotas)
        self.rounds = Rounds()
        self.closing: Closing | None = None
        self.proposals = Proposals()
        self.founding = Founding()
        self.checkpoints = Checkpoints()
        self.evaluations: dict[tuple[bytes, bytes], tuple[int, Entry]] = {}
        self.trained: dict[bytes, tuple[int, Entry]] = {}
        self.candidate: Candidate | None = None
        self.memo, self.wanted = Memo(), Wanted()
        self.ahead: dict[int, list[tuple[int, Entry]]] = {}
        self.strangers: dict[bytes, tuple[int, Entry]] = {}
        self.ignored: Counter[str] = Counter()
        self.halted = ""
        self.position = 0
        self.reread = False
        self._verify = verify
        self._ahead_of: Counter[bytes] = Counter()

    @property
    def height(self) -> int:
        """The height that is being decided."""
        return 0 if self.last is None else self.last.body.height + 1

    @property
    def body(self) -> Body | None:
        """What the last final block says."""
        return None if self.last is None else self.last.body

    @property
    def finished(self) -> bool:
        """Whether the study has ended."""
        return self.last is not None and self.last.body.finished

    @property
    def key_digest(self) -> bytes:
        """Digest of the present swarm key; empty before height 0 is final."""
        return b"" if self.last is None else self.last.body.key_digest

    @property
    def min_updates(self) -> int:
        """The least number of contributions that closes a round; more, where the study says that it needs more."""
        return max(min(self.genesis.min_updates, self.roster.quorum), self.body.sites_needed if self.body else 0)

    @property
    def is_settled(self) -> bool:
        """Whether an entry that was stored before changes nothing: none is wanted beyond the limits, or held."""
        return not (self.wanted.entries or self.wanted.chunks or self.wanted.attests or self.strangers)

    def apply(self, position: int, raw: bytes) -> Applied:
        """Take one entry of the log, to be kept at `position` of this peer's ledger."""
        try:
            entry = decode_entry(raw)
        except (EncodingError, RecursionError):
            return self._ignore(None, "malformed")
        if not self.of_this_swarm(entry):
            return self._ignore(entry, "another swarm")
        if not is_member(self.roster, entry.author):
            return self._hold(position, entry)
        return self._judge(position, entry)

    def _judge(self, position: int, entry: Entry) -> Applied:
        """Take or ignore a member's entry."""
        fault, wanted = self.chains.refusal(entry), entry in self.wanted
        if fault == "duplicate" and wanted and lacks(self, entry):
            return self._admit(position, entry, again=True)
        if fault and not (wanted and fault == "over quota"):
            self.reread = self.reread or fault == "over quota"
            return self._ignore(entry, fault)
        if not self._verify(entry.author, entry.signed_bytes(), entry.signature):
            return self._ignore(entry, "bad signature")
        return self._admit(position, entry)

    def of_this_swarm(self, entry: Entry) -> bool:
        """Say whether an entry was signed for this swarm."""
        return entry.swarm == self.swarm

    def fits(self, offer: Offer) -> bool:
        """Say whether a contribution is one to the open round, by a member, from the right state."""
        body = self.body
        payload = offer.payload
        return (
            body is not None
            and payload.round == self.rounds.number
            and payload.base == body.state
            and payload.epoch <= body.epoch
            and is_member(self.roster, offer.author)
        )

    def _ignore(self, entry: Entry | None, reason: str, *, stored: bool = False) -> Applied:
        self.ignored[reason] += 1
        return Applied(entry, reason, stored)

    def _hold(self, position: int, entry: Entry) -> Applied:
        """Keep a stranger's entry for a while: the block that admits it may be read later than its votes."""
        fits = len(self.strangers) < STRANGERS_MAX and len(entry.raw) <= STRANGER_BYTES_MAX
        new = entry.digest not in self.strangers and entry.author not in self.chains.by_author
        if new and fits:
            self.strangers[entry.digest] = (position, entry)
        self.reread = self.reread or (new and not fits)
        return self._ignore(entry, "not a member", stored=new and fits)

    def _admit(self, position: int, entry: Entry, *, again: bool = False) -> Applied:
        """Take up an entry; `again`: one that the ledger holds already."""
        if not again:
            self.position = max(self.position, position)
            self.chains.record(entry)
        reason = self._take(position, entry)
        if reason:
            self.ignored[reason] += 1
        blocks = self._advance(position)
        return Applied(entry, reason or ("duplicate" if again else ""), stored=not again, blocks=tuple(blocks))

    def _take(self, position: int, entry: Entry) -> str:
        """Hand an entry to the part that it belongs to; return why it has no effect, or nothing."""
        match entry.payload:
            case Attest(height=height) | Commit(height=height) | Next(height=height):
                return self._vote(height, position, entry)
            case Blob(content=content):
                return self._chunk(position, entry.author, content)
            case (Update() | Statistics()) as payload:
                if wanted := entry in self.wanted:
                    self.wanted.add(entry)
                found = self.rounds.add(entry, payload, position, wanted=wanted)
                return found if isinstance(found, str) else self._offer(found)
            case Patience(round=number):
                return self.rounds.add_patience(entry, number, position) or self._patience(entry)
            case Accept() as payload:
                return self._accept(position, entry, payload)
            case _:
                return self._take_rare(position, entry)

    def _take_rare(self, position: int, entry: Entry) -> str:
        match entry.payload:
            case Propose() as payload:
                wanted = entry in self.wanted  # a certified body may rest on it
                fault = self.founding.wrap(entry, payload, position, wanted=wanted) if payload.wraps else ""
                fault = fault or self.proposals.propose(entry, payload, position, wanted=wanted)
                return fault or self._approved(entry.digest)
            case Approve(proposal=proposal):
                fault = self.proposals.approve(entry, proposal, position, wanted=entry in self.wanted)
                return fault or self._approved(proposal)
            case Wrap() as payload:
                return self.founding.wrap(entry, payload, position)
            case Checkpoint() as payload:
                return self.checkpoints.add(entry, payload, position)
            case Acknowledge(checkpoint=checkpoint):
                return self.checkpoints.acknowledge(entry, checkpoint, position)
            case Evaluation(state=state) if len(self.evaluations) < 100_000:
                known = self.evaluations.get((entry.author, state), (position, entry))  # the first one counts
                self.evaluations[entry.author, state] = min(known, (position, entry), key=lambda at: at[1].sequence)
            case TrainedOn():
                known = self.trained.get(entry.author, (position, entry))  # the newest one counts
                self.trained[entry.author] = max(known, (position, entry), key=lambda at: at[1].sequence)
        return ""

    def _vote(self, height: int, position: int, entry: Entry) -> str:
        if height < self.height:
            return "past"
        if height == self.height:
            return self.ballot.add(entry, wanted=entry in self.wanted) or want(self, entry)
        if self._ahead_of[entry.author] >= AHEAD_PER_AUTHOR_MAX:
            self.reread = True
            return "ahead"
        self.expect(position, entry)
        return ""

    def expect(self, position: int, entry: Entry) -> None:
        """Keep a vote for a height that is not open yet."""
        if isinstance(entry.payload, Attest | Commit | Next):
            self._ahead_of[entry.author] += 1
            self.ahead.setdefault(entry.payload.height, []).append((position, entry))

    def _chunk(self, position: int, author: bytes, content: bytes) -> str:
        for offer in self.rounds.add_chunk(author, hashlib.sha256(content).digest(), position):
            self._offer(offer)
        return ""

    def _offer(self, offer: Offer) -> str:
        if self.closing is None:
            return ""
        if self.fits(offer):
            self.closing.add(offer)
            self._close()
        elif self._is_late(offer):
            self.closing.await_also(offer.author)
        return ""

    def _is_late(self, offer: Offer) -> bool:
        """Say whether a contribution came too late for one of the last rounds: its author is at work again."""
        behind = self.rounds.number - offer.payload.round
        return 0 < behind <= self.genesis.awaited_blocks and is_member(self.roster, offer.author)

    def _patience(self, entry: Entry) -> str:
        if self.closing is not None and entry.author in self.rounds.patient.get(self.rounds.number, ()):
            self.closing.patient[entry.author] = None
            self._close()
        return ""

    def _accept(self, position: int, entry: Entry, payload: Accept) -> str:
        fault = self.founding.accept(entry, payload, position, self._founders, wanted=entry in self.wanted)
        self._close()
        return fault

    def _approved(self, proposal: bytes) -> str:
        if self.candidate is None and self.last is not None and not self.finished:
            approved = self.proposals.is_approved(proposal, self.roster, self.key_digest)
            self.candidate = Changed(proposal, self.proposals.open[proposal][2]) if approved else None
        return ""

    def _close(self) -> None:
        """Fix what view 0 decides, if it can be said and was not yet."""
        if self.candidate is not None:
            return
        if self.last is None:
            bringing = self.founding.bringing()
            if bringing and len(self.founding.accepts) >= self.roster.quorum:
                entry, first = bringing[0]
                self.candidate = Founded(entry.digest, first.key_digest)
        elif self.closing is not None and self.closing.closed:
            valid = self.closing.valid
            self.candidate = Merged(tuple(valid[author] for author in sorted(valid)))

    def _advance(self, position: int) -> list[Block]:
        """Append every block that is final by now."""
        blocks: list[Block] = []
        while (block := self._final(position)) is not None:
            blocks.append(block)
            self.begin(block)
            self._welcome()
        return blocks

    def _final(self, position: int) -> Block | None:
        final = self.ballot.final
        if self.halted or final is None or final.body not in self.ballot.bodies:
            return None
        content = self.ballot.bodies[final.body]
        body = decode_body(content)
        fault = follows(self.body, self.roster, body)
        if not fault and self.pins.get(body.height, final.body) != final.body:
            fault = f"block {body.height} is not the one that the invitation vouches for"
        if fault:
            self.halted = f"{fault}. Ask the other members which history they hold: swarmcell swarm verify."
            return None
        return Block(
            body=body,
            content=content,
            digest=final.body,
            view=final.view,
            certificate=final.commits,
            position=position,
        )

    def begin(self, block: Block) -> None:
        """Open the height after a final block."""
        body = block.body
        self.last = block
        self.blocks[body.height] = block
        self.roster = Roster(body.roster, body.f)
        self.proposals.advance(body.proposal)
        self.chains.new_height()
        self.rounds.advance(body.round + 1)
        self.open()

    def open(self) -> None:
        """Set up the open height from what is known of it already."""
        self.candidate = None
        self.memo, self.wanted = Memo(), Wanted()
        self.ballot = Ballot(self.height, self.roster)
        for _, entry in self.ahead.pop(self.height, ()):
            self._ahead_of[entry.author] -= 1
            if fault := self.ballot.add(entry):
                self.ignored[fault] += 1
        self.closing = None
        if self.last is None:
            self._close()
        elif not self.finished:
            self._open_round(self.last.body)

    def _open_round(self, body: Body) -> None:
        number = self.rounds.number
        awaited = self.roster.awaited(number, self.genesis.awaited_blocks)
        self.closing = Closing(self.roster.quorum, self.min_updates, set(awaited))
        for offer in self.rounds.of_last(self.genesis.awaited_blocks):
            if self._is_late(offer):
                self.closing.await_also(offer.author)
        patient = self.rounds.patient.get(number, {})
        self.closing.patient.update({author: None for author in patient if is_member(self.roster, author)})
        for offer in sorted(
            (offer for offers in self.rounds.offers.get(number, {}).values() for offer in offers),
            key=lambda offer: max((offer.position, *offer.chunks)),
        ):
            if self.fits(offer):
                self.closing.add(offer)
        approved = self.proposals.approved(self.roster, body.key_digest)
        if approved:
            self.candidate = Changed(approved[0], self.proposals.open[approved[0]][2])
        self._close()

    def _welcome(self) -> None:
        """Apply what newcomers wrote before this peer read that they were admitted."""
        for digest, (position, entry) in list(self.strangers.items()):
            if is_member(self.roster, entry.author):
                del self.strangers[digest]
                signed = self._verify(entry.author, entry.signed_bytes(), entry.signature)
                if signed and not self.chains.refusal(entry):
                    self.chains.record(entry)
                    self._take(position, entry)

    def late_blocks(self) -> list[Block]:
        """Return the last final blocks, the newest first: contributions to the open round rest on one of them."""
        first = max(0, self.height - KEPT_ROUNDS)
        return [self.blocks[height] for height in range(self.height - 1, first - 1, -1) if height in self.blocks]
