"""`swarmcell train`."""

from swarmcell.errors import UsageError


def train() -> None:
    """(Being built.)"""
    msg = "not built yet"
    raise UsageError(msg)
