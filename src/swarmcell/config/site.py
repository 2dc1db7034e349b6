"""The site file: private; how this site reaches the engine, and which identity it signs with.

Rules: it never leaves the site and nothing in it changes what is learnt. Without a site file the embedded engine is
taken, with its log beside the swarm file. An engine's options are declared by the engine; here they are composed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Discriminator, Field, Tag

from swarmcell.config.base import FrozenModel, load
from swarmcell.config.nats_engine import NatsSettings
from swarmcell.engine.embedded import EmbeddedLog
from swarmcell.engine.log import Log
from swarmcell.files import refuse_open

SITE_FILE = Path("site.toml")


class EmbeddedSettings(FrozenModel):
    """The engine of one machine.

    Attributes
    ----------
    path
        The log's file, relative to the site file; by default it stands beside the swarm file.
    """

    kind: Literal["embedded"] = "embedded"
    path: Path | None = None

    def anchored(self, folder: Path) -> "EmbeddedSettings":
        """Return the same with its path taken from this folder."""
        return self if self.path is None else self.model_copy(update={"path": folder / self.path})


def _kind(engine: Any) -> str:  # noqa: ANN401 (what a TOML file holds, or settings)
    return str(engine.get("kind", "embedded") if isinstance(engine, dict) else engine.kind)


Engine = Annotated[
    Annotated[EmbeddedSettings, Tag("embedded")] | Annotated[NatsSettings, Tag("nats")], Discriminator(_kind)
]


class Site(FrozenModel):
    """One site's private settings.

    Attributes
    ----------
    name
        The site's name; also the name of its identity unless `identity` says otherwise.
    identity
        Name of a local identity, or the path of its secret file.
    history_gb_max
        How much of log and ledger is kept, in GB; more is trimmed below the last checkpoint that a quorum has opened.
    """

    name: str
    identity: str | None = None
    history_gb_max: float = Field(default=8.0, ge=0)
    engine: Engine = EmbeddedSettings()

    @property
    def signs_as(self) -> str:
        """Name or path of the identity."""
        return self.identity or self.name


def load_site(path: Path | None) -> Site | None:
    """Read a site file; without a path, the one in this folder if there is one.

    Raises
    ------
    InputError
        If it cannot be read.
    ConfigError
        If it has a missing, unknown or impossible value.
    """
    if path is None:
        return _read(SITE_FILE) if SITE_FILE.is_file() else None
    return _read(path)


def _read(path: Path) -> Site:
    site = load(path, Site)
    if isinstance(site.engine, NatsSettings) and "@" in site.engine.proxy:
        refuse_open(path)  # the password of a proxy stands in it
    return site.model_copy(update={"engine": site.engine.anchored(path.parent)})


def open_log(site: Site | None, swarm_file: Path, swarm: bytes, engine_secret: bytes | None = None) -> Log:
    """Open the engine that the site file names, for the swarm with this digest.

    Parameters
    ----------
    engine_secret
        The engine secret of this site's identity, by which a cluster knows it.
    """
    engine = site.engine if site else EmbeddedSettings()
    if isinstance(engine, NatsSettings):
        from swarmcell.engine.nats import NatsLog  # noqa: PLC0415 (only who uses NATS loads its client)

        return NatsLog(engine.address(site.name if site else ""), swarm, engine_secret)
    return EmbeddedLog(engine.path or swarm_file.with_name(f"{swarm_file.stem}.{swarm.hex()[:8]}.log"))


def template(name: str, nats: Mapping[str, Any] | None = None) -> str:
    """Return a commented site file for a new site; `nats` holds the cards, `websocket` and `proxy` of a cluster."""
    return f"""\
# The site file: private settings of this site. It stays here; the swarm file is what sites share.

# Name of this site. The identity of the same name signs for it: swarmcell identity show {name}
name = "{name}"

# Another identity: a name under ~/.config/swarmcell/identity, or the path of a secret file.
# identity = "{name}"

# How much of the log and of this site's ledger is kept, in GB; more is trimmed, never above a checkpoint that a quorum
# has opened. What is trimmed cannot be verified any more, but by the signatures of that checkpoint.
# history_gb_max = 8.0

# How this site reaches the log that all sites share.
[engine]
{_EMBEDDED if nats is None else _nats(nats)}"""


_EMBEDDED = """
# "embedded": one file on this machine (demo, tests, several sites of one hospital).
kind = "embedded"

# Where that file is, relative to this one. By default it stands beside the swarm file.
# path = "swarm.log"

# "nats": a cluster that the founding hospitals run; see docs/tutorial.md. Take this instead:
# kind = "nats"
# cards = ["site-a.engine.toml", "site-b.engine.toml", "site-c.engine.toml"]
# websocket = true                      # dial the port that most firewalls let pass
# proxy = "http://proxy.hospital:3128"
"""


def _nats(nats: Mapping[str, Any]) -> str:
    written = tomli_w.dumps({"cards": list(nats["cards"])})
    written += "websocket = true\n" if nats.get("websocket") else "# websocket = true\n"
    proxy = nats.get("proxy")
    written += f"proxy = {tomli_w.dumps({'p': proxy})[4:]}" if proxy else '# proxy = "http://proxy.hospital:3128"\n'
    return f"""
# "nats": the cluster that founding hospitals run; their engine cards say where it is and which certificates to trust.
kind = "nats"
{written}
# Where a company's box opens TLS on its way (custom CA): its authority's PEM file, trusted besides the cards.
# trust = "hospital-ca.pem"
"""
