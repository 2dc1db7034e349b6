"""Setting up a founding hospital's server: its engine card, its configuration, and the command that runs it."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from swarmcell.config import swarm_file
from swarmcell.engine import nats_card, server_config
from swarmcell.engine.nats_card import ServerCard
from swarmcell.engine.server_config import Cluster
from swarmcell.errors import ConfigError, InputError, UsageError
from swarmcell.files import refuse_open, write_whole
from swarmcell.node import identity

_SECRET_MODE = 0o600


@dataclass(frozen=True)
class MadeCard:
    """A new engine card, and where its secret key is kept."""

    card: ServerCard
    card_file: Path
    key_file: Path


@dataclass(frozen=True)
class Configured:
    """A server's configuration.

    Attributes
    ----------
    site_engine
        The `[engine]` part of a site file, the same for every site of the swarm but for the folder of the cards.
    remarks
        What the user should know.
    """

    folder: Path
    server_file: Path
    site_engine: str
    remarks: tuple[str, ...]


def make_card(card: ServerCard, folder: Path, *, force: bool = False) -> MadeCard:
    """Make a server's key and certificate, and the card to send.

    Parameters
    ----------
    card
        Without a certificate.

    Raises
    ------
    UsageError
        If the site's name or the host is not one.
    OutputError
        If a file exists (without `force`) or cannot be written.
    """
    identity.check_name(card.site)
    if not nats_card.is_host(card.host):
        msg = (
            f"--host {card.host}: expected a name or an address alone, such as swarm.hospital-a.example. The ports are "
            "--client-port, --cluster-port and --websocket-port."
        )
        raise UsageError(msg)
    key, certificate = nats_card.make_certificate(card.site, card.host)
    made = ServerCard(
        site=card.site,
        host=card.host,
        client_port=card.client_port,
        cluster_port=card.cluster_port,
        websocket_port=card.websocket_port,
        certificate=certificate,
    )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key_file, card_file = folder / server_config.KEY_FILE, folder / f"{card.site}.engine.toml"
    write_whole(key_file, key, force=force, mode=_SECRET_MODE)
    write_whole(folder / server_config.CERTIFICATE_FILE, certificate.encode(), force=True)
    write_whole(card_file, made.to_toml(), force=force)
    return MadeCard(made, card_file, key_file)


def configure(
    swarm: Path,
    cards: Sequence[Path],
    folder: Path,
    *,
    members: Sequence[str] = (),
    without: Sequence[str] = (),
    store_gb: int = server_config.STORE_GB,
    force: bool = False,
) -> Configured:
    """Write the server's configuration beside its key.

    Parameters
    ----------
    swarm
        The swarm file: its founders may connect, and make and trim its stream.
    cards
        The engine cards of all servers; the one whose certificate stands in `folder` is this machine's.
    members
        Cards or local identities of other sites that may connect.
    without
        Names of founders and members that may connect no more: those that were revoked.

    Raises
    ------
    ConfigError, InputError
        If no cluster can be made of the cards, or none is this machine's.
    OutputError
        If the configuration exists (without `force`) or cannot be written.
    """
    file = swarm_file.load(swarm)
    founders = {founder.name: bytes.fromhex(founder.engine_key) for founder in file.founders}
    others = {card.name: card.engine_key for card in map(identity.load_card, members)}
    _refuse_unknown(without, {*founders, *others})
    cluster = Cluster(
        name=f"swarmcell-{file.digest[:16]}",
        cards=tuple(nats_card.load(path) for path in cards),
        founders=tuple(key for name, key in founders.items() if name not in without),
        members=tuple(key for name, key in others.items() if name not in without),
        store_gb=store_gb,
    )
    site = _own_card(cluster, folder).site
    server_file = folder / server_config.SERVER_FILE
    text = server_config.render(cluster, site, folder.absolute())
    write_whole(server_file, text.encode(), force=force)
    write_whole(folder / server_config.TRUST_FILE, cluster.trust.encode(), force=True)
    write_whole(folder / server_config.SYNC_FILE, b"# written by `swarmcell engine run`\n", force=True)
    engine = tomli_w.dumps({"engine": {"kind": "nats", "cards": [str(path) for path in cards]}})
    return Configured(folder, server_file, engine, _remarks(cluster))


def _refuse_unknown(without: Sequence[str], known: set[str]) -> None:
    if strange := sorted(set(without) - known):
        msg = f"--without {strange[0]}: neither a founder nor a --member. They are: {', '.join(sorted(known))}."
        raise InputError(msg)


def _own_card(cluster: Cluster, folder: Path) -> ServerCard:
    try:
        certificate = (folder / server_config.CERTIFICATE_FILE).read_text(encoding="ascii")
    except OSError as error:
        msg = f"{folder}: holds no server's key. Make it first: swarmcell engine card SITE --host HOST --out {folder}"
        raise InputError(msg) from error
    for card in cluster.cards:
        if card.certificate == certificate:
            return card
    msg = f"none of the engine cards was made with the key in {folder}. Give this site's own card, as others have it."
    raise ConfigError(msg)


def _remarks(cluster: Cluster) -> tuple[str, ...]:
    n = len(cluster.cards)
    said = [
        f"{n} servers keep the log; it goes on while {n // 2 + 1} of them are up"
        if n > 1
        else "one server keeps the log: when it is down, the swarm waits. Three survive the loss of one"
    ]
    try:
        found = server_config.version(server_config.find_binary())
    except InputError:
        said.append("nats-server is not installed on this machine yet; `swarmcell engine run` says how to get it")
    else:
        said += _on_version(found)
    return tuple(said)


def _on_version(found: tuple[int, int, int]) -> list[str]:
    if found[:2] >= server_config.ALWAYS_SYNC_SINCE:
        return []
    number = ".".join(map(str, found))
    return [
        f"nats-server {number} flushes its files every two minutes only. After a power failure of most servers at "
        "once, peers give back what was lost from their own ledgers; 2.10 or newer flushes before it acknowledges"
    ]


def reload(folder: Path, binary: Path | None = None) -> int:
    """Let the running server of `folder` read its configuration anew; return its process id.

    Raises
    ------
    InputError
        If none runs, or there is no configuration.
    ConfigError
        If nats-server refuses the configuration; the running one goes on with the old.
    """
    server_file = _server_file(folder)
    server_config.refuse_unfit(server_config.find_binary(binary), server_file)
    pid_file = folder / server_config.PID_FILE
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        os.kill(pid, signal.SIGHUP)
    except (OSError, ValueError) as error:
        msg = f"{pid_file}: no server of this folder runs here ({error}). Start it: swarmcell engine run {folder}"
        raise InputError(msg) from error
    return pid


def _server_file(folder: Path) -> Path:
    server_file = (folder / server_config.SERVER_FILE).absolute()
    if not server_file.is_file():
        msg = f"{server_file}: no such file. Write it: swarmcell engine config SWARM CARD CARD CARD --out {folder}"
        raise InputError(msg)
    return server_file


def command(folder: Path, binary: Path | None = None) -> list[str]:
    """Return the command that runs the server of `folder`, which is made durable as far as its version can be.

    Raises
    ------
    InputError
        If there is no configuration, or nats-server is not installed: how to get it.
    ConfigError
        If nats-server refuses the configuration.
    """
    server_file = _server_file(folder)
    refuse_open(folder / server_config.KEY_FILE)
    found = server_config.find_binary(binary)
    durability = server_config.durability(server_config.version(found))
    write_whole(folder / server_config.SYNC_FILE, durability.encode(), force=True)
    server_config.refuse_unfit(found, server_file)
    return [str(found), "-c", str(server_file)]
