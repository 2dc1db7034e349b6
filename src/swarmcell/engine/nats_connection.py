"""One connection to a NATS cluster, reopened for ever, and its requests, each with a stated longest wait.

Rules: what takes a while (an election, a server that restarts) is retried here with back-off for at most
`CALL_WAIT_S`; then an `EngineError` says what was tried and what was last heard, and the peer, which never gives up,
tries again. What no waiting can mend (a refused key, a forbidden subject) is an `EngineError` at once.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import Client

from swarmcell.engine.nats_address import NatsAddress
from swarmcell.engine.nats_keys import user_seed
from swarmcell.engine.nats_transport import DiallingClient
from swarmcell.errors import EngineError

CALL_WAIT_S = 20.0
CONNECT_WAIT_S = 10.0
_DIAL_WAIT_S = 5
# What was sent to a dead leader is lost, and an election takes some 4 s: short waits, so that little is lost after it.
_ANSWER_WAIT_S = (1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 5.0, 10.0)
_BACKOFF_S = (0.05, 0.1, 0.2, 0.3)
_PING_EVERY_S = 4  # two unanswered pings end a connection that only looks open
_REFUSED = "Ask its hospitals to add this site's card: swarmcell engine config --member"
_UNREACHABLE = "Check [engine] in the site file, the network, and that the servers run."
_REMEDIES = {
    "certificate is not yet valid": "This machine's clock is days behind: set it.",
    "certificate has expired": (
        "Set this machine's clock if it is ahead; else ask that server's hospital for a new engine card."
    ),
}
T = TypeVar("T")


class ApiError(Exception):
    """JetStream's refusal of a request: its code (`code`) and its text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Forbidden(ApiError):  # noqa: N818 (a kind of refusal)
    """The server forbids this site the subject."""


Unsettled = (nats.errors.Error, OSError, TimeoutError, ApiError)


class Connection:
    """A connection that opens at first use; `generation` counts its reopenings."""

    def __init__(self, address: NatsAddress, engine_secret: bytes | None, *, inbox: str) -> None:
        self._address = address
        self._seed = user_seed(engine_secret) if engine_secret else None
        self._inbox = inbox
        self._client: Client | None = None
        self._opening = asyncio.Lock()
        self._heard = ""
        self._forbidden: dict[str, float] = {}
        self._on_lost: set[Callable[[], None]] = set()
        self.on_open: Callable[[Client], Awaitable[None]] | None = None

    # -- opening -----------------------------------------------------------------------------------------------------

    async def client(self) -> Client:
        """Return the open connection.

        Raises
        ------
        EngineError
            If no server can be reached within `CONNECT_WAIT_S`, or the cluster refuses this site.
        """
        async with self._opening:
            if self._client is None or self._client.is_closed:
                self._client = await self._open()
                if self.on_open is not None:
                    await self.on_open(self._client)
            if not self._client.is_connected:
                await self._await_reconnection(self._client)
            return self._client

    async def _open(self) -> Client:
        client = DiallingClient(self._address)
        refused = asyncio.Event()

        async def note(error: Exception) -> None:
            self._note(error)
            if _is_refusal(str(error)):
                refused.set()

        dialling = asyncio.ensure_future(self._dial(client, note))
        refusal = asyncio.ensure_future(refused.wait())
        await asyncio.wait({dialling, refusal}, timeout=CONNECT_WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        refusal.cancel()
        if dialling.done() and dialling.exception() is None:
            return client
        await cancel(dialling)
        await _end(client)
        raise self._unreachable(refused=refused.is_set())

    async def _dial(self, client: Client, note: Callable[[Exception], Awaitable[None]]) -> None:
        await client.connect(
            servers=list(self._address.servers),
            error_cb=note,
            disconnected_cb=self._lost,
            closed_cb=self._lost,
            reconnected_cb=self._lost,
            tls=self._address.tls(),
            nkeys_seed_str=self._seed,
            inbox_prefix=self._inbox,
            dont_randomize=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.25,  # type: ignore[arg-type]
            connect_timeout=_DIAL_WAIT_S,
            ping_interval=_PING_EVERY_S,
            max_outstanding_pings=2,
        )

    def _unreachable(self, *, refused: bool) -> EngineError:
        what = "refuses this site" if refused else "cannot be reached"
        heard = "Authorization Violation" if refused else self._heard
        last = f" ({heard})" if heard else ""
        remedy = _REFUSED if refused else next((r for said, r in _REMEDIES.items() if said in heard), _UNREACHABLE)
        return EngineError(f"the engine at {', '.join(self._address.servers)} {what}{last}. {remedy}")

    async def _await_reconnection(self, client: Client) -> None:
        until = time.monotonic() + CONNECT_WAIT_S
        while not client.is_connected:
            if client.is_closed or time.monotonic() > until:
                raise self._unreachable(refused=False)
            await asyncio.sleep(0.02)

    def _note(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        self._heard = text.removeprefix("nats: ")
        if "permissions violation" in text.lower() and '"' in text:
            self._forbidden[text.split('"')[1].lower()] = time.monotonic()  # nats-py hands errors on in lower case

    async def _lost(self) -> None:
        for wake in list(self._on_lost):
            wake()

    @contextlib.contextmanager
    def waking(self, wake: Callable[[], None]) -> Any:  # noqa: ANN401 (a context manager)
        """Call `wake` whenever the connection is lost or reopened: what was asked for by then may never come."""
        self._on_lost.add(wake)
        try:
            yield
        finally:
            self._on_lost.discard(wake)

    # -- asking ------------------------------------------------------------------------------------------------------

    async def ask(self, subject: str, content: Mapping[str, Any], *, wait_s: float) -> dict[str, Any]:
        """Ask JetStream's interface once, and return its answer.

        Raises
        ------
        ApiError
            If it refuses.
        nats.errors.Error, OSError, TimeoutError
            If no answer comes.
        """
        message = await self.request(subject, json.dumps(content).encode(), wait_s=wait_s)
        return read_answer(message.data)

    async def request(
        self, subject: str, content: bytes, *, wait_s: float, headers: dict[str, str] | None = None
    ) -> Any:  # noqa: ANN401 (a message of nats-py)
        """Send once and return the answer; see `ask`."""
        client = await self.client()
        began = time.monotonic()
        try:
            return await client.request(subject, content, timeout=wait_s, headers=headers)
        except nats.errors.TimeoutError as error:
            if self._forbidden.get(subject.lower(), 0.0) >= began:
                raise Forbidden(403, self._heard) from error
            raise

    async def insist(self, what: str, attempt: Callable[[float], Awaitable[T]]) -> T:
        """Retry with back-off for at most `CALL_WAIT_S`.

        Parameters
        ----------
        what
            What is tried, for the message.
        attempt
            Tries once; is given how long it may wait, in seconds.

        Raises
        ------
        EngineError
            If it never succeeded, or was forbidden.
        """
        until = time.monotonic() + CALL_WAIT_S
        for number in range(1000):
            try:
                return await attempt(_ANSWER_WAIT_S[min(number, len(_ANSWER_WAIT_S) - 1)])
            except Forbidden as error:
                msg = f"the engine forbids this site to {what} ({error}). Ask its hospitals for the right to."
                raise EngineError(msg) from error
            except Unsettled as error:
                last = error
            if time.monotonic() > until:
                break
            await asyncio.sleep(_BACKOFF_S[min(number, len(_BACKOFF_S) - 1)])
        reason = str(last).removeprefix("nats: ") or type(last).__name__
        msg = f"the engine could not {what} within {CALL_WAIT_S:.0f} s ({reason}). Check that most of its servers run."
        raise EngineError(msg) from last

    async def close(self) -> None:
        """Let go; idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await _end(client)


async def cancel(task: asyncio.Future[Any]) -> None:
    """Cancel a task until it is: the client swallows a cancellation now and then."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)


def read_answer(content: bytes) -> dict[str, Any]:
    """Return JetStream's answer, or raise its refusal as `ApiError`."""
    try:
        answer = json.loads(content)
    except ValueError as error:
        raise ApiError(500, "an answer that is not JSON") from error
    if not isinstance(answer, dict):
        raise ApiError(500, "an answer that is not an object")
    if refusal := answer.get("error"):
        raise ApiError(int(refusal.get("err_code", refusal.get("code", 500))), str(refusal.get("description", "")))
    return answer


def _is_refusal(text: str) -> bool:
    return "authorization violation" in text.lower()


async def _end(client: Client) -> None:
    with contextlib.suppress(*Unsettled):
        await client.close()
