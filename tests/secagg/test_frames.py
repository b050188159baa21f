"""Frames: the header's bytes, and a body that is only looked at once its length is known to be right."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.frames import HEADER_BYTES, MAX_BODY_BYTES, SIGNATURE_BYTES, Header, Malformed, split

headers = st.builds(
    Header,
    step=st.integers(0, 255),
    part=st.integers(0, 2**16 - 1),
    length=st.integers(0, 2**64 - 1),
    spec=st.binary(min_size=32, max_size=32),
    sender=st.binary(min_size=32, max_size=32),
    recipient=st.binary(min_size=32, max_size=32),
    nonce=st.binary(min_size=12, max_size=12),
    tag=st.binary(min_size=16, max_size=16),
    signature=st.binary(min_size=64, max_size=64),
)
HEADER = Header(1, 2, 5, b"a" * 32, b"b" * 32, b"c" * 32, b"n" * 12, b"t" * 16, b"s" * 64)
FRAME = HEADER.to_bytes() + b"hello"


@given(headers)
def test_a_header_is_read_back(header: Header) -> None:
    data = header.to_bytes()
    assert len(data) == HEADER_BYTES == 204
    assert Header.from_bytes(data) == header
    assert Header.from_bytes(memoryview(data + b"body")) == header


def test_known_bytes() -> None:
    """The format is a promise to other implementations: 4+1+1+2+8, then the fixed fields, then the signature."""
    assert (
        b"SAGG\x01\x01\x00\x02" + (5).to_bytes(8, "big") + b"a" * 32 + b"b" * 32 + b"c" * 32
        + b"n" * 12 + b"t" * 16 + b"s" * 64 + b"hello"
    ) == FRAME  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in fields(Header) if field.name != "signature"])
def test_every_field_is_signed(name: str) -> None:
    value = getattr(HEADER, name)
    changed = replace(HEADER, **{name: value + 1 if isinstance(value, int) else value[:-1] + b"!"})
    assert changed.signed_bytes() != HEADER.signed_bytes()


def test_the_signature_does_not_sign_itself() -> None:
    assert HEADER.sign_with(b"x" * 64).signed_bytes() == HEADER.signed_bytes()
    assert HEADER.sign_with(b"x" * 64).to_bytes()[-SIGNATURE_BYTES:] == b"x" * 64


def test_the_body_is_a_view_and_not_a_copy() -> None:
    frame = bytearray(FRAME)
    header, body = split(frame)
    assert header == HEADER
    frame[-1] = ord("!")
    assert bytes(body) == b"hell!"


@pytest.mark.parametrize("length", range(len(FRAME)))
def test_t14_every_truncation_is_malformed(length: int) -> None:
    with pytest.raises(Malformed, match="truncated" if length < HEADER_BYTES else "which states 5"):
        split(FRAME[:length])


def test_t14_trailing_bytes_are_malformed() -> None:
    with pytest.raises(Malformed, match="6 bytes behind the header, which states 5"):
        split(FRAME + b"!")


@pytest.mark.parametrize("length", [5, 6, 2**63, 2**64 - 1])
def test_t12_a_body_over_the_limit_is_named_before_it_is_looked_at(length: int) -> None:
    """The frame ends with its header: the stated length alone is enough to turn it away."""
    with pytest.raises(Malformed, match=f"body of {length} bytes, at most 4 expected"):
        split(replace(HEADER, length=length).to_bytes(), limit=4)


def test_the_limit_itself_is_allowed_and_there_is_always_one() -> None:
    assert bytes(split(FRAME, limit=5)[1]) == b"hello"
    with pytest.raises(Malformed, match="at most"):
        split(replace(HEADER, length=MAX_BODY_BYTES + 1).to_bytes())


def test_wrong_magic_and_another_version_are_named() -> None:
    with pytest.raises(Malformed, match="wrong magic"):
        split(b"SAGH" + FRAME[4:])
    with pytest.raises(Malformed, match="frame version 2, this side speaks 1"):
        split(FRAME[:4] + b"\x02" + FRAME[5:])


@given(st.binary(max_size=300))
def test_any_bytes_are_malformed(noise: bytes) -> None:
    with pytest.raises(Malformed):
        split(noise)
