"""Facts about the embedded engine alone: its file, its processes, its bells."""

import asyncio
import os
import stat
import subprocess
import sys

import pytest
from waiting import LIMIT_S

from swarmcell.engine.bell import Bell, ring
from swarmcell.engine.embedded import EmbeddedLog
from swarmcell.errors import EngineError

APPENDER = """
import asyncio, pathlib, sys
from swarmcell.engine.embedded import EmbeddedLog
async def main():
    log = EmbeddedLog(pathlib.Path(sys.argv[1]))
    for i in range(50):
        await log.append([f"{sys.argv[2]}.{i}".encode()])
        print(i, flush=True)
asyncio.run(main())
"""


def run(coroutine):
    return asyncio.run(coroutine)


def test_a_file_that_is_no_log_is_refused(tmp_path):
    path = tmp_path / "swarm.log"
    path.write_bytes(b"not a database" * 100)

    async def scenario():
        log = EmbeddedLog(path)
        with pytest.raises(EngineError, match="not a database"):
            await log.read(1)
        await log.close()

    run(scenario())


def test_a_log_and_all_beside_it_are_for_this_user_only_unless_opened_to_others(tmp_path):
    path = tmp_path / "swarm.log"

    async def modes():
        log = EmbeddedLog(path)
        await log.append([b"sealed"])
        await log.announce(b"a", b"up")
        beside = ("swarm.log", "swarm.log-wal", "swarm.log-shm", "swarm.log.live")
        found = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in beside]
        await log.close()
        return found

    assert run(modes()) == [0o600, 0o600, 0o600, 0o700]
    path.chmod(0o660)
    assert run(modes()) == [0o660, 0o660, 0o660, 0o700]


def test_a_folder_that_cannot_be_written_is_an_engine_error(tmp_path):
    (tmp_path / "file").write_text("")

    async def scenario():
        log = EmbeddedLog(tmp_path / "file" / "swarm.log")
        with pytest.raises(EngineError, match="permissions"):
            await log.append([b"a"])
        with pytest.raises(EngineError):
            await anext(log.follow(1))
        await log.close()

    run(scenario())


def test_who_only_looks_makes_no_file(tmp_path):
    async def scenario():
        log = EmbeddedLog(tmp_path / "later" / "swarm.log")
        found = await log.health()
        assert (found.first, found.last, found.size_bytes) == (1, 0, 0)
        assert await log.read(1) == []
        assert await log.announcements() == {}
        assert not list(tmp_path.iterdir())
        await log.append([b"a"])
        assert await log.read(1) == [(1, b"a")]
        await log.close()

    run(scenario())


def test_a_folder_in_which_no_log_can_be_begun_is_told_before_anything_is_written(tmp_path):
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("root may write anywhere")

    async def scenario():
        log = EmbeddedLog(tmp_path / "swarm.log")
        with pytest.raises(EngineError, match="permissions"):
            await log.health()
        await log.close()

    run(scenario())


@pytest.mark.parametrize("fate", ["deleted", "replaced"])
def test_a_log_lost_under_a_running_peer_is_noticed_and_then_opened_anew(tmp_path, fate):
    path = tmp_path / "swarm.log"

    async def scenario():
        log = EmbeddedLog(path)
        await log.append([b"a"])
        for lost in tmp_path.glob("swarm.log*"):
            if lost.is_file():
                lost.unlink()
        if fate == "replaced":
            other = EmbeddedLog(path)
            await other.append([b"x", b"y"])
            await other.close()
        with pytest.raises(EngineError, match="deleted or replaced"):
            await log.read(1)
        assert len(await log.read(1)) == (2 if fate == "replaced" else 0)
        await log.close()

    run(scenario())


def test_a_follower_learns_of_a_loss_that_another_call_met(tmp_path):
    async def scenario():
        log = EmbeddedLog(tmp_path / "swarm.log")
        await log.append([b"a"])
        follower = log.follow(2)
        waiting = asyncio.ensure_future(anext(follower))
        await asyncio.sleep(0.05)
        for lost in tmp_path.glob("swarm.log*"):
            if lost.is_file():
                lost.unlink()
        with pytest.raises(EngineError):
            await log.append([b"b"])
        await log.append([b"b"])
        with pytest.raises(EngineError, match="deleted or replaced"):
            await asyncio.wait_for(waiting, LIMIT_S)
        await log.close()

    run(scenario())


def test_processes_that_append_at_once_lose_nothing_even_when_one_is_killed(tmp_path):
    path = tmp_path / "swarm.log"
    processes = [
        subprocess.Popen([sys.executable, "-c", APPENDER, path, name], stdout=subprocess.PIPE, text=True)
        for name in ("a", "b", "c")
    ]
    confirmed = [processes[0].stdout.readline() for _ in range(10)]
    processes[0].kill()
    confirmed += processes[0].stdout.read().splitlines()
    for process in processes:
        process.wait()
        process.stdout.close()

    async def entries():
        log = EmbeddedLog(path)
        found = await log.read(1)
        await log.close()
        return found

    found = run(entries())
    assert [position for position, _ in found] == list(range(1, len(found) + 1))
    for name, least in (("a", len(confirmed)), ("b", 50), ("c", 50)):
        own = [raw.decode() for _, raw in found if raw.decode().startswith(name)]
        assert own == [f"{name}.{i}" for i in range(len(own))]
        assert len(own) >= least


def test_a_bell_rings_in_a_folder_whose_path_is_too_long_for_a_socket(tmp_path):
    folder = tmp_path / ("long" * 30) / "bells"

    async def scenario():
        bell = Bell(folder)
        bell.forget()
        ring(folder)
        await asyncio.wait_for(bell.wait(100 * LIMIT_S), LIMIT_S)
        bell.close()
        bell.close()
        assert list(folder.iterdir()) == []

    run(scenario())


def test_the_socket_of_a_dead_process_is_swept(tmp_path):
    import socket

    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    name = tmp_path / "1.0.sock"
    dead.bind(str(name))
    dead.close()
    ring(tmp_path)
    assert not name.exists()


def test_a_sign_of_life_from_before_the_last_boot_counts_for_nothing(tmp_path):
    async def scenario():
        log = EmbeddedLog(tmp_path / "swarm.log")
        await log.announce(b"a" * 32, b"up")
        alive = tmp_path / "swarm.log.live" / f"{'61' * 32}.alive"
        alive.write_bytes(b"\x7f" + alive.read_bytes()[1:])
        assert await log.announcements() == {}
        await log.close()

    run(scenario())
