"""The configuration of a founding hospital's nats-server, and the program itself.

Rules: servers know each other by the certificates of their cards, peers show that they hold their engine key, and a
peer may write under its own key only. Only founders may make or trim a swarm's stream. Nothing is in the clear.
Every server of a cluster gets the same content but for its own name, ports and files.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmcell.engine.nats_card import ServerCard, bracketed
from swarmcell.engine.nats_keys import user_key
from swarmcell.errors import ConfigError, InputError

SERVER_FILE, KEY_FILE, TRUST_FILE, SYNC_FILE = "nats-server.conf", "server.key", "trust.pem", "durability.conf"
CERTIFICATE_FILE = "server.pem"
STORE_FOLDER, PID_FILE = "store", "server.pid"
STORE_GB = 64  # chosen
ALWAYS_SYNC_SINCE = (2, 10)
_PLACES = ("/usr/local/sbin", "/usr/sbin", "/usr/local/bin", "/usr/bin")
_API_OF_ALL = (
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.MSG.GET.*",
    "$JS.API.CONSUMER.CREATE.*",
    "$JS.API.CONSUMER.MSG.NEXT.*.*",
)
_API_OF_FOUNDERS = ("$JS.API.STREAM.CREATE.*", "$JS.API.STREAM.PURGE.*")
GET_IT = (
    "Install it: `apt-get install nats-server` on Debian and Ubuntu (and `systemctl disable --now nats-server`, so "
    "that its own copy does not hold the port), or put the single binary of "
    "https://github.com/nats-io/nats-server/releases on the PATH; or name it: --binary PATH."
)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What all servers of a cluster agree on.

    Attributes
    ----------
    name
        Of the cluster.
    cards
        The servers, in any order: 1, 3 or 5.
    founders, members
        Engine keys (32 bytes each) of the swarm's founders, and of other sites that may connect.
    store_gb
        Most that a server's log may take on its disk, in GB.
    """

    name: str
    cards: tuple[ServerCard, ...]
    founders: tuple[bytes, ...]
    members: tuple[bytes, ...] = ()
    store_gb: int = STORE_GB

    def __post_init__(self) -> None:
        """Refuse a cluster that could not decide, or whose servers collide."""
        sites = [card.site for card in self.cards]
        addresses = [
            (card.host, port)
            for card in self.cards
            for port in (card.client_port, card.cluster_port, card.websocket_port)
            if port
        ]
        faults = {
            f"{len(self.cards)} engine cards, expected 1, 3 or 5": len(self.cards) not in {1, 3, 5},
            f"two engine cards of one site ({', '.join(sites)})": len(set(sites)) < len(sites),
            "two servers share a host and port": len(set(addresses)) < len(addresses),
        }
        for fault, present in faults.items():
            if present:
                msg = f"no cluster can be made: {fault}. Give one card of each founding hospital that runs a server."
                raise ConfigError(msg)

    @property
    def trust(self) -> str:
        """PEM text of all servers' certificates."""
        return "".join(card.certificate for card in self.cards)

    def card_of(self, site: str) -> ServerCard:
        """Return a site's card."""
        for card in self.cards:
            if card.site == site:
                return card
        msg = f"{site}: none of the engine cards is this site's. Make it: swarmcell engine card {site} --host HOST"
        raise ConfigError(msg)


def render(cluster: Cluster, site: str, folder: Path) -> str:
    """Return the configuration of a site's server, which keeps its files in `folder`."""
    card = cluster.card_of(site)
    parts = [
        f"# nats-server of {site}, written by `swarmcell engine config`: write it anew instead of changing it.",
        f"server_name: {_quoted(site)}",
        f"listen: {_quoted(f'0.0.0.0:{card.client_port}')}",
        f"pid_file: {_quoted(str(folder / PID_FILE))}",
        "max_payload: 1MB",
        "write_deadline: 10s",
        f"tls {_tls(folder, is_mutual=False)}",
        _jetstream(cluster, folder),
        _websocket(card, folder),
        _routes(cluster, card, folder),
        _accounts(cluster),
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text)


def _tls(folder: Path, *, is_mutual: bool) -> str:
    lines = [
        f"  cert_file: {_quoted(str(folder / CERTIFICATE_FILE))}",
        f"  key_file: {_quoted(str(folder / KEY_FILE))}",
        "  timeout: 5",
    ]
    if is_mutual:
        lines += [f"  ca_file: {_quoted(str(folder / TRUST_FILE))}", "  verify: true"]
    return "\n".join(["{", *lines, "}"])


def _jetstream(cluster: Cluster, folder: Path) -> str:
    return "\n".join(
        [
            "jetstream {",
            f"  store_dir: {_quoted(str(folder / STORE_FOLDER))}",
            "  max_memory_store: 64MB",
            f"  max_file_store: {cluster.store_gb}GB",
            f"  include {_quoted('./' + SYNC_FILE)}",
            "}",
        ]
    )


def _websocket(card: ServerCard, folder: Path) -> str:
    if not card.websocket_port:
        return ""
    return f"websocket {{\n  port: {card.websocket_port}\n  tls {_tls(folder, is_mutual=False)}\n}}"


def _routes(cluster: Cluster, card: ServerCard, folder: Path) -> str:
    if len(cluster.cards) == 1:
        return ""
    others = [other for other in cluster.cards if other.site != card.site]
    routes = [f"    {_quoted(f'tls://{bracketed(other.host)}:{other.cluster_port}')}" for other in others]
    return "\n".join(
        [
            "cluster {",
            f"  name: {_quoted(cluster.name)}",
            f"  listen: {_quoted(f'0.0.0.0:{card.cluster_port}')}",
            "  no_advertise: true  # peers dial the hosts of the cards, whose certificates they know",
            f"  tls {_tls(folder, is_mutual=True)}",
            "  routes: [",
            *routes,
            "  ]",
            "}",
        ]
    )


def _accounts(cluster: Cluster) -> str:
    users = [_user(key, is_founder=True) for key in cluster.founders]
    users += [_user(key, is_founder=False) for key in cluster.members if key not in cluster.founders]
    return "\n".join(
        [
            "accounts {",
            "  SWARMCELL {",
            "    jetstream {",
            f"      max_file: {cluster.store_gb}GB",
            "      max_memory: 64MB",
            "      max_streams: 64",
            "    }",
            "    users: [",
            *users,
            "    ]",
            "  }",
            "}",
        ]
    )


def _user(key: bytes, *, is_founder: bool) -> str:
    """Return what one site may do: write under its own key, read, and hear its own answers only."""
    name = user_key(key)
    writes = [f"swarmcell.*.entry.{name}", f"swarmcell.*.alive.{name}", "swarmcell.*.who", *_API_OF_ALL]
    hears = [f"_INBOX.{name}.>", "swarmcell.*.alive.*", "swarmcell.*.who"]
    publish = json.dumps(writes + (list(_API_OF_FOUNDERS) if is_founder else []))
    return (
        f"      {{ nkey: {name}, permissions: {{\n"
        f"        publish: {{ allow: {publish} }}\n"
        f"        subscribe: {{ allow: {json.dumps(hears)} }}\n"
        "      } }"
    )


# -- the program -----------------------------------------------------------------------------------------------------


def find_binary(named: Path | None = None) -> Path:
    """Return the path of nats-server.

    Raises
    ------
    InputError
        If it is not installed: how to get it.
    """
    if named is not None:
        if named.is_file():
            return named
        msg = f"{named}: no such program. {GET_IT}"
        raise InputError(msg)
    found = shutil.which("nats-server") or shutil.which("nats-server", path=":".join(_PLACES))
    if found is None:
        msg = f"nats-server is not installed on this machine. {GET_IT}"
        raise InputError(msg)
    return Path(found)


def version(binary: Path) -> tuple[int, int, int]:
    """Return the version of a nats-server.

    Raises
    ------
    InputError
        If the program does not run, or does not say.
    """
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        msg = f"{binary}: cannot be run ({error}). {GET_IT}"
        raise InputError(msg) from error
    numbers = re.search(r"v?(\d+)\.(\d+)\.(\d+)", answer)
    if "nats-server" not in answer or numbers is None:
        msg = f"{binary}: says {answer.strip()!r}, expected a version of nats-server. {GET_IT}"
        raise InputError(msg)
    return int(numbers[1]), int(numbers[2]), int(numbers[3])


def refuse_unfit(binary: Path, server_file: Path) -> None:
    """Let nats-server itself check a configuration.

    Raises
    ------
    ConfigError
        If it refuses.
    """
    made = subprocess.run([binary, "-t", "-c", server_file], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    if made.returncode:
        msg = f"{server_file}: nats-server refuses it ({made.stderr.strip()}). Write it anew: swarmcell engine config"
        raise ConfigError(msg)


def durability(found: Sequence[int]) -> str:
    """Return the part of the configuration that makes a server of this version flush before it acknowledges."""
    if tuple(found[:2]) >= ALWAYS_SYNC_SINCE:
        return "sync_interval: always\n"
    return f"# sync_interval: always needs nats-server {ALWAYS_SYNC_SINCE[0]}.{ALWAYS_SYNC_SINCE[1]} or newer\n"
