"""Packed elements: one long number, as Python's integers write it, across chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.packing import pack, packed_bytes, spare_bits_are_zero, unpack

WIDTHS = st.integers(20, 24)


def slow_pack(elements: list[int], bits: int) -> bytes:
    """The module's second sentence."""
    number = sum(element % 2**bits << place * bits for place, element in enumerate(elements))
    return number.to_bytes(packed_bytes(len(elements), bits), "little")


def unpacked(packed: bytes, count: int, bits: int) -> list[int]:
    out = np.full(count, 2**32 - 1, np.uint32)
    for place, elements in unpack(packed, count, bits):
        out[place] = elements
    return out.tolist()


@given(WIDTHS, st.lists(st.integers(0, 2**32 - 1) | st.sampled_from([0, 2**20 - 1, 2**24 - 1, 2**32 - 1]), max_size=40))
def test_packing_equals_its_slow_twin_and_unpacking_undoes_it(bits: int, elements: list[int]) -> None:
    packed = pack(np.array(elements, np.uint32), bits).tobytes()
    assert packed == slow_pack(elements, bits)
    assert spare_bits_are_zero(packed, len(elements), bits)
    assert unpacked(packed, len(elements), bits) == [element % 2**bits for element in elements]


@given(WIDTHS, st.integers(1, 40), st.data())
def test_any_bytes_unpack_to_what_packs_to_them_again(bits: int, count: int, data: st.DataObject) -> None:
    size = packed_bytes(count, bits)
    number = data.draw(st.integers(0, 2 ** (count * bits) - 1))
    packed = number.to_bytes(size, "little")
    assert slow_pack(unpacked(packed, count, bits), bits) == packed


@pytest.mark.parametrize("bits", range(20, 25))
@pytest.mark.parametrize("count", [(1 << 15) - 1, 1 << 15, (1 << 15) + 1, (2 << 15) + 9])
def test_chunks_leave_no_seam(bits: int, count: int) -> None:
    elements = np.random.default_rng(count).integers(0, 2**32, count, dtype=np.uint32)
    packed = pack(elements, bits).tobytes()
    assert packed == _in_groups(elements.tolist(), bits)
    assert unpacked(packed, count, bits) == (elements & (2**bits - 1)).tolist()


def _in_groups(elements: list[int], bits: int) -> bytes:
    """Eight elements end at a byte, so that groups of eight can be written one after the other."""
    return b"".join(slow_pack(elements[at : at + 8], bits) for at in range(0, len(elements), 8))


@given(WIDTHS, st.integers(1, 17))
def test_every_spare_bit_is_seen(bits: int, count: int) -> None:
    size = packed_bytes(count, bits)
    for spare in range(count * bits, 8 * size):
        assert not spare_bits_are_zero((1 << spare).to_bytes(size, "little"), count, bits)
    assert spare_bits_are_zero(((1 << count * bits) - 1).to_bytes(size, "little"), count, bits)
