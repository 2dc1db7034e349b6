"""Facts about sealing."""

from dataclasses import replace

import nacl.public
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcell.errors import TamperedError
from swarmcell.privacy import sealing

KEY = bytes(range(32))
WHERE = sealing.Seal(swarm=b"s" * 32, author=b"a" * 32, round=3, epoch=0, purpose="update")


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(WHERE, swarm=b"t" * 32),
        replace(WHERE, author=b"b" * 32),
        replace(WHERE, round=4),
        replace(WHERE, epoch=1),
        replace(WHERE, purpose="checkpoint"),
    ],
)
def test_sealed_bytes_cannot_be_moved_elsewhere(elsewhere):
    sealed = sealing.seal(b"parameters", KEY, WHERE)
    with pytest.raises(TamperedError, match="do not open"):
        sealing.open_sealed(sealed, KEY, elsewhere)


@given(st.binary(max_size=200), st.data())
def test_a_flipped_bit_anywhere_is_refused(plain, draw):
    sealed = bytearray(sealing.seal(plain, KEY, WHERE))
    position = draw.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[position // 8] ^= 1 << (position % 8)
    with pytest.raises(TamperedError):
        sealing.open_sealed(bytes(sealed), KEY, WHERE)


@given(st.binary(max_size=100))
def test_arbitrary_bytes_never_open(junk):
    with pytest.raises(TamperedError):
        sealing.open_sealed(junk, KEY, WHERE)
    with pytest.raises(TamperedError):
        sealing.unwrap(junk, b"x" * 32)


def test_another_key_does_not_open():
    sealed = sealing.seal(b"parameters", KEY, WHERE)
    with pytest.raises(TamperedError):
        sealing.open_sealed(sealed, bytes(32), WHERE)


@given(st.binary(max_size=1000))
def test_sealed_bytes_open_to_the_same_and_differ_each_time(plain):
    one, other = (sealing.seal(plain, KEY, WHERE) for _ in range(2))
    assert one != other
    assert len(one) == len(plain) + sealing.OVERHEAD_BYTES
    assert sealing.open_sealed(one, KEY, WHERE) == sealing.open_sealed(other, KEY, WHERE) == plain


def test_a_wrapped_key_opens_for_its_member_only():
    alice, bob = nacl.public.PrivateKey.generate(), nacl.public.PrivateKey.generate()
    key = sealing.new_swarm_key()
    wrapped = sealing.wrap(key, bytes(alice.public_key))
    assert sealing.unwrap(wrapped, bytes(alice)) == key
    with pytest.raises(TamperedError, match="another member"):
        sealing.unwrap(wrapped, bytes(bob))


def test_the_digest_of_a_key_is_not_the_plain_hash_of_it():
    import hashlib

    assert sealing.key_digest(KEY) != hashlib.sha256(KEY).digest()
    assert sealing.key_digest(KEY) == sealing.key_digest(bytes(KEY))
