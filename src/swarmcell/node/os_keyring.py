"""Passphrases in the keyring of the operating system, by the library `keyring` (the extra `keyring`).

Rules: an entry is named by the identity's file, which says nothing of the passphrase. A machine without a keyring (a
server without a desktop) is told so, with what to do instead; nothing falls back to a plain file.
"""

import secrets
from pathlib import Path
from types import ModuleType

from swarmcell.errors import ConfigError

SERVICE = "swarmcell"
_INSTEAD = (
    "Where there is none, use a passphrase instead: a file that only you can read, named in SWARMCELL_PASSPHRASE_FILE."
)


def keep(name: str) -> tuple[str, str]:
    """Make a passphrase, keep it in the keyring, and return its entry and itself.

    Parameters
    ----------
    name
        Of the identity that it is for.

    Raises
    ------
    ConfigError
        If this system has no keyring that can be opened.
    """
    library, entry, phrase = _library(), f"{name}-{secrets.token_hex(4)}", secrets.token_urlsafe(32)
    try:
        library.set_password(SERVICE, entry, phrase)
        found = library.get_password(SERVICE, entry)
    except library.errors.KeyringError as error:
        raise ConfigError(_refusal(error)) from error
    if found != phrase:
        msg = f"the keyring did not keep what it was given (backend {library.get_keyring().name}). {_INSTEAD}"
        raise ConfigError(msg)
    return entry, phrase


def kept(entry: str, path: Path) -> str:
    """Return the passphrase of an entry.

    Raises
    ------
    ConfigError
        If this system has no keyring that can be opened, or it does not hold the entry.
    """
    library = _library()
    try:
        found = library.get_password(SERVICE, entry)
    except library.errors.KeyringError as error:
        msg = f"{path}: {_refusal(error)}"
        raise ConfigError(msg) from error
    if not isinstance(found, str):
        msg = (
            f"{path}: the keyring of this user on this machine holds no entry {entry!r} of {SERVICE}. A copy of the "
            "file does not open elsewhere: make another identity there (swarmcell identity create NAME)."
        )
        raise ConfigError(msg)
    return found


def forget(entry: str) -> None:
    """Take an entry out of the keyring; none is not an error."""
    library = _library()
    try:
        library.delete_password(SERVICE, entry)
    except library.errors.KeyringError:
        return


def _library() -> ModuleType:
    try:
        import keyring  # noqa: PLC0415 (an extra)
        import keyring.errors  # noqa: PLC0415
    except ImportError as error:
        msg = f"the library keyring is not installed: pip install 'swarmcell[keyring]'. {_INSTEAD}"
        raise ConfigError(msg) from error
    return keyring


def _refusal(error: Exception) -> str:
    reason = str(error).partition(". ")[0].partition("\n")[0] or type(error).__name__
    return f"the keyring of this system cannot be opened ({reason}). {_INSTEAD}"
