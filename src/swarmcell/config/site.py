"""The site file: private; how this site reaches the engine, and which identity it signs with.

Rules: it never leaves the site and nothing in it changes what is learnt. Without a site file the embedded engine is
taken, with its log beside the swarm file. An engine's options are declared by the engine; here they are composed.
"""

from pathlib import Path
from typing import Literal

from swarmcell.config.base import FrozenModel, load
from swarmcell.engine.embedded import EmbeddedLog
from swarmcell.engine.log import Log

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


class Site(FrozenModel):
    """One site's private settings.

    Attributes
    ----------
    name
        The site's name; also the name of its identity unless `identity` says otherwise.
    identity
        Name of a local identity, or the path of its secret file.
    """

    name: str
    identity: str | None = None
    engine: EmbeddedSettings = EmbeddedSettings()

    @property
    def signs_as(self) -> str:
        """Name or path of the identity."""
        return self.identity or self.name


def load_site(path: Path | None) -> Site | None:
    """Read a site file; without a path, the one in this folder if there is one.

    Raises
    ------
    ConfigError
        If it is missing, or has a missing, unknown or impossible value.
    """
    if path is None:
        return _read(SITE_FILE) if SITE_FILE.is_file() else None
    return _read(path)


def _read(path: Path) -> Site:
    site = load(path, Site)
    if site.engine.path is None:
        return site
    anchored = path.parent / site.engine.path
    return site.model_copy(update={"engine": site.engine.model_copy(update={"path": anchored})})


def open_log(site: Site | None, swarm_file: Path, swarm: bytes) -> Log:
    """Open the engine that the site file names, for the swarm with this digest."""
    engine = site.engine if site else EmbeddedSettings()
    return EmbeddedLog(engine.path or swarm_file.with_name(f"{swarm_file.stem}.{swarm.hex()[:8]}.log"))


def template(name: str) -> str:
    """Return a commented site file for a new site."""
    return f"""\
# The site file: private settings of this site. It stays here; the swarm file is what sites share.

# Name of this site. The identity of the same name signs for it: swarmcell identity show {name}
name = "{name}"

# Another identity: a name under ~/.config/swarmcell/identity, or the path of a secret file.
# identity = "{name}"

# How this site reaches the log that all sites share.
[engine]

# "embedded": one file on this machine (demo, tests, several sites of one hospital).
kind = "embedded"

# Where that file is, relative to this one. By default it stands beside the swarm file.
# path = "swarm.log"
"""
