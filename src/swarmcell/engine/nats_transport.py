"""How bytes reach a NATS server: TCP with TLS, or WebSocket; directly, or through a proxy that knows CONNECT.

Rules: where TLS is demanded nothing is written before the handshake, so a server or a box in the middle cannot talk a
peer out of it. `nats-py` owns the protocol; this module gives it its transports. Waits are `asyncio.timeout`: in Python
3.11 `asyncio.wait_for` may swallow a cancellation (bpo-37658).
"""

import asyncio
import base64
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import ParseResult, SplitResult, unquote, urlsplit

from nats.aio.client import Client, Srv
from nats.aio.transport import TcpTransport, WebSocketTransport

from swarmcell.engine.nats_address import NatsAddress
from swarmcell.errors import ConfigError

_PROXY_ANSWER_BYTES_MAX = 64 * 1024
_CLOSE_WAIT_S = 2.0


class DiallingClient(Client):
    """A NATS client that dials as an address says."""

    def __init__(self, address: NatsAddress) -> None:
        super().__init__()
        self._address = address

    async def _connect_to_server(self, server: Srv) -> None:
        if self._transport is None:
            kind = _WebSocket if server.uri.scheme in {"ws", "wss"} else _Tcp
            self._transport = kind(self._address)
        await super()._connect_to_server(server)


class _TlsProtocol(asyncio.StreamReaderProtocol):
    """A stream over TLS, which ends whole: there is no half-closed TLS connection."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


class _Tcp(TcpTransport):
    """TCP, through the proxy if there is one; silent until TLS stands where it is demanded."""

    def __init__(self, address: NatsAddress) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._address = address
        self._is_private = False

    def __bool__(self) -> bool:
        return True

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: float) -> None:
        self._is_private = not self._address.is_encrypted
        async with asyncio.timeout(connect_timeout):
            reader, writer = await _open(uri, self._address.proxy, buffer_size)
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: float
    ) -> None:
        if self._io_writer is None:
            msg = "not connected"
            raise ConnectionError(msg)
        reader = asyncio.StreamReader(limit=buffer_size)
        protocol = _TlsProtocol(reader)
        loop = asyncio.get_running_loop()
        host = uri if isinstance(uri, str) else uri.hostname
        async with asyncio.timeout(connect_timeout):
            transport = await loop.start_tls(self._io_writer.transport, protocol, ssl_context, server_hostname=host)
        if transport is None:
            msg = "the server hung up during the TLS handshake"
            raise ConnectionError(msg)
        self._io_reader, self._io_writer = reader, asyncio.StreamWriter(transport, protocol, reader, loop)
        self._is_private = True

    def write(self, payload: bytes) -> None:
        if not self._is_private:
            msg = "the server offers no TLS, which its address demands"
            raise ConnectionError(msg)
        super().write(payload)  # type: ignore[no-untyped-call]

    async def wait_closed(self) -> None:
        """Wait for the end, but not for a peer that never answers."""
        async with asyncio.timeout(_CLOSE_WAIT_S):
            await super().wait_closed()  # type: ignore[no-untyped-call]


async def _open(uri: ParseResult, proxy: str, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if not proxy:
        return await asyncio.open_connection(uri.hostname, uri.port, limit=limit)
    by = urlsplit(proxy)
    reader, writer = await asyncio.open_connection(by.hostname, by.port, limit=_PROXY_ANSWER_BYTES_MAX)
    try:
        writer.write(_connect_request(f"{uri.hostname}:{uri.port}", by))
        answer = await reader.readuntil(b"\r\n\r\n")
        status = answer.split(b"\r\n")[0].decode("latin-1")
        if status.split(" ")[1:2] != ["200"]:
            msg = f"the proxy {by.hostname}:{by.port} refuses: {status}"
            raise ConnectionError(msg)
    except asyncio.IncompleteReadError as error:
        writer.close()
        msg = f"the proxy {by.hostname}:{by.port} hung up"
        raise ConnectionError(msg) from error
    except BaseException:
        writer.close()
        raise
    return reader, writer


def _connect_request(target: str, proxy: SplitResult) -> bytes:
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.username:
        login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class _WebSocket(WebSocketTransport):
    """WebSocket, through the proxy if there is one."""

    def __init__(self, address: NatsAddress) -> None:
        try:
            super().__init__()
        except ImportError as error:
            msg = "WebSocket needs aiohttp. Install it: pip install 'swarmcell[websocket]', or dial tls:// instead."
            raise ConfigError(msg) from error
        self._proxy = address.proxy or None

    def __bool__(self) -> bool:
        return True

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: float) -> None:
        await self._dial(uri.geturl(), connect_timeout, {})
        self._using_tls = False

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: float,
    ) -> None:
        if self._ws and not self._ws.closed and self._using_tls:
            return
        await self._dial(uri if isinstance(uri, str) else uri.geturl(), connect_timeout, {"ssl": ssl_context})
        self._using_tls = True

    async def _dial(self, url: str, connect_timeout: float, options: Mapping[str, Any]) -> None:
        import aiohttp  # noqa: PLC0415 (an extra: only who dials by WebSocket needs it)

        if self._client is None:
            self._client = aiohttp.ClientSession()
        try:
            async with asyncio.timeout(connect_timeout):
                self._ws = await self._client.ws_connect(url, proxy=self._proxy, max_msg_size=0, **options)
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error)) from error
