"""`swarmcell init`."""

from swarmcell.errors import UsageError


def init() -> None:
    """(Being built.)"""
    msg = "not built yet"
    raise UsageError(msg)
