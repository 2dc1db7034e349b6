"""Sets up a site: a commented site file and an identity. Never replaces an identity."""

from dataclasses import dataclass
from pathlib import Path

from swarmcell.config import site
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


def initialise(name: str, out: Path, *, force: bool = False) -> Initialised:
    """Write `out` and make the identity `name` unless there is one.

    Raises
    ------
    UsageError
        If the name is not one.
    OutputError
        If `out` exists (without `force`) or cannot be written.
    """
    identity.check_name(name)
    write_whole(out, site.template(name).encode(), force=force)
    is_new = name not in identity.local_names()
    mine = identity.create(name) if is_new else identity.load(name)
    return Initialised(out, mine.card, identity.card_path(identity.secret_path(name)), is_new)
