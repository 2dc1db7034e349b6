"""`swarmcell preprocess`."""

from swarmcell.errors import UsageError


def preprocess() -> None:
    """(Being built.)"""
    msg = "not built yet"
    raise UsageError(msg)
