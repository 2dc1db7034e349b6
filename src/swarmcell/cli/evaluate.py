"""`swarmcell evaluate`."""

from swarmcell.errors import UsageError


def evaluate() -> None:
    """(Being built.)"""
    msg = "not built yet"
    raise UsageError(msg)
