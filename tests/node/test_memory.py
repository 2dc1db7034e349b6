"""Facts about what a peer knows when it starts."""

import asyncio
import contextlib
import hashlib
import io
import json
from dataclasses import replace

import pytest
from benchmarks.long_log import GENESIS, IDENTITIES, long_log
from rich.console import Console
from waiting import LIMIT_S, until

from swarmcell.engine.embedded import EmbeddedLog
from swarmcell.errors import EngineError, SwarmError, TamperedError
from swarmcell.node import ledger, memory, peer
from swarmcell.node.identity import verify
from swarmcell.node.ledger import Cursor, Read, Snapshot
from swarmcell.node.memory import recall
from swarmcell.node.peer import Peer
from swarmcell.node.task import Contribution, Merge
from swarmcell.node.terms import Terms
from swarmcell.report import swarm_tables
from swarmcell.swarm.adopt import adopt
from swarmcell.swarm.decide import decide
from swarmcell.swarm.entries import decode_entry
from swarmcell.swarm.me import Me
from swarmcell.swarm.payloads import Checkpoint, Wrap
from swarmcell.swarm.state import State
from swarmcell.workflows.swarm.published import TRIMMED, published_in
from swarmcell.workflows.swarm.view import Onlooker, ledger_view

HASTY = replace(GENESIS, patience_ms=200)
KEY = IDENTITIES["site-b"].key
ROUNDS = 25


@pytest.fixture(scope="session")
def raws():
    return list(long_log(ROUNDS))


@pytest.fixture(scope="session")
def filled(tmp_path_factory, raws):
    """Return the ledger that a peer has filled to the end of a log, in batches, with the snapshots that it took."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    with ledger.opened(path) as opened:
        known = recall(opened, GENESIS, Me(KEY))
        for first in range(0, len(raws), 40):
            reads, own, blocks = [], [], []
            for at, raw in enumerate(raws[first : first + 40], start=first + 1):
                entry = decode_entry(raw)
                if entry.author == KEY:
                    own.append((entry.sequence, raw))
                    known.me.remember(entry)
                applied = known.state.apply(at, raw)
                known.me.meet(entry)
                reads.append(Read(at, raw, at))
                blocks += map(memory.kept_block, applied.blocks)
            known.position = at
            known.me.observe(known.state, at)
            opened.store_own(own)
            opened.store(reads, Cursor(at, hashlib.sha256(raw).digest()), blocks)
            if known.is_due:
                opened.store_snapshot(memory.remembered(known))
    return path


@pytest.fixture
def book(tmp_path, filled):
    copy = tmp_path / "ledger.sqlite"
    copy.write_bytes(filled.read_bytes())
    with ledger.opened(copy) as opened:
        yield opened


def forget_snapshot(book):
    with book._transaction() as connection:
        connection.execute("DELETE FROM snapshots")


def facts(known):
    """Return what a peer knows, and what it would do."""
    state, me = known.state, known.me
    me.observe(state, 0)
    vast = {"kept": state.blocks[state.height - 1].digest, "round": state.rounds.number, "position": known.position}
    mine = {
        name: getattr(me, name) for name in ("sequence", "previous", "digests", "views", "called", "unseen", "stranger")
    }
    late = {"attested", "committed"}
    votes = {name: {k: v for k, v in getattr(me, name).items() if k[0] > state.height - 5} for name in late}
    marks = {mark for mark in me.done if not isinstance(mark[1], int) or mark[1] > state.height - 5}
    return vast | mine | votes, marks, decide(state, me, 0)


def test_a_start_from_a_snapshot_knows_and_does_what_one_from_all_entries_does(book):
    quick = recall(book, GENESIS, Me(KEY))
    assert 20 <= quick.saved_height < 26
    forget_snapshot(book)
    whole = recall(book, GENESIS, Me(KEY))
    assert whole.saved_height == 0
    assert facts(quick) == facts(whole)
    assert whole.state.rounds.number == ROUNDS + 1


def test_a_start_reads_no_entry_before_the_snapshot(book, monkeypatch):
    asked = []
    entries = ledger.Ledger.entries
    monkeypatch.setattr(ledger.Ledger, "entries", lambda self, after=0: asked.append(after) or entries(self, after))
    known = recall(book, GENESIS, Me(KEY))
    assert asked == [book.snapshot().position]
    assert 0.7 * known.position < asked[0] < known.position


def test_a_trimmed_ledger_is_enough_with_its_snapshot_and_nothing_without(book):
    before = facts(recall(book, GENESIS, Me(KEY)))
    size = len(list(book.entries()))
    book.trim(10**9)
    assert len(list(book.entries())) < 0.3 * size, "only what the snapshot holds may go, and that must"
    assert facts(recall(book, GENESIS, Me(KEY))) == before
    book.store_snapshot(Snapshot(book.snapshot().position, 0, b"of another version"))
    with pytest.raises(SwarmError, match="entries before it are trimmed"):
        recall(book, GENESIS, Me(KEY))


def test_a_trimmed_ledger_shows_what_it_has_and_says_what_it_no_longer_has(book, tmp_path):
    path = tmp_path / "ledger.sqlite"
    whole, mine = ledger_view(GENESIS, path), published_in(GENESIS.digest, path)
    book.trim(10**9)
    seen, left = ledger_view(GENESIS, path), published_in(GENESIS.digest, path)
    assert [block.digest for block in seen.blocks] == [block.digest for block in whole.blocks]
    assert [one.digest for one in left] == [one.digest for one in mine], "by digest each one is still known"
    gone = [one for one in left if one.kind == TRIMMED]
    assert 0 < len(gone) < len(mine)
    assert [one for one in left if one.kind != TRIMMED] == [*mine[len(gone) :]]
    text = printed(swarm_tables.blocks(seen), swarm_tables.mine(left))
    assert "of blocks 0 to " in text
    assert "their bytes are not counted" in text
    assert "trimmed" not in printed(swarm_tables.blocks(whole), swarm_tables.mine(mine))


def test_an_own_entry_that_is_gone_and_was_not_trimmed_is_a_changed_file(book, tmp_path):
    with book._transaction() as connection:
        connection.execute("DELETE FROM entries WHERE digest IN (SELECT digest FROM own WHERE sequence = 5)")
    with pytest.raises(TamperedError, match="own entry 5 is gone"):
        published_in(GENESIS.digest, tmp_path / "ledger.sqlite")


def printed(*shown):
    console = Console(width=400, record=True, file=io.StringIO())
    for one in shown:
        console.print(one)
    return console.export_text()


@pytest.mark.parametrize("content", [b"", b"junk", b"\xa1\x65state\x40", b"\xa2\x62me\xa0\x65state\x41x"])
def test_a_snapshot_that_cannot_be_read_costs_time_only(book, content):
    kept = book.snapshot()
    book.store_snapshot(Snapshot(kept.position, kept.sequence, content))
    assert recall(book, GENESIS, Me(KEY)).state.rounds.number == ROUNDS + 1


def test_the_states_of_late_blocks_outlive_any_number_of_candidates(book):
    states = [memory.kept_block(block)[1] for block in recall(book, GENESIS, Me(KEY)).state.blocks.values()]
    with book._transaction() as connection:
        connection.execute("DELETE FROM states")
        connection.executemany("INSERT INTO states (digest, content) VALUES (?, x'00')", [(s,) for s in states])
    for i in range(30):
        book.store_state(b"candidate %d" % i)
    kept = set(book.states())
    assert set(states[-3:]) <= kept
    assert states[[b.body.height for b in recall(book, GENESIS, Me(KEY)).state.blocks.values()].index(20)] in kept
    assert len(kept) <= ledger.STATES_KEPT + 4


class Counting:
    """Counts the rounds."""

    def __init__(self, rounds):
        self.rounds = rounds

    def start(self):
        return b"0"

    def contribute(self, state, stop):
        return Contribution(kind="update", parameters=b"one" + state, n_cells=1, n_donors=1)

    def merge(self, state, contributions):
        number = json.loads(state) + 1
        return Merge(state=json.dumps(number).encode(), finished=number == self.rounds)

    def describe(self, state):
        return {"stage": "counting", "round": json.loads(state)}


@contextlib.asynccontextmanager
async def peer_of(name, folder, rounds, terms, told):
    log = EmbeddedLog(folder / "swarm.log")
    with ledger.opened(folder / f"{name}.sqlite") as opened:
        yield Peer(IDENTITIES[name], HASTY, log, opened, Counting(rounds), lambda *e: told.append(e), terms)
    await log.close()


async def take_part(name, folder, rounds, terms=Terms(), told=None):  # noqa: B008
    async with peer_of(name, folder, rounds, terms, [] if told is None else told) as one:
        return await one.run()


async def look(folder):
    onlooker = Onlooker(HASTY, EmbeddedLog(folder / "swarm.log"))
    try:
        return await onlooker.look()
    finally:
        await onlooker.close()


def test_a_founder_that_comes_after_the_log_was_trimmed_goes_on_from_a_checkpoint(tmp_path, monkeypatch):
    """Two of three run 25 rounds and trim; the third has read nothing, and its swarm key stands in trimmed entries."""
    monkeypatch.setattr(peer, "LINGER_S", 3.0)
    small = Terms(history_bytes_max=0)
    told = []

    async def late():
        log = EmbeddedLog(tmp_path / "swarm.log")
        async for _ in log.follow(1):
            if (await log.health()).first > 1:
                break
        kinds = [decode_entry(raw).kind for _, raw in await log.read(1)]
        await log.close()
        assert "checkpoint" in kinds
        assert "accept" not in kinds
        return await take_part("site-c", tmp_path, 60, told=told)

    async def scenario():
        async with asyncio.timeout(LIMIT_S):
            return await asyncio.gather(
                take_part("site-a", tmp_path, 60, small), take_part("site-b", tmp_path, 60, small), late()
            )

    ended = asyncio.run(scenario())
    assert [end.state for end in ended] == [b"60"] * 3
    assert any(event == "engine_mended" and "checkpoint" in about["what"] for event, about in told)
    assert ended[2].bodies[0].height >= 10
    with ledger.opened(tmp_path / "site-c.sqlite") as book:
        signed = [decode_entry(raw) for raw in book.own()]
    assert Wrap(key_digest=ended[2].bodies[0].key_digest, wraps=()) in [entry.payload for entry in signed]
    seen = asyncio.run(look(tmp_path))
    assert (seen.finished, seen.height) == (True, 61)
    assert seen.blocks[0].body.height >= 10
    names = {s.member.signing_key: s.last_round for s in ended[0].bodies[-1].roster}
    assert names[IDENTITIES["site-c"].key] > 10, "the late one took part in no round"


def test_reading_a_whole_log_again_takes_up_nothing_that_the_ledger_holds(book, raws, tmp_path, monkeypatch):
    """Whatever it costs to judge an entry is paid once, not again after an engine's loss."""
    taken = []
    apply = State.apply
    monkeypatch.setattr(State, "apply", lambda self, at, raw: taken.append(raw) or apply(self, at, raw))

    async def scenario():
        log = EmbeddedLog(tmp_path / "swarm.log")
        await log.append([*raws[1:], raws[0], b"junk"])
        one = Peer(IDENTITIES["site-b"], GENESIS, log, book, Counting(99), lambda *_: None)
        one._recall()
        taken.clear()
        running = asyncio.create_task(one._feed.run())
        async with asyncio.timeout(LIMIT_S):
            await one._feed.caught_up.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await log.close()

    asyncio.run(scenario())
    assert taken == [b"junk"]
    assert book.lost(1, 1) == []


def past_the_trimmed(book, known):
    """Let a peer go on from the checkpoint of block 20 of the long log."""
    entries = [decode_entry(raw) for _, raw in book.entries()]
    said = next(e.payload for e in entries if isinstance(e.payload, Checkpoint) and e.payload.height == 20)
    return memory.jump(known, adopt(GENESIS, verify, said), book, Cursor(0, b"")).me.stranger


@pytest.mark.parametrize("site", ["site-a", "site-b", "site-c"])
def test_a_new_ledger_of_an_identity_that_signed_what_is_trimmed_stops_it(book, tmp_path, site):
    with ledger.opened(tmp_path / "new.sqlite") as new:
        known = recall(new, GENESIS, Me(IDENTITIES[site].key))
        assert "the ledger is new" in past_the_trimmed(book, known)


def test_a_peer_whose_ledger_holds_what_it_signed_goes_on_past_what_is_trimmed(book):
    assert past_the_trimmed(book, recall(book, GENESIS, Me(KEY))) == ""


def test_a_log_that_begins_beyond_all_known_members_is_not_followed(tmp_path):
    """Whoever trims a log cannot make a newcomer believe a checkpoint that nobody it knows has signed."""
    told = []

    async def scenario():
        log = EmbeddedLog(tmp_path / "swarm.log")
        await log.append([b"junk"] * 5)
        await log.trim(4)
        await log.close()
        async with peer_of("site-a", tmp_path, 3, Terms(), told) as one:
            running = asyncio.create_task(one.run())
            await until(lambda: told or running.done())
            await asyncio.sleep(1)  # it goes on trying
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())
    assert any(event == "engine_away" and "vouch for no checkpoint" in about["why"] for event, about in told)
    with ledger.opened(tmp_path / "site-a.sqlite") as book:
        assert list(book.own()) == []


def test_no_checkpoint_is_found_among_junk(tmp_path):
    async def scenario():
        log = EmbeddedLog(tmp_path / "swarm.log")
        await log.append([b"junk"])
        with ledger.opened(tmp_path / "x.sqlite") as book:
            assert await memory.newest_checkpoint(log, recall(book, GENESIS, Me(KEY)).state) is None
        await log.close()

    asyncio.run(scenario())
    assert issubclass(EngineError, SwarmError)
