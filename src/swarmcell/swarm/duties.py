"""What a member does apart from voting: keys, catching up, contributing, waiting, proposing, checkpoints."""

from swarmcell.swarm.actions import (
    Action,
    BringKey,
    Contribute,
    Merge,
    Open,
    OpenKey,
    Resend,
    Sign,
    WrapKey,
    WriteCheckpoint,
)
from swarmcell.swarm.blocks import Block, Merged, Unknown, merge_key
from swarmcell.swarm.checkpoints import Stored
from swarmcell.swarm.me import Me, contribution_key
from swarmcell.swarm.payloads import Accept, Acknowledge, Approve, Patience, Wrap
from swarmcell.swarm.proposals import fault_of
from swarmcell.swarm.state import State
from swarmcell.swarm.views import retrace
from swarmcell.swarm.voting import open_key

CHECKPOINT_BLOCKS = 10
RESEND_MS = 2_000  # chosen: an append takes milliseconds, an engine's new leader a few seconds
RESEND_MAX = 256  # entries at once
STRETCH_MAX = 10  # patience with a slow but living member grows at most so much


def resend(me: Me, now_ms: int) -> list[Action]:
    """Append own entries again that the log does not show."""
    if not me.unseen or me.unseen_since_ms is None or now_ms - me.unseen_since_ms < RESEND_MS:
        return []
    return [Resend(tuple(sorted(me.unseen)[:RESEND_MAX]))]


def accept(state: State, me: Me) -> list[Action]:
    """Accept the genesis, with the first key in the log that can be opened, or with a fresh one."""
    if ("accept", 0) in me.done or all(member.signing_key != me.key for member in state.genesis.founders):
        return []
    wanted = [payload for _, payload in state.founding.bringing()]
    if state.last is not None:
        return [Sign(Accept(key_digest=state.key_digest))] if state.key_digest in me.keys else []
    for bringing in wanted:
        if bringing.key_digest in me.keys:
            return [Sign(Accept(key_digest=bringing.key_digest))]
        if bringing.key_digest not in me.refused:
            key = open_key(state, me, 0, bringing.key_digest)
            return [key] if isinstance(key, OpenKey) else []
    return [BringKey()]


def keys(state: State, me: Me) -> list[Action]:
    """Open the keys that the open round may be sealed with, or at height 0 every one that was brought."""
    if state.last is None:
        wanted = {payload.key_digest: 0 for _, payload in state.founding.bringing()}
    else:
        wanted = {block.body.key_digest: block.body.epoch for block in state.late_blocks()}
    found = [open_key(state, me, epoch, digest) for digest, epoch in wanted.items()]
    opening = [key for key in found if isinstance(key, OpenKey) and key.wraps]
    if state.last is None or any(key.key_digest == state.key_digest for key in opening):
        return [*opening]
    return [*opening, *_ask(state, me)]


def _ask(state: State, me: Me) -> list[Action]:
    """Ask for the present key if nothing at hand holds it: the log was trimmed, or the key sealed wrongly."""
    if state.finished or state.key_digest in me.keys or ("ask", state.key_digest) in me.done:
        return []
    return [Sign(Wrap(key_digest=state.key_digest, wraps=()))]


def answer(state: State, me: Me, now_ms: int) -> list[Action]:
    """Seal the present key for members who asked, in turn, until more have than may lie."""
    if state.key_digest not in me.keys:
        return []
    for author in state.founding.asked.get(state.key_digest, ()):
        if author == me.key or author not in state.roster or ("wrap", state.key_digest + author) in me.done:
            continue
        answered = len(state.founding.sealed_by(state.key_digest, author) & state.roster.members.keys())
        turn = sorted(state.roster.members.keys() - {author}).index(me.key)
        since = me.asked_ms.get((state.key_digest, author), now_ms)
        if answered <= state.roster.f + 1 and now_ms - since >= turn * state.genesis.patience_ms // 4:
            return [WrapKey(key_digest=state.key_digest, member=state.roster.members[author])]
    return []


def catch_up(state: State, me: Me) -> list[Action]:
    """Merge, or open from a checkpoint, the states of final blocks that are not at hand."""
    if state.last is None or state.last.body.state in me.states:
        return []
    height = state.last.body.height
    while height - 1 in state.blocks and state.blocks[height - 1].body.state not in me.states:
        height -= 1
    for stored in usable_checkpoints(state):
        if stored.payload.height >= height and stored.entry.digest not in me.refused:
            return [_open(state, stored)]
    merge = _merge_again(state, state.blocks[height], me)
    return [merge] if merge is not None and merge.key not in me.refused and merge.key not in me.outcomes else []


def diverged(state: State, me: Me) -> str:
    """Say whether this site's own merge of the last block is not the one that is final."""
    if state.last is None or state.last.body.state in me.states:
        return ""
    merge = _merge_again(state, state.last, me)
    if merge is None or merge.key not in me.outcomes:
        return ""
    return (
        f"block {state.last.body.height} is final, and this site's own merge of it gives another state: "
        "its arithmetic, memory or software differs. Compare versions: swarmcell doctor."
    )


def _merge_again(state: State, block: Block, me: Me) -> Merge | None:
    body = block.body
    if body.height == 0:
        return Merge(key=merge_key(0, b"", ()), height=0, round=0, base=b"", offers=())
    before = state.blocks.get(body.height - 1)
    if before is None or body.kind != "merge" or before.body.state not in me.states:
        return None
    found = retrace(state, body)
    if isinstance(found, Unknown) or not isinstance(found, Merged):
        return None
    key = merge_key(body.height, before.body.state, found.offers)
    return Merge(key=key, height=body.height, round=body.round, base=before.body.state, offers=found.offers)


def usable_checkpoints(state: State) -> list[Stored]:
    """Return the checkpoints of final blocks that are whole in the log, the newest first."""
    return [
        stored
        for stored in state.checkpoints.stored(state.rounds.chunks)
        if stored.payload.height in state.blocks
        and state.blocks[stored.payload.height].content == stored.payload.content
    ]


def _open(state: State, stored: Stored) -> Open:
    block = state.blocks[stored.payload.height]
    return Open(
        digest=stored.entry.digest,
        author=stored.entry.author,
        height=stored.payload.height,
        epoch=stored.payload.epoch,
        state=block.body.state,
        chunks=stored.chunks,
    )


def contribute(state: State, me: Me, now_ms: int) -> list[Action]:
    """Train for the open round, or say that the others have been waited for long enough."""
    body, closing = state.body, state.closing
    number = state.rounds.number
    if body is None or closing is None:
        return []
    if state.candidate is not None:
        return _lend_patience(state, me, now_ms)
    free = ("contribution", number) not in me.done and contribution_key(number) not in me.refused
    if free and body.state in me.states and body.key_digest in me.keys:
        return [Contribute(round=number, epoch=body.epoch, base=body.state)]
    if closing.enough and ("patience", number) not in me.done and not free:
        since = me.since.get(("ready", state.height, 0), now_ms)
        if now_ms - since >= patience_ms(state, me):
            return [Sign(Patience(round=number))]
    return []


def _lend_patience(state: State, me: Me, now_ms: int) -> list[Action]:
    """Say that the round was waited for long enough, where it closed here and, it seems, not elsewhere.

    A member that writes too much may be counted by some and ignored by others, who wait for it: they need a quorum.
    """
    number, since = state.rounds.number, me.since.get(("view", state.height, 0), now_ms)
    waited = now_ms - since >= state.genesis.patience_ms
    return [Sign(Patience(round=number))] if waited and ("patience", number) not in me.done else []


def patience_ms(state: State, me: Me) -> int:
    """Return how long to wait for awaited members beyond the others.

    A member that is up but slow is given up to twice what the last rounds took, so that it gets in after a few.
    """
    shortest = state.genesis.patience_ms
    awaited = state.closing.awaited if state.closing else set()
    if not awaited & me.up:
        return shortest
    lags = [lag for height, lag in me.lags_ms.items() if height >= state.height - 5]
    return min(max([shortest, *(2 * lag for lag in lags)]), STRETCH_MAX * shortest)


def propose(state: State, me: Me) -> list[Action]:
    """Sign what the operator decided, as long as it can follow."""
    if state.last is None or state.finished:
        return []
    asked: list[Action] = [
        Sign(change)
        for change in me.to_propose
        if not me.has_proposed(change) and not fault_of(change, state.roster, state.key_digest)
    ]
    known = [p for p in sorted(me.to_approve) if p in state.proposals.open and ("approve", p) not in me.done]
    return asked[:1] or [Sign(Approve(proposal=proposal)) for proposal in known[:1]]


def checkpoint(state: State, me: Me, now_ms: int) -> list[Action]:
    """Write the checkpoint that is due, in turn, and acknowledge the newest that is there."""
    if state.last is None:
        return []
    # one that this site cannot open is no checkpoint: a hostile member's must not keep others from writing theirs
    there = [stored for stored in usable_checkpoints(state) if stored.entry.digest not in me.refused]
    if there:
        newest = there[0]
        done = ("acknowledge", newest.payload.height) in me.done
        if not done and newest.entry.digest not in me.opened:
            return [_open(state, newest)]
        if not done:
            height = newest.payload.height
            return [Sign(Acknowledge(height=height, checkpoint=newest.entry.digest))]
    due = _due(state, state.last)
    written = due is None or any(stored.payload.height >= due.body.height for stored in there)
    done = due is not None and (("checkpoint", due.body.height) in me.done or due.body.state in me.refused)
    if due is None or written or done or due.body.state not in me.states:
        return []
    return _write(state, me, due, state.last.body.epoch, now_ms)


def _due(state: State, last: Block) -> Block | None:
    """Return the latest block of which a checkpoint must be written."""
    height = last.body.height
    if not state.finished:
        height -= height % CHECKPOINT_BLOCKS
    return state.blocks.get(height) if height > 0 else None


def _write(state: State, me: Me, due: Block, epoch: int, now_ms: int) -> list[Action]:
    authors = [author for author, _ in due.body.included] or sorted(state.roster.members)
    turn = authors.index(me.key) if me.key in authors else len(authors)
    since = me.since.get(("height", due.body.height + 1, 0), now_ms)
    if now_ms - since < turn * state.genesis.patience_ms or state.key_digest not in me.keys:
        return []
    return [
        WriteCheckpoint(
            height=due.body.height,
            epoch=epoch,
            state=due.body.state,
            content=due.content,
            certificate=due.certificate,
        )
    ]
