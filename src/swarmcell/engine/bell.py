"""Bells: how one process wakes the others of its machine within milliseconds, without busy polling.

Rules: every listener binds a datagram socket in a shared folder; whoever has news sends one byte to each. A bell may
ring for nothing, and a ring may get lost (a full buffer, another user's socket): whoever waits also looks by itself
after `timeout_s`. Sockets of dead processes are swept by the next ring.
"""

import asyncio
import contextlib
import itertools
import os
import socket
from pathlib import Path

_SOCKET_PATH_MAX = 100  # bytes; Linux allows 107, macOS 103
_numbers = itertools.count()


class Bell:
    """One listener in a folder; `ring` wakes all listeners of that folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._name = f"{os.getpid()}.{next(_numbers)}.sock"
        self._rung = asyncio.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(_address(self._folder, self._handle, self._name))
        asyncio.get_running_loop().add_reader(self._socket, self._on_ring)

    def _on_ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(16):
                pass
        self._rung.set()

    def forget(self) -> None:
        """Forget rings so far; look for news after this, then `wait`."""
        self._rung.clear()

    async def wait(self, timeout_s: float) -> None:
        """Return at the next ring since `forget`, or after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._rung.wait()

    def close(self) -> None:
        """Stop listening; idempotent."""
        if self._socket.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        (self._folder / self._name).unlink(missing_ok=True)
        os.close(self._handle)


def ring(folder: Path) -> None:
    """Wake all listeners of a folder; never waits, never raises."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for path in folder.glob("*.sock"):
            _send(sender, folder, handle, path.name)
    os.close(handle)


def _send(sender: socket.socket, folder: Path, handle: int, name: str) -> None:
    try:
        sender.sendto(b"!", _address(folder, handle, name))
    except ConnectionRefusedError:  # its process is dead
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    except OSError:  # just gone, or already full of rings
        return


def _address(folder: Path, handle: int, name: str) -> str:
    """Return a path of the socket that is short enough for the kernel."""
    plain = str(folder / name)
    return plain if len(os.fsencode(plain)) <= _SOCKET_PATH_MAX else f"/proc/self/fd/{handle}/{name}"
