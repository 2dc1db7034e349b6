"""The most memory that this process ever held."""

from pathlib import Path


def peak_mb() -> float:
    """Return it in MB. Not by `getrusage`: that remembers the parent's memory across exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
