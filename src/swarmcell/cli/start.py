"""The first lines of the program: until a command begins, Ctrl-C ends it in one line, not in an import's traceback.

Rules: loads next to nothing before it listens to Ctrl-C. Nothing is written by then, so to end at once is safe.
"""

import os
import signal

_STOPPED = 130  # `common.EXIT_INTERRUPTED`, which is not loaded yet


def main() -> None:
    """Load the command line and run it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a shell keeps Ctrl-C from us
        signal.signal(signal.SIGINT, _end)
    from swarmcell.cli.app import main as run

    run()


def begin() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` from here on, for a command that has something to tidy."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: object) -> None:
    """End at once: an exception would come out of the middle of an import, where much may catch it."""
    os.write(2, b"interrupted; nothing had begun.\n")
    os._exit(_STOPPED)
