"""Looking at a swarm from outside: who is up, where it stands, and its blocks. Reads the log; signs nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from swarmcell.config import site as sites
from swarmcell.config import swarm_file as swarm_files
from swarmcell.engine.log import Health, Log
from swarmcell.errors import SwarmcellError
from swarmcell.node import identity as identities
from swarmcell.node import ledger as ledgers
from swarmcell.node import memory, presence
from swarmcell.node.presence import Presence
from swarmcell.swarm.blocks import Block
from swarmcell.swarm.body import body_digest, decode_body
from swarmcell.swarm.decide import waiting_for
from swarmcell.swarm.entries import NO_DIGEST
from swarmcell.swarm.genesis import Genesis
from swarmcell.swarm.me import Me
from swarmcell.swarm.proposals import Decided, fault_of
from swarmcell.swarm.state import State


@dataclass(frozen=True, kw_only=True)
class MemberView:
    """One member, as the log and its announcements show it.

    Attributes
    ----------
    last_round
        The last round with a contribution of its own.
    presence
        What it last announced; `None` if it was not heard.
    """

    name: str
    key: str
    last_round: int
    presence: Presence | None

    @property
    def is_up(self) -> bool:
        """It was heard of late."""
        return self.presence is not None and self.presence.is_up


@dataclass(frozen=True, kw_only=True)
class ProposalView:
    """An open proposal.

    Attributes
    ----------
    change, member, member_key
        What is proposed (`admit`, `revoke`, `rotate`, `end`), and the member that it is about.
    approved_by
        Names of the members that approved it, its author among them.
    fault
        Why it can no longer follow; empty if it can.
    """

    digest: str
    change: str
    member: str
    member_key: str
    by: str
    f: int
    approved_by: tuple[str, ...]
    fault: str


@dataclass(frozen=True, kw_only=True)
class SwarmView:
    """Where a swarm stands.

    Attributes
    ----------
    height, view, round
        What is being decided: the height of the last block plus one, its view, and the round of the next merge.
    epoch
        How often the swarm's key was renewed.
    blocks
        Final blocks, in order. Those whose votes were trimmed from a ledger have none.
    decided
        Who decided what a block carried out, by the proposal's digest, as far as the log at hand holds it.
    known_since
        When this site first knew a block as final, by height (seconds since 1970, its own clock); only from a ledger.
    waits_for, waited_for
        What the swarm waits for, and whom (names).
    """

    study: str
    digest: str
    quorum: int
    f: int
    height: int
    view: int
    round: int
    epoch: int
    finished: bool
    failure: str
    engine: Health | None
    members: tuple[MemberView, ...]
    waits_for: str
    waited_for: tuple[str, ...]
    blocks: tuple[Block, ...]
    proposals: tuple[ProposalView, ...]
    ignored: Mapping[str, int]
    decided: Mapping[bytes, Decided] = field(default_factory=dict)
    known_since: Mapping[int, int] = field(default_factory=dict)


class Onlooker:
    """Follows a swarm's log without taking part; `look` as often as you like."""

    def __init__(self, genesis: Genesis, log: Log) -> None:
        self._log = log
        self._state = State(genesis, identities.verify)
        self._next = 1

    async def look(self) -> SwarmView:
        """Read what is new and say where the swarm stands.

        Raises
        ------
        EngineError
            If the log cannot be read.
        """
        if self._next < (await self._log.health()).first:
            await self._resume()
        await self._read()
        heard = presence.read(self._state.swarm, await self._log.announcements())
        return view(self._state, heard, await self._log.health())

    async def _resume(self) -> None:
        """Go on in a trimmed log from the first checkpoint that members vouch for, or else from the newest."""
        self._state = await memory.first_checkpoint(self._log, self._state) or self._state
        await self._read()
        beyond = any(said.height > self._state.height for _, _, said in self._state.checkpoints.known.values())
        if beyond and (newest := await memory.newest_checkpoint(self._log, self._state)) is not None:
            self._state, self._next = newest, 1  # some of what follows on the first is trimmed

    async def _read(self) -> None:
        while batch := await self._log.read(self._next):
            for position, raw in batch:
                self._state.apply(position, raw)
            self._next = batch[-1][0] + 1

    async def look_once(self) -> SwarmView:
        """Look, and let go of the engine."""
        try:
            return await self.look()
        finally:
            await self.close()

    async def close(self) -> None:
        """Let go of the engine."""
        await self._log.close()


def open_swarm_log(
    swarm_file: Path, *, site_file: Path | None = None, identity: str | None = None
) -> tuple[Genesis, Log]:
    """Open the engine that the site file names, as this site's identity where there is one.

    Raises
    ------
    ConfigError, TamperedError
        If a file cannot be read, or is not what was agreed on.
    """
    swarm = swarm_files.load(swarm_file)
    site = sites.load_site(site_file)
    chosen = identity or (site.signs_as if site else None)
    secret = None
    if chosen is not None:
        try:
            secret = identities.load(chosen).engine_secret
        except SwarmcellError:
            if identity is not None:
                raise
    return swarm.genesis(), sites.open_log(site, swarm_file, bytes.fromhex(swarm.digest), engine_secret=secret)


def open_onlooker(swarm_file: Path, *, site_file: Path | None = None, identity: str | None = None) -> Onlooker:
    """Return an onlooker of a swarm; see `open_swarm_log`."""
    return Onlooker(*open_swarm_log(swarm_file, site_file=site_file, identity=identity))


def view_ledger(swarm_file: Path, ledger: Path) -> SwarmView:
    """Say where the swarm stands by one peer's own ledger.

    Raises
    ------
    ConfigError, TamperedError, SwarmError
        If a file cannot be read, or is not what was agreed on.
    """
    return ledger_view(swarm_files.load(swarm_file).genesis(), ledger)


def ledger_view(genesis: Genesis, ledger: Path) -> SwarmView:
    """Say where the swarm of a genesis stands by one peer's own ledger.

    Raises
    ------
    SwarmError
        If the ledger cannot be read.
    """
    state = State(genesis, identities.verify)
    bodies: list[bytes] = []
    with ledgers.opened_to_look(ledger, genesis.digest) as book:
        since = book.known_since()
        if book.is_trimmed():  # the blocks before its snapshot are known by their bodies only
            state, bodies = memory.recall(book, genesis, Me(NO_DIGEST)).state, book.bodies()
        else:
            for position, raw in book.entries():
                state.apply(position, raw)
    seen = view(state, {}, None)
    blocks = {block.body.height: block for block in (*map(_bare, bodies), *seen.blocks)}
    return replace(seen, blocks=tuple(blocks[height] for height in sorted(blocks)), known_since=since)


def _bare(content: bytes) -> Block:
    """Return a final block of which a ledger keeps the body only: who committed to it in which view is trimmed."""
    body, name = decode_body(content), body_digest(content)
    return Block(body=body, content=content, digest=name, view=0, certificate=(), position=0)


def view(state: State, heard: Mapping[bytes, Presence], engine: Health | None) -> SwarmView:
    """Return what a state shows."""
    body = state.body
    standings = state.roster.standings
    names = {standing.member.signing_key: standing.member.name for standing in standings}
    wait = None if state.finished else waiting_for(state, 0)
    return SwarmView(
        study=state.genesis.name,
        digest=state.swarm.hex(),
        quorum=state.roster.quorum,
        f=state.roster.f,
        height=state.height,
        view=state.ballot.view,
        round=state.rounds.number,
        epoch=body.epoch if body else 0,
        finished=state.finished,
        failure=body.failure if body else "",
        engine=engine,
        members=tuple(
            MemberView(
                name=standing.member.name,
                key=standing.member.signing_key.hex(),
                last_round=standing.last_round,
                presence=heard.get(standing.member.signing_key),
            )
            for standing in sorted(standings, key=lambda standing: standing.member.name)
        ),
        waits_for=wait.reason if wait else "",
        waited_for=tuple(sorted(names.get(key, key.hex()[:8]) for key in wait.who)) if wait else (),
        blocks=tuple(state.blocks[height] for height in sorted(state.blocks)),
        proposals=tuple(_proposals(state, names)),
        ignored=dict(state.ignored),
        decided=dict(state.proposals.decided),
    )


def _proposals(state: State, names: Mapping[bytes, str]) -> Iterator[ProposalView]:
    for digest, (_, entry, change) in state.proposals.open.items():
        approvers = [names[author] for author in state.proposals.approvers(digest) if author in names]
        yield ProposalView(
            digest=digest.hex(),
            change=change.change,
            member=change.member.name,
            member_key=change.member.signing_key.hex(),
            by=names.get(entry.author, entry.author.hex()[:8]),
            f=change.f,
            approved_by=tuple(sorted(approvers)),
            fault=fault_of(change, state.roster, state.key_digest),
        )


def status_json(seen: SwarmView) -> dict[str, Any]:
    """Return a view as plain values, for programs."""
    engine = None if seen.engine is None else vars(seen.engine)
    members = [
        {
            "name": member.name,
            "key": member.key,
            "up": member.is_up,
            "last_seen_s": None if member.presence is None else round(member.presence.age_s, 1),
            "doing": "" if member.presence is None else member.presence.doing,
            "height": None if member.presence is None else member.presence.height,
            "last_round": member.last_round,
        }
        for member in seen.members
    ]
    plain = {
        name: getattr(seen, name) for name in ("study", "digest", "quorum", "f", "height", "view", "round", "epoch")
    }
    waits = {"waits_for": seen.waits_for, "waited_for": list(seen.waited_for)}
    ends = {"finished": seen.finished, "failure": seen.failure, "ignored": dict(seen.ignored)}
    proposals = [dict(vars(proposal)) for proposal in seen.proposals]
    return {**plain, **ends, **waits, "engine": engine, "members": members, "proposals": proposals}


def blocks_json(seen: SwarmView) -> list[dict[str, Any]]:
    """Return the blocks as plain values, for programs."""
    before = (None, *seen.blocks)
    return [
        _block_json(block, last, _names(seen)) | _decision(block, last, seen)
        for last, block in zip(before, seen.blocks, strict=False)
    ]


def _decision(block: Block, last: Block | None, seen: SwarmView) -> dict[str, Any]:
    """Say who decided what a block carried out, and since when this site knows the block."""
    unix_s = seen.known_since.get(block.body.height)
    since = "" if unix_s is None else datetime.fromtimestamp(unix_s, UTC).isoformat()
    said = {"position": block.position, "known_since": since, "proposed_by": "", "approved_by": []}
    found = seen.decided.get(block.body.proposal)
    if found is None or last is None:
        return said
    members = {s.member.signing_key: s.member.name for s in last.body.roster}
    approvers = sorted(members[key] for key in found.approvers if key in members)
    proposer = members.get(found.proposer, found.proposer.hex()[:8])
    return said | {"proposed_by": proposer, "approved_by": approvers}


def _names(seen: SwarmView) -> dict[bytes, str]:
    return {s.member.signing_key: s.member.name for block in seen.blocks for s in block.body.roster}


def _changed(block: Block, last: Block | None) -> str:
    """Say what a block that merges nothing changed; empty for a merge, and where the block before is not at hand."""
    body = block.body
    if last is None or body.kind == "merge":
        return ""
    now, then = ({s.member.name for s in b.roster} for b in (body, last.body))
    said = [f"{name} admitted" for name in sorted(now - then)] + [f"{name} revoked" for name in sorted(then - now)]
    if body.epoch != last.body.epoch:
        said.append(f"the swarm's key renewed (epoch {body.epoch})")
    return ", ".join([*said, "the swarm ended by its members"] if body.kind == "end" else said)


def _block_json(block: Block, last: Block | None, names: Mapping[bytes, str]) -> dict[str, Any]:
    body = block.body
    return {
        "height": body.height,
        "digest": block.digest.hex(),
        "previous": body.previous.hex(),
        "kind": body.kind,
        "view": block.view if block.certificate else None,
        "round": body.round,
        "epoch": body.epoch,
        "changed": _changed(block, last),
        "proposal": body.proposal.hex(),
        "members": [standing.member.name for standing in body.roster],
        "f": body.f,
        "included": [names.get(author, author.hex()) for author, _ in body.included],
        "left_out": {names.get(author, author.hex()): reason for author, _, reason in body.left_out},
        "state": body.state.hex(),
        "about": dict(body.about),
        "commits": len(block.certificate) or None,
        "finished": body.finished,
        "failure": body.failure,
    }
