"""The running sum in the ring: equal to Python's integers modulo 2^k, and untouched by a vector of another length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.fixedpoint import FixedPoint
from secagg.ringsum import RingSum, WrongLength


def encoding(bits: Any) -> FixedPoint:
    return FixedPoint.fit(clients=3, value_bound=1.0, modulus_bits=bits)


@given(st.sampled_from([20, 21, 22, 23, 24, 32, 64]), st.integers(1, 17), st.integers(0, 6), st.data())
def test_the_sum_equals_pythons(bits: int, length: int, count: int, data: st.DataObject) -> None:
    numbers = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    rows = [data.draw(st.lists(numbers, min_size=length, max_size=length)) for _ in range(count)]
    ring = RingSum(encoding(bits), length)
    for row in rows:
        ring.fold(bytes(ring.to_wire(np.array(row, f"int{max(bits, 32)}"))))
    half = 2 ** (bits - 1)
    expected = [(sum(row[place] for row in rows) + half) % 2**bits - half for place in range(length)]
    signed = ring.signed()
    assert signed.dtype == np.dtype(f"int{max(bits, 32)}")
    assert signed.tolist() == expected


@pytest.mark.parametrize("bits", [32, 64])
def test_the_wire_is_little_endian(bits: int) -> None:
    ring = RingSum(encoding(bits), 2)
    assert bytes(ring.to_wire(np.array([1, -2], f"int{bits}"))) == b"".join(
        (value % 2**bits).to_bytes(bits // 8, "little") for value in (1, -2)
    )
    assert ring.wire_bytes == 2 * bits // 8


def test_an_encoding_goes_to_the_wire_without_a_copy() -> None:
    integers = np.arange(4, dtype=np.int32)
    wire = RingSum(encoding(32), 4).to_wire(integers)
    integers[0] = 7
    assert bytes(wire[:4]) == b"\x07\0\0\0"


@pytest.mark.parametrize("length", [0, 1, 4, 11, 13, 16])
def test_t12_t16_a_vector_of_another_length_changes_nothing(length: int) -> None:
    ring = RingSum(encoding(32), 3)
    with pytest.raises(WrongLength, match=f"vector of {length} bytes, expected exactly 12"):
        ring.fold(bytes(length))
    assert ring.store() is None  # nothing was allocated for it either
    ring.fold(b"\x01\0\0\0" * 3)
    with pytest.raises(WrongLength):
        ring.fold(b"\x01" * length)
    assert ring.signed().tolist() == [1, 1, 1]


@pytest.mark.parametrize("bits", [20, 21, 22, 23, 24])
def test_t16_a_packed_vector_has_exactly_its_bits(bits: int) -> None:
    """Bytes more or fewer, or bits behind the last element, which the sum would not show: a covert channel."""
    ring = RingSum(encoding(bits), 3)
    wire = bytes(ring.to_wire(np.array([1, -1, 2], np.int32)))
    assert len(wire) == ring.wire_bytes == -(-3 * bits // 8)
    assert int.from_bytes(wire, "little") == 1 | (2**bits - 1) << bits | 2 << 2 * bits
    for body in (wire[:-1], wire + b"\0", b""):
        with pytest.raises(WrongLength, match=f"vector of {len(body)} bytes, expected exactly {len(wire)}"):
            ring.fold(body)
    for spare in range(3 * bits, 8 * len(wire)):
        hidden = (int.from_bytes(wire, "little") | 1 << spare).to_bytes(len(wire), "little")
        with pytest.raises(WrongLength, match=f"3 elements of {bits} bits goes on behind its last element"):
            ring.fold(hidden)
    assert ring.store() is None
    ring.fold(wire)
    assert ring.signed().tolist() == [1, -1, 2]


def test_what_stands_above_a_narrow_ring_is_not_sent_and_not_counted() -> None:
    """A mask is applied modulo 2^32; only the low bits travel, and only they make the sum."""
    ring = RingSum(encoding(20), 2)
    integers = np.array([5, -7], np.int32) + np.int32(0x123 << 20)
    assert bytes(ring.to_wire(integers)) == bytes(ring.to_wire(np.array([5, -7], np.int32)))
    ring.fold_ring(integers.view(np.uint32))
    assert ring.signed().tolist() == [5, -7]


@pytest.mark.parametrize("shape", [(1,), (), (3, 1), (1, 3), (2,)])
def test_ring_elements_of_another_shape_are_not_spread_over_the_sum(shape: tuple[int, ...]) -> None:
    ring = RingSum(encoding(32), 3)
    with pytest.raises(ValueError):  # noqa: PT011 - whichever
        ring.fold_ring(np.ones(shape, np.uint32))
    assert ring.signed().tolist() == [0, 0, 0]


def test_no_vectors_sum_to_zero() -> None:
    assert RingSum(encoding(64), 3).signed().tolist() == [0, 0, 0]


def test_a_stored_sum_goes_on() -> None:
    ring = RingSum(encoding(32), 3)
    ring.fold(b"\x05\0\0\0" * 3)
    other = RingSum(encoding(32), 3)
    stored = ring.store()
    assert stored is not None
    stored.flags.writeable = False  # as a record gives it back
    other.load(stored)
    other.fold(b"\x01\0\0\0" * 3)
    assert other.signed().tolist() == [6, 6, 6]
    assert ring.signed().tolist() == [5, 5, 5]
    other.load(None)
    assert other.signed().tolist() == [0, 0, 0]
