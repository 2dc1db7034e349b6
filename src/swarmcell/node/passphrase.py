"""Secrets at rest under a passphrase: Argon2id and XSalsa20-Poly1305, libsodium's.

Rules: a passphrase comes from `SWARMCELL_PASSPHRASE`, from the file that `SWARMCELL_PASSPHRASE_FILE` names (a systemd
credential, say), or from the terminal; it is never an option, which other users could read in the list of processes.
"""

import getpass
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nacl.exceptions
import nacl.pwhash
import nacl.secret
import nacl.utils

from swarmcell.errors import ConfigError, InputError
from swarmcell.files import refuse_open

VARIABLE, FILE_VARIABLE = "SWARMCELL_PASSPHRASE", "SWARMCELL_PASSPHRASE_FILE"
OPERATIONS, MEMORY_BYTES = nacl.pwhash.argon2id.OPSLIMIT_MODERATE, nacl.pwhash.argon2id.MEMLIMIT_MODERATE
MEMORY_BYTES_MAX = 2**30  # of a file's own setting: a changed file must not take the machine
CHARACTERS_MIN = 8


def seal(plain: bytes, passphrase: str) -> dict[str, Any]:
    """Return a secret under a passphrase, as fields of a TOML file."""
    salt = nacl.utils.random(nacl.pwhash.argon2id.SALTBYTES)
    box = nacl.secret.SecretBox(_key(passphrase, salt, OPERATIONS, MEMORY_BYTES))
    return {
        "argon2id_salt": salt.hex(),
        "argon2id_operations": OPERATIONS,
        "argon2id_memory_bytes": MEMORY_BYTES,
        "sealed": bytes(box.encrypt(plain)).hex(),
    }


def is_sealed(fields: Mapping[str, Any]) -> bool:
    """Say whether these fields are a secret under a passphrase."""
    return "sealed" in fields


def unseal(fields: Mapping[str, Any], passphrase: str, path: Path) -> bytes:
    """Open a secret.

    Raises
    ------
    ConfigError
        If the passphrase is wrong, or the file was changed.
    """
    try:
        operations, memory = int(fields["argon2id_operations"]), int(fields["argon2id_memory_bytes"])
        salt, sealed = bytes.fromhex(fields["argon2id_salt"]), bytes.fromhex(fields["sealed"])
        if memory <= MEMORY_BYTES_MAX and operations <= 2 * OPERATIONS:
            return bytes(nacl.secret.SecretBox(_key(passphrase, salt, operations, memory)).decrypt(sealed))
    except (KeyError, TypeError, ValueError, nacl.exceptions.CryptoError):
        pass
    msg = f"{path}: does not open: a wrong passphrase, or a damaged file."
    raise ConfigError(msg)


def given(path: Path) -> str:
    """Return the passphrase for the identity at `path`.

    Raises
    ------
    ConfigError
        If there is none and nobody to ask, or others may read the file that holds it.
    InputError
        If the file that holds it cannot be read.
    """
    if VARIABLE in os.environ:
        return os.environ[VARIABLE]
    if FILE_VARIABLE in os.environ:
        return _from_file(Path(os.environ[FILE_VARIABLE]))
    if sys.stdin.isatty():
        return getpass.getpass(f"Passphrase of {path.name}: ")
    msg = (
        f"{path}: is under a passphrase, and there is no terminal to ask for it. Put it into a file that only you can "
        f"read, and name that file in {FILE_VARIABLE}."
    )
    raise ConfigError(msg)


def chosen(path: Path) -> str:
    """Return a new passphrase for the identity at `path`; from a terminal it is asked for twice.

    Raises
    ------
    ConfigError
        If it is too short, or was not repeated.
    """
    first = given(path)
    if len(first) < CHARACTERS_MIN:
        msg = f"{path.name}: a passphrase has at least {CHARACTERS_MIN} characters, this one {len(first)}."
        raise ConfigError(msg)
    if VARIABLE not in os.environ and FILE_VARIABLE not in os.environ and getpass.getpass("Once more: ") != first:
        msg = f"{path.name}: the two passphrases differ. Nothing was changed."
        raise ConfigError(msg)
    return first


def _from_file(path: Path) -> str:
    try:
        refuse_open(path)
        return path.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError, InputError) as error:
        msg = f"{FILE_VARIABLE} names {path}, which cannot be read ({error})."
        raise InputError(msg) from error


def _key(passphrase: str, salt: bytes, operations: int, memory: int) -> bytes:
    size = nacl.secret.SecretBox.KEY_SIZE
    return nacl.pwhash.argon2id.kdf(size, passphrase.encode(), salt, opslimit=operations, memlimit=memory)
