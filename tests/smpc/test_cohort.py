"""Sets of clients on the wire, exhaustively for small rosters."""

from __future__ import annotations

import itertools

import pytest

from smpc.cohort import Malformed, decode_set, encode_set, set_bytes


@pytest.mark.parametrize("count", range(10))
def test_every_subset_comes_back(count: int) -> None:
    clients = [f"site-{number}" for number in range(count)]
    seen = set()
    for size in range(count + 1):
        for members in itertools.combinations(clients, size):
            body = encode_set(members, clients)
            assert len(body) == set_bytes(count)
            assert decode_set(body, clients) == set(members)
            seen.add(body)
    assert len(seen) == 2**count


def test_a_wrong_length_and_a_bit_beyond_the_roster_are_malformed() -> None:
    clients = ["a", "b", "c"]
    for body in (b"", b"\0\0"):
        with pytest.raises(Malformed, match="expected 1"):
            decode_set(body, clients)
    for bit in range(3, 8):
        with pytest.raises(Malformed, match="beyond the roster"):
            decode_set(bytes([1 << bit]), clients)
