"""Keys of a pair, tags on bodies, sealed envelopes: one purpose, one direction, one context each."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import Refused
from secagg.identity import Identity
from secagg.sealing import ENVELOPE_OVERHEAD, NONCE_BYTES, TAG_BYTES, Channel, Tampered, derive, seal, unseal

A, B, C = (Identity.generate() for _ in range(3))
SPEC, NONCE = b"d" * 32, b"n" * NONCE_BYTES
KEY = X25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()


def slow_derive(secret: bytes, purpose: str, *context: bytes, length: int = 32) -> bytes:
    """RFC 5869 by the book: extract with a zero salt, expand block by block."""
    key = hmac.digest(bytes(32), secret, hashlib.sha256)
    info = b"secagg/v1/" + purpose.encode() + b"".join(len(part).to_bytes(4, "big") + part for part in context)
    out = block = b""
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes([len(out) // 32 + 1]), hashlib.sha256)
        out += block
    return out[:length]


@given(st.binary(max_size=64), st.text(max_size=8), st.lists(st.binary(max_size=40), max_size=4), st.integers(1, 100))
def test_derive_is_hkdf(secret: bytes, purpose: str, context: list[bytes], length: int) -> None:
    assert derive(secret, purpose, *context, length=length) == slow_derive(secret, purpose, *context, length=length)


def test_keys_of_another_secret_purpose_or_context_differ() -> None:
    keys = [
        derive(b"s", "frame", b"ab", b"c"),
        derive(b"t", "frame", b"ab", b"c"),
        derive(b"s", "envelope", b"ab", b"c"),
        derive(b"s", "frame", b"a", b"bc"),
        derive(b"s", "frame", b"abc"),
        derive(b"s", "frame", b"abc", b""),
        derive(b"s", "frame", b"c", b"ab"),
        derive(b"s", "frame"),
    ]
    assert len(set(keys)) == len(keys)


@given(st.binary(max_size=200))
def test_a_body_passes_from_one_end_to_the_other(body: bytes) -> None:
    tag = Channel(A, B.public, SPEC).tag(NONCE, body)
    assert len(tag) == TAG_BYTES
    Channel(B, A.public, SPEC).check(NONCE, tag, memoryview(body))


@given(st.binary(min_size=1, max_size=200), st.data())
def test_any_change_is_tampering(body: bytes, data: st.DataObject) -> None:
    tag = Channel(A, B.public, SPEC).tag(NONCE, body)
    place, bit = data.draw(st.integers(0, len(body) - 1)), 1 << data.draw(st.integers(0, 7))
    altered = body[:place] + bytes([body[place] ^ bit]) + body[place + 1 :]
    receiver = Channel(B, A.public, SPEC)
    for nonce, wrong, bad_body in [
        (NONCE, tag, altered),
        (NONCE, tag, body[:-1]),
        (NONCE, tag, body + b"\0"),
        (b"m" * NONCE_BYTES, tag, body),
        (NONCE, bytes([tag[0] ^ bit]) + tag[1:], body),
        (NONCE, tag[:-1], body),
        (NONCE, tag + b"\0", body),
        (NONCE, b"", body),
    ]:
        with pytest.raises(Tampered):
            receiver.check(nonce, wrong, bad_body)


def test_a_tag_serves_one_direction_one_pair_and_one_spec() -> None:
    tag = Channel(A, B.public, SPEC).tag(NONCE, b"body")
    for elsewhere in [
        Channel(A, B.public, SPEC),  # reflected to its author
        Channel(B, A.public, b"e" * 32),
        Channel(B, C.public, SPEC),
        Channel(C, A.public, SPEC),
    ]:
        with pytest.raises(Tampered):
            elsewhere.check(NONCE, tag, b"body")


@given(st.binary(max_size=100), st.binary(max_size=20))
def test_an_envelope_opens_for_its_recipient_in_its_context(secret: bytes, context: bytes) -> None:
    envelope = seal(secret, PUBLIC, context=context)
    assert len(envelope) == len(secret) + ENVELOPE_OVERHEAD
    assert unseal(memoryview(envelope), KEY, context=context) == secret
    with pytest.raises(Tampered):
        unseal(envelope, KEY, context=context + b"!")
    with pytest.raises(Tampered):
        unseal(envelope, X25519PrivateKey.generate(), context=context)


def test_every_altered_or_cut_envelope_stays_closed() -> None:
    envelope = seal(b"a secret of some length", PUBLIC, context=b"here")
    for place in range(len(envelope)):
        for bit in (0x01, 0x80) if place != 31 else (0x01,):  # X25519 ignores the top bit of a public key; see below
            altered = envelope[:place] + bytes([envelope[place] ^ bit]) + envelope[place + 1 :]
            with pytest.raises(Tampered):
                unseal(altered, KEY, context=b"here")
        with pytest.raises(Tampered):
            unseal(envelope[:place], KEY, context=b"here")
    with pytest.raises(Tampered):
        unseal(envelope + b"\0", KEY, context=b"here")


def test_the_ephemeral_key_is_bound_as_it_was_sent() -> None:
    """The same point written another way (top bit set) is another envelope: no malleability."""
    envelope = seal(b"secret", PUBLIC, context=b"here")
    with pytest.raises(Tampered):
        unseal(envelope[:31] + bytes([envelope[31] ^ 0x80]) + envelope[32:], KEY, context=b"here")


def test_every_envelope_has_its_own_key() -> None:
    """The nonce is constant, so a repeated ephemeral key would repeat the keystream."""
    envelopes = [seal(b"\0" * 32, PUBLIC, context=b"") for _ in range(20)]
    assert len({envelope[:32] for envelope in envelopes}) == 20
    assert len({envelope[32:] for envelope in envelopes}) == 20


def test_randomness_is_an_argument() -> None:
    asked: list[int] = []

    def rng(count: int) -> bytes:
        asked.append(count)
        return bytes(range(count))

    assert seal(b"x", PUBLIC, context=b"c", rng=rng) == seal(b"x", PUBLIC, context=b"c", rng=rng)
    assert asked == [32, 32]


def test_m12_nothing_is_sealed_to_a_point_of_low_order() -> None:
    with pytest.raises(Refused, match="low order"):
        seal(b"secret", bytes(32), context=b"")
    with pytest.raises(Tampered):
        unseal(bytes(32) + bytes(40), KEY, context=b"")
