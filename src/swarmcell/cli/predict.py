"""`swarmcell predict`."""

from swarmcell.errors import UsageError


def predict() -> None:
    """(Being built.)"""
    msg = "not built yet"
    raise UsageError(msg)
