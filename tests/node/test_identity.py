"""Facts about identities."""

import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcell.errors import ConfigError, InputError, OutputError, SwarmError, UsageError
from swarmcell.node import identity, passphrase


def test_a_missing_identity_names_the_command_that_makes_it():
    with pytest.raises(InputError, match="swarmcell identity create site-a"):
        identity.load("site-a")


@pytest.mark.parametrize("name", ["", "Site A", "../escape", "-x", "a" * 64, "é"])
def test_a_bad_name_is_refused(name):
    with pytest.raises(UsageError, match="no name"):
        identity.create(name)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_secret_that_others_may_read_is_refused(mode):
    identity.create("site-a")
    identity.secret_path("site-a").chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        identity.load("site-a")


@pytest.mark.parametrize("content", ["name = 'x'", "][", 'signing_secret = "zz"', "\0"])
def test_a_file_that_is_no_identity_is_refused(content):
    identity.create("site-a")
    identity.secret_path("site-a").write_text(content)
    with pytest.raises(ConfigError):
        identity.load("site-a")


def test_an_identity_is_never_replaced_without_force():
    first = identity.create("site-a")
    with pytest.raises(OutputError, match="--force"):
        identity.create("site-a")
    assert identity.load("site-a") == first
    assert identity.create("site-a", force=True) != first


def test_the_secret_file_is_for_its_owner_only_and_the_card_holds_no_secret():
    made = identity.create("site-a")
    path = identity.secret_path("site-a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    card = identity.card_path(path).read_text()
    for secret in (made.signing_secret, made.sealing_secret, made.engine_secret):
        assert secret.hex() not in card
        assert secret.hex() not in repr(made)


def test_three_keys_are_three_different_ones():
    card = identity.create("site-a").card
    assert len({card.signing_key, card.sealing_key, card.engine_key}) == 3


def test_a_card_is_read_from_its_file_or_from_a_local_name(tmp_path):
    made = identity.create("site-a")
    sent = tmp_path / "sent.toml"
    sent.write_bytes(made.card.to_toml())
    assert identity.load_card(str(sent)) == identity.load_card("site-a") == made.card


def test_local_names_lists_identities_and_nothing_else():
    assert identity.local_names() == []
    for name in ("site-b", "site-a"):
        with identity.hold(identity.create(name), bytes(32)):
            pass
    assert identity.local_names() == ["site-a", "site-b"]


@given(st.binary(max_size=64), st.binary(max_size=80), st.binary(max_size=40))
def test_verification_of_junk_is_false_and_never_raises(message, signature, key):
    assert identity.verify(key, message, signature) is False


def test_a_signature_is_for_its_message_only():
    made = identity.create("site-a")
    signature = made.sign(b"message")
    assert identity.verify(made.key, b"message", signature)
    assert not identity.verify(made.key, b"massage", signature)


def test_two_processes_with_one_identity_are_refused():
    made = identity.create("site-a")
    code = (
        "from swarmcell.node import identity\n"
        "from swarmcell.errors import SwarmError\n"
        "try:\n"
        "    with identity.hold(identity.load('site-a'), bytes(32)): print('held')\n"
        "except SwarmError: print('refused')\n"
    )
    ask = [sys.executable, "-c", code]
    with identity.hold(made, bytes(32)):
        assert subprocess.run(ask, capture_output=True, text=True, check=True).stdout == "refused\n"
        with pytest.raises(SwarmError, match="already runs"), identity.hold(made, bytes(32)):
            pass
        with identity.hold(made, b"another swarm".ljust(32)):
            pass
    assert subprocess.run(ask, capture_output=True, text=True, check=True).stdout == "held\n"


# -- passphrases -------------------------------------------------------------------------------------------------------


@pytest.fixture
def phrase(monkeypatch):
    """Set the passphrase of this process, by a key derivation that is quick enough for a test."""
    import nacl.pwhash

    monkeypatch.setattr(passphrase, "OPERATIONS", nacl.pwhash.argon2id.OPSLIMIT_MIN)
    monkeypatch.setattr(passphrase, "MEMORY_BYTES", nacl.pwhash.argon2id.MEMLIMIT_MIN)
    monkeypatch.setenv(passphrase.VARIABLE, "correct horse battery")
    return lambda text: monkeypatch.setenv(passphrase.VARIABLE, text)


def test_a_protected_identity_opens_by_its_passphrase_only_and_shows_no_secret(phrase):
    made = identity.create("site-a", protect=True)
    stored = identity.secret_path("site-a").read_text()
    assert not any(secret.hex() in stored for secret in (made.signing_secret, made.sealing_secret, made.engine_secret))
    assert identity.load("site-a") == made
    phrase("correct horse batterz")
    with pytest.raises(ConfigError, match="wrong passphrase"):
        identity.load("site-a")


def test_protecting_keeps_the_keys_and_the_mode(phrase):
    made = identity.create("site-a")
    assert stat.S_IMODE(identity.identity_folder().stat().st_mode) == 0o700
    path = identity.protect("site-a")
    assert identity.is_protected("site-a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert identity.load("site-a") == made
    identity.protect("site-a", remove=True)
    assert not identity.is_protected("site-a")
    assert identity.load("site-a") == made


def test_a_damaged_or_greedy_file_is_refused(phrase):
    identity.create("site-a", protect=True)
    path = identity.secret_path("site-a")
    text = path.read_text()
    for wrong in (
        text.replace('sealed = "', 'sealed = "00'),
        text.replace("memory_bytes = ", "memory_bytes = 9999999"),
    ):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match="does not open"):
            identity.load("site-a")


def test_a_short_passphrase_is_refused_and_nothing_is_made(phrase):
    phrase("short")
    with pytest.raises(ConfigError, match="at least 8 characters"):
        identity.create("site-a", protect=True)
    assert identity.local_names() == []


def test_without_a_terminal_the_remedy_is_named_and_a_file_will_do(phrase, monkeypatch, tmp_path):
    made = identity.create("site-a", protect=True)
    monkeypatch.delenv(passphrase.VARIABLE)
    with pytest.raises(ConfigError, match="SWARMCELL_PASSPHRASE_FILE"):
        identity.load("site-a")
    (tmp_path / "phrase").write_text("correct horse battery\n")
    (tmp_path / "phrase").chmod(0o640)
    monkeypatch.setenv(passphrase.FILE_VARIABLE, str(tmp_path / "phrase"))
    with pytest.raises(ConfigError, match="chmod 600"):
        identity.load("site-a")
    (tmp_path / "phrase").chmod(0o600)
    monkeypatch.setenv(passphrase.FILE_VARIABLE, str(tmp_path / "phrase"))
    assert identity.load("site-a") == made
    monkeypatch.setenv(passphrase.FILE_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(InputError, match="cannot be read"):
        identity.load("site-a")


def test_the_command_protects_and_says_what_is_so_already(phrase):
    from typer.testing import CliRunner

    from swarmcell.cli.app import app

    def run(*words):
        return CliRunner().invoke(app, ["identity", *words])

    assert run("create", "site-a", "--passphrase").exit_code == 0
    assert isinstance(run("protect", "site-a").exception, UsageError)
    assert run("protect", "site-a", "--remove").exit_code == 0
    assert isinstance(run("protect", "site-a", "--remove").exception, UsageError)
    assert run("protect", "site-a").exit_code == 0
    assert identity.is_protected("site-a")


# -- the keyring of the system -----------------------------------------------------------------------------------------


@pytest.fixture
def system(phrase, monkeypatch):
    """Give this process a keyring whose backend is a dict, through the library itself; and no passphrase."""
    keyring = pytest.importorskip("keyring", reason="the extra `keyring` is not installed")
    backend = pytest.importorskip("keyring.backend")

    class Held(backend.KeyringBackend):
        priority = 1

        def __init__(self):
            self.entries = {}

        def get_password(self, service, username):
            return self.entries.get((service, username))

        def set_password(self, service, username, password):
            self.entries[service, username] = password

        def delete_password(self, service, username):
            del self.entries[service, username]

    monkeypatch.delenv(passphrase.VARIABLE)
    before, held = keyring.get_keyring(), Held()
    keyring.set_keyring(held)
    yield held
    keyring.set_keyring(before)


def test_the_keyring_opens_an_identity_and_the_file_alone_does_not(system):
    made = identity.create("site-a", keyring=True)
    stored = identity.secret_path("site-a").read_text()
    ((_, entry),) = system.entries
    assert made.signing_secret.hex() not in stored
    assert entry in stored
    assert system.entries["swarmcell", entry] not in stored
    assert identity.load("site-a") == made
    system.entries.clear()
    with pytest.raises(ConfigError, match=r"holds no entry .*does not open elsewhere"):
        identity.load("site-a")


def test_leaving_the_keyring_keeps_the_keys_and_leaves_nothing_behind(system):
    made = identity.create("site-a")
    identity.protect("site-a", keyring=True)
    assert len(system.entries) == 1
    identity.protect("site-a", remove=True)
    assert (system.entries, identity.load("site-a")) == ({}, made)


def test_a_machine_without_a_keyring_is_told_what_to_do_instead(system):
    import keyring.backends.fail

    keyring.set_keyring(keyring.backends.fail.Keyring())
    with pytest.raises(ConfigError, match="SWARMCELL_PASSPHRASE_FILE"):
        identity.create("site-a", keyring=True)
    assert identity.local_names() == [], "nothing is made, and nothing lies in the clear"


def test_a_secret_that_others_may_read_is_refused_whenever_it_is_read(phrase):
    identity.create("site-a")
    path = identity.secret_path("site-a")
    path.chmod(0o644)
    for read in (identity.load, identity.is_protected, identity.protect):
        with pytest.raises(ConfigError, match="chmod 600"):
            read("site-a")
