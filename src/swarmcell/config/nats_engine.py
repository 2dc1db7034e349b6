"""How the site file names a NATS cluster: by the engine cards of its hospitals, or by addresses."""

from pathlib import Path
from typing import Literal

from swarmcell.config.base import FrozenModel
from swarmcell.engine import nats_address, nats_card
from swarmcell.engine.nats_address import NatsAddress
from swarmcell.errors import ConfigError
from swarmcell.files import refuse_open


class NatsSettings(FrozenModel):
    """The engine of many machines.

    Attributes
    ----------
    cards
        Engine cards of the founding hospitals, relative to the site file: where their servers are, and what to trust.
    servers, trust
        Instead of cards: `tls://host:port` each, and a PEM file of the authority that signed their certificates
        (without it, the machine's own authorities).
    certificate, key
        A client certificate and its key, where the cluster asks for one.
    proxy
        `http://[user:password@]host:port` of a proxy that knows CONNECT.
    websocket
        Dial the WebSocket port of the cards, which most firewalls let pass.
    replicas
        Servers that keep the log: 1, 3 or 5; 0 takes one per card, or 3 where there are none.
    """

    kind: Literal["nats"]
    cards: tuple[Path, ...] = ()
    servers: tuple[str, ...] = ()
    trust: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    proxy: str = ""
    websocket: bool = False
    replicas: int = 0

    def anchored(self, folder: Path) -> "NatsSettings":
        """Return the same with its paths taken from this folder."""
        files = {name: getattr(self, name) for name in ("trust", "certificate", "key")}
        found = {name: folder / path for name, path in files.items() if path is not None}
        return self.model_copy(update={**found, "cards": tuple(folder / card for card in self.cards)})

    def address(self, nearest: str = "") -> NatsAddress:
        """Return where the cluster is; the server of the site `nearest` is tried first.

        Raises
        ------
        ConfigError, InputError
            If there are both cards and servers or neither, a file cannot be read, or others may read the key.
        """
        if bool(self.cards) == bool(self.servers):
            msg = '[engine] kind = "nats" needs either `cards` (the hospitals\' engine cards) or `servers`, not both.'
            raise ConfigError(msg)
        if self.key is not None:
            refuse_open(self.key)
        servers, trust = self.servers, ""
        if self.cards:
            cards = [nats_card.load(path) for path in self.cards]
            servers, trust = nats_address.of_cards(cards, nearest=nearest, websocket=self.websocket)
        if self.trust is not None:
            trust += _text(self.trust)
        return NatsAddress(
            servers=servers,
            replicas=self.replicas or len(self.cards) or 3,
            trust=trust,
            certificate=str(self.certificate or ""),
            key=str(self.key or ""),
            proxy=self.proxy,
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: not a readable PEM file ({error}). Check `trust` in the site file."
        raise ConfigError(msg) from error
