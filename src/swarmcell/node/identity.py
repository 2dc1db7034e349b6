"""Who a site is: three secret keys in one file, and the public card that other sites are given.

Rules: entries, sealing and the engine each have a key of their own, because an engine may make its client sign a
nonce of the engine's choice. The secret file is mode 0600 and refused otherwise, whenever it is read. A key is
held by one running peer at a time (`hold`). No secret is ever printed: `repr` shows the name only.
"""

import fcntl
import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import nacl.exceptions
import nacl.public
import nacl.signing
import nacl.utils
import tomli_w
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from swarmcell.errors import ConfigError, InputError, OutputError, SwarmError, UsageError
from swarmcell.files import refuse_existing, refuse_open, write_whole
from swarmcell.node import os_keyring, passphrase

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
KEY_BYTES = 32
_CARD_SUFFIX = ".card.toml"
_SECRET_KEYS = ("signing_secret", "sealing_secret", "engine_secret")
_CARD_KEYS = ("signing_key", "sealing_key", "engine_key")


@dataclass(frozen=True)
class Card:
    """What other sites may know of a site: its name and public keys, 32 bytes each."""

    name: str
    signing_key: bytes
    sealing_key: bytes
    engine_key: bytes

    def to_toml(self) -> bytes:
        """Return the card as a file to send: it holds no secret."""
        keys = {key: getattr(self, key).hex() for key in _CARD_KEYS}
        head = "# The public card of a swarmcell site. It holds no secret: send it to whoever creates the swarm.\n"
        return (head + tomli_w.dumps({"name": self.name, **keys})).encode()


@dataclass(frozen=True)
class Identity:
    """A site's name and its three secret keys (32-byte seeds)."""

    name: str
    signing_secret: bytes = field(repr=False)
    sealing_secret: bytes = field(repr=False)
    engine_secret: bytes = field(repr=False)

    @cached_property
    def _signing(self) -> nacl.signing.SigningKey:
        return nacl.signing.SigningKey(self.signing_secret)

    @cached_property
    def card(self) -> Card:
        """Return the public card."""
        sealing = nacl.public.PrivateKey(self.sealing_secret).public_key
        engine = nacl.signing.SigningKey(self.engine_secret).verify_key
        return Card(self.name, bytes(self._signing.verify_key), bytes(sealing), bytes(engine))

    @property
    def key(self) -> bytes:
        """Return the public signing key: what `author` means in an entry."""
        return self.card.signing_key

    def derive(self, purpose: bytes) -> bytes:
        """Return 32 secret bytes for a purpose; they tell nothing of the identity's keys, nor of another purpose's."""
        return HKDF(hashes.SHA256(), KEY_BYTES, None, b"swarmcell/identity/v1/" + purpose).derive(self.sealing_secret)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte ed25519 signature of an entry's signed bytes."""
        return self._signing.sign(message).signature


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether `signature` is this key's for `message`; never raises for bad input."""
    try:
        nacl.signing.VerifyKey(public_key).verify(message, signature)
    except (nacl.exceptions.CryptoError, ValueError, TypeError):
        return False
    return True


def identity_folder() -> Path:
    """Return the folder of this user's identities."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "swarmcell" / "identity"


def secret_path(name: str) -> Path:
    """Return where the identity of this name is kept."""
    return identity_folder() / name


def check_name(name: str) -> None:
    """Refuse what cannot name a site.

    Raises
    ------
    UsageError
        If it is not a name.
    """
    if not NAME.fullmatch(name) or name.endswith((".toml", ".lock")):
        msg = f"{name!r} is no name for a site: lower-case letters, digits, '-', '_' and '.', at most 63. Try site-a."
        raise UsageError(msg)


def create(name: str, *, force: bool = False, protect: bool = False, keyring: bool = False) -> Identity:
    """Make a new identity from the operating system's randomness and store it, mode 0600.

    Parameters
    ----------
    protect
        Encrypt the secrets under a passphrase (`node.passphrase`).
    keyring
        Encrypt them under one that the keyring of this system keeps (`node.os_keyring`).

    Raises
    ------
    UsageError
        If the name is not one.
    ConfigError
        If the passphrase is too short or was not repeated, or there is no keyring.
    OutputError
        If an identity of this name exists: whoever replaces it leaves its swarms for good.
    """
    check_name(name)
    path = secret_path(name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.is_file() and not force:
        msg = (
            f"{path}: this identity exists. Show its card: swarmcell identity show {name}. Whoever replaces it with "
            "--force leaves the swarms that know it, for good."
        )
        raise OutputError(msg)
    refuse_existing(path, force=force)
    entry, phrase = os_keyring.keep(name) if keyring else ("", passphrase.chosen(path) if protect else "")
    made = Identity(name, *(nacl.utils.random(KEY_BYTES) for _ in _SECRET_KEYS))
    _store(made, path, phrase, entry=entry, force=force)
    return made


def protect(name_or_path: str | Path, *, remove: bool = False, keyring: bool = False) -> Path:
    """Put an identity's secrets under a new passphrase, or with `remove` under none; return its file.

    Parameters
    ----------
    keyring
        Whether the keyring of this system keeps the passphrase, which nobody then needs to know.

    Raises
    ------
    InputError, ConfigError
        As `load`; or if the new passphrase is too short or was not repeated, or there is no keyring.
    """
    identity, path = load(name_or_path), _path(name_or_path)
    before, entry, phrase = _read(path).get("keyring_entry"), "", ""
    if not remove:
        entry, phrase = os_keyring.keep(identity.name) if keyring else ("", passphrase.chosen(path))
    _store(identity, path, phrase, entry=entry, force=True)
    if isinstance(before, str):
        os_keyring.forget(before)
    return path


def is_protected(name_or_path: str | Path) -> bool:
    """Say whether an identity's secrets are under a passphrase."""
    path = _path(name_or_path)
    _refuse_open_mode(path)
    return passphrase.is_sealed(_read(path))


def _store(identity: Identity, path: Path, phrase: str, *, entry: str, force: bool) -> None:
    secrets: dict[str, object] = {key: getattr(identity, key).hex() for key in _SECRET_KEYS}
    if phrase:
        secrets = passphrase.seal(b"".join(getattr(identity, key) for key in _SECRET_KEYS), phrase)
    if entry:
        secrets["keyring_entry"] = entry
    head = (
        "# SECRET: the keys of a swarmcell site. Never send or copy this file; a running copy elsewhere is refused.\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(path, (head + tomli_w.dumps({"name": identity.name, **secrets})).encode(), mode=0o600, force=force)
    write_whole(card_path(path), identity.card.to_toml(), force=True)


def card_path(secret: Path) -> Path:
    """Return where the public card of a secret file stands: beside it."""
    return secret.with_name(secret.name + _CARD_SUFFIX)


def load(name_or_path: str | Path) -> Identity:
    """Open an identity by its name, or by the path of its secret file.

    Raises
    ------
    InputError
        If there is none.
    ConfigError
        If others may read the file, it is not an identity, or its passphrase is not given or wrong.
    """
    path = _path(name_or_path)
    _refuse_open_mode(path)
    content = _read(path)
    if passphrase.is_sealed(content):
        entry = content.get("keyring_entry")
        phrase = os_keyring.kept(entry, path) if isinstance(entry, str) else passphrase.given(path)
        plain = passphrase.unseal(content, phrase, path)
        secrets = [plain[i : i + KEY_BYTES] for i in range(0, len(plain), KEY_BYTES)]
    else:
        secrets = [_key_bytes(content, key, path) for key in _SECRET_KEYS]
    return Identity(str(content.get("name", path.name)), *secrets)


def _path(name_or_path: str | Path) -> Path:
    return Path(name_or_path) if "/" in str(name_or_path) else secret_path(str(name_or_path))


def _refuse_open_mode(path: Path) -> None:
    if not path.exists():
        msg = f"{path}: no such identity. Make one: swarmcell identity create {path.name}"
        raise InputError(msg)
    refuse_open(path)


def load_card(name_or_path: str) -> Card:
    """Read a public card: of a card file, or of the local identity of this name.

    Raises
    ------
    InputError, ConfigError
        If there is neither, or it is not a card.
    """
    path = Path(name_or_path)
    if not path.is_file() and path.suffix == ".toml":
        msg = f"{path}: no such card. Check the path, or ask its owner for it (swarmcell identity show NAME)."
        raise InputError(msg)
    if not path.is_file():
        return load(name_or_path).card
    content = _read(path)
    keys = [_key_bytes(content, key, path) for key in _CARD_KEYS]
    return Card(str(content.get("name", "")), *keys)


def local_names() -> list[str]:
    """Return the names of this user's identities, sorted."""
    folder = identity_folder()
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix not in {".toml", ".lock"})


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: not an identity or a card ({error}). Make one: swarmcell identity create NAME"
        raise ConfigError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror})."
        raise InputError(msg) from error


def _key_bytes(content: dict[str, object], key: str, path: Path) -> bytes:
    try:
        value = bytes.fromhex(str(content[key]))
    except (KeyError, ValueError):
        value = b""
    if len(value) != KEY_BYTES:
        msg = f"{path}: {key} is missing or not {2 * KEY_BYTES} hexadecimal digits. Ask its owner for the card again."
        raise ConfigError(msg)
    return value


def is_held(identity: Identity, swarm: bytes) -> bool:
    """Say whether a process of this user runs this identity in this swarm now."""
    try:
        with hold(identity, swarm):
            return False
    except SwarmError:
        return True


@contextmanager
def hold(identity: Identity, swarm: bytes) -> Iterator[None]:
    """Hold this identity in this swarm: no second process of this user runs it meanwhile.

    Raises
    ------
    SwarmError
        If another process holds it.
    """
    folder = identity_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = folder / f"{identity.key.hex()[:16]}-{swarm.hex()[:16]}.lock"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = (
                f"{identity.name}: another process already runs this identity in this swarm ({lock}). "
                "One identity is one peer: wait for it or stop it first."
            )
            raise SwarmError(msg) from error
        yield
    finally:
        os.close(descriptor)
