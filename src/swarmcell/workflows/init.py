"""Sets up a site: a commented site file and an identity. Never replaces an identity."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmcell.config import site
from swarmcell.config.nats_engine import NatsSettings
from swarmcell.files import write_whole
from swarmcell.node import identity
from swarmcell.node.identity import Card


@dataclass(frozen=True)
class Initialised:
    """What stands now: the site file, and the public card of an identity that is new or was there before."""

    site_file: Path
    card: Card
    card_file: Path
    is_new_identity: bool


def initialise(name: str, out: Path, *, nats: Mapping[str, Any] | None = None, force: bool = False) -> Initialised:
    """Write `out` and make the identity `name` unless there is one.

    Parameters
    ----------
    nats
        `cards`, `websocket` and `proxy` of a cluster; without it the engine is a file on this machine.

    Raises
    ------
    UsageError
        If the name is not one.
    InputError, ConfigError
        If an engine card cannot be read, or no such cluster can be reached as is asked for.
    OutputError
        If `out` exists (without `force`) or cannot be written.
    """
    identity.check_name(name)
    if nats is not None:
        NatsSettings(kind="nats", **nats).address(name)  # refuses cards that cannot be used
    write_whole(out, site.template(name, nats).encode(), force=force)
    is_new = name not in identity.local_names()
    mine = identity.create(name) if is_new else identity.load(name)
    return Initialised(out, mine.card, identity.card_path(identity.secret_path(name)), is_new)
