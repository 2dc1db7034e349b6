"""`swarmcell runs`."""

from swarmcell.errors import UsageError


def runs() -> None:
    """(Being built.)"""
    msg = "not built yet"
    raise UsageError(msg)
