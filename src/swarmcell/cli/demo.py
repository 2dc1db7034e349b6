"""`swarmcell demo`."""

from swarmcell.errors import UsageError


def demo() -> None:
    """(Being built.)"""
    msg = "not built yet"
    raise UsageError(msg)
