"""Where a NATS cluster is, and how this site may reach it.

Rules: an address with a `tls://` or `wss://` server is never spoken to in the clear, whatever the server says. Trust is
the text of the certificates themselves: of the founding hospitals' servers, or of the authority that signed them.
"""

import random
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from swarmcell.engine.nats_card import ServerCard
from swarmcell.errors import ConfigError

_SCHEMES = ("tls", "nats", "wss", "ws")
REPLICAS = (1, 3, 5)


@dataclass(frozen=True, kw_only=True)
class NatsAddress:
    """How to reach a cluster.

    Attributes
    ----------
    servers
        `tls://host:port` (or `wss://`, or `nats://` and `ws://` in the clear), in the order in which they are tried.
    replicas
        Servers that keep the swarm's stream: 1, 3 or 5.
    trust
        PEM text of the certificates to trust; empty takes the machine's own authorities.
    certificate, key
        Paths of a client certificate and its key, where the cluster asks for one.
    proxy
        `http://[user:password@]host:port` of a proxy that knows CONNECT; empty dials directly.
    """

    servers: tuple[str, ...]
    replicas: int = 3
    trust: str = ""
    certificate: str = ""
    key: str = ""
    proxy: str = ""

    def __post_init__(self) -> None:
        """Refuse an address that cannot be dialled."""
        schemes = {urlsplit(server).scheme for server in self.servers}
        faults = {
            "no server": not self.servers,
            f"{self.servers}: expected tls://host:port, nats://, wss:// or ws://": not schemes <= set(_SCHEMES),
            f"{self.servers}: all servers must be of one scheme": len(schemes) > 1,
            f"replicas = {self.replicas}, expected one of {REPLICAS}": self.replicas not in REPLICAS,
            "a client certificate needs its key, and a key its certificate": bool(self.certificate) != bool(self.key),
            f"proxy {self.proxy!r}: expected http://host:port": bool(self.proxy)
            and (urlsplit(self.proxy).scheme != "http" or not urlsplit(self.proxy).port),
        }
        for fault, present in faults.items():
            if present:
                msg = f"the engine's address: {fault}. Mend [engine] in the site file."
                raise ConfigError(msg)

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS is demanded."""
        return urlsplit(self.servers[0]).scheme in {"tls", "wss"}

    def tls(self) -> ssl.SSLContext | None:
        """Return what to trust and to show; `None` where all is in the clear.

        Raises
        ------
        ConfigError
            If a certificate or key cannot be read.
        """
        if not self.is_encrypted:
            return None
        try:
            context = ssl.create_default_context(cadata=self.trust or None)
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ValueError) as error:
            msg = f"the engine's certificates cannot be read ({error}). Check `trust`, `certificate` and `key`."
            raise ConfigError(msg) from error
        return context


def of_cards(cards: Sequence[ServerCard], *, nearest: str = "", websocket: bool = False) -> tuple[tuple[str, ...], str]:
    """Return the servers and the trust that a cluster's cards give.

    The server of the site `nearest` is tried first; the others in random order, so that sites spread over them.
    """
    others = [card for card in cards if card.site != nearest]
    random.shuffle(others)
    ordered = [card for card in cards if card.site == nearest] + others
    servers = tuple(card.url(websocket=websocket) for card in ordered)
    return servers, "".join(card.certificate for card in cards)
