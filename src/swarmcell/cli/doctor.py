"""`swarmcell doctor`."""

from swarmcell.errors import UsageError


def doctor() -> None:
    """(Being built.)"""
    msg = "not built yet"
    raise UsageError(msg)
