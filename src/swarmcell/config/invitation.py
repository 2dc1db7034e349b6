"""An invitation: the swarm file, for whom it is, and a recent block by which a newcomer knows the true history.

Rules: it holds no secret. It is trusted as far as the way it came: compare the swarm's digest by telephone.
"""

from pathlib import Path

import tomli_w

from swarmcell.config import swarm_file
from swarmcell.config.base import FrozenModel, parse, read_toml
from swarmcell.config.swarm_file import Hex32, SwarmFile
from swarmcell.errors import ConfigError

_HEAD = """\
# An invitation to a swarm. It holds no secret. The invited site takes it up with: swarmcell swarm accept FILE
"""


class Guest(FrozenModel):
    """Who is invited, by the public signing key (hex), and by whom."""

    name: str
    signing_key: Hex32
    invited_by: str


class Invitation(FrozenModel):
    """What `swarm invite` writes and `swarm accept` reads."""

    invitation: Guest
    swarm: SwarmFile


def dump(invitation: Invitation) -> bytes:
    """Return the invitation as TOML."""
    content = {"invitation": invitation.invitation.model_dump(mode="json"), "swarm": swarm_file.plain(invitation.swarm)}
    return (_HEAD + tomli_w.dumps(content)).encode()


def load(path: Path) -> Invitation:
    """Read an invitation and check the digest of its swarm.

    Raises
    ------
    ConfigError, TamperedError
        If it is not one, or was changed.
    """
    content = read_toml(path)
    if "invitation" not in content:
        msg = f"{path}: not an invitation. A member writes one: swarmcell swarm invite swarm.toml CARD"
        raise ConfigError(msg)
    inner = content.get("swarm")
    if isinstance(inner, dict):
        swarm_file.refuse_other_format(inner, path)
    found = parse(content, Invitation, source=str(path))
    swarm_file.checked(found.swarm, path, content["swarm"])
    return found
