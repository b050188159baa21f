"""The alias table: what it holds is exactly what it was given, and what it draws is what it holds."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dp.noise.alias import UNITS, AliasTable, rounded
from secagg.errors import Refused
from secagg.gaussian import Keystream


class Words(Keystream):
    """A keystream of chosen bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def bytes(self, count: int) -> bytes:
        head, self.data = self.data[:count], self.data[count:]
        return head


def held(table: AliasTable) -> dict[int, int]:
    """The chance of every outcome in units of 2^-192, read from the columns: a word's 64 bits, then 128 more."""
    bits = table._bits
    found: dict[int, int] = {}
    for column in range(1 << bits):
        share = ((int(table._edges[column]) - (column << 64 - bits)) << 128) + table._rest[column] % 2**128
        if column == (1 << bits) - 1 and table._rest[column] == UNITS >> bits:
            share = UNITS >> bits
        own, other = (int(x) for x in table._outcomes[2 * column : 2 * column + 2])
        found[own] = found.get(own, 0) + share
        found[other] = found.get(other, 0) + (UNITS >> bits) - share
    return {outcome: chance for outcome, chance in found.items() if chance}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 17, 301])
def test_the_table_holds_every_chance_exactly(count: int) -> None:
    dice = random.Random(count)
    weights = [dice.randrange(1 << dice.randrange(1, 185)) for _ in range(count)]
    weights[dice.randrange(count)] += UNITS - sum(weights)
    table = AliasTable(weights, first=-7)
    assert held(table) == {outcome - 7: weight for outcome, weight in enumerate(weights) if weight}


def test_equal_chances_fill_whole_columns() -> None:
    assert held(AliasTable([UNITS // 8] * 8, first=0)) == dict.fromkeys(range(8), UNITS // 8)


# Two columns of 2^191 units; outcome 0 has 5 * 2^128 + 9 of the first.
LOPSIDED = 5 * 2**128 + 9


@pytest.mark.parametrize(
    ("word", "extra", "outcome"),
    [(0, 0, 0), (4, 0, 0), (5, 8, 0), (5, 9, 1), (5, 2**128 - 1, 1), (6, 0, 1), (2**63, 0, 1), (2**64 - 1, 0, 1)],
)
def test_a_word_on_the_edge_is_decided_by_more_bits(word: int, extra: int, outcome: int) -> None:
    table = AliasTable([LOPSIDED, UNITS - LOPSIDED], first=0)
    stream = Words(word.to_bytes(8, "little") + extra.to_bytes(16, "big"))
    assert table.draw(1, stream).tolist() == [outcome]


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 40_000])
def test_any_number_of_draws(size: int) -> None:
    draws = AliasTable([UNITS // 4] * 4, first=-2).draw(size, Keystream(random.Random(size).randbytes))
    assert draws.shape == (size,)
    assert draws.dtype == np.int64
    assert size < 1000 or set(draws.tolist()) == {-2, -1, 0, 1}


@pytest.mark.parametrize("weights", [[UNITS - 1], [UNITS + 1, -1], [UNITS, 1]])
def test_weights_that_are_no_distribution_are_refused(weights: list[int]) -> None:
    with pytest.raises(Refused, match=r"sum to 2\^192"):
        AliasTable(weights, first=0)


def test_rounding_leaves_nothing_out() -> None:
    assert rounded([1, 1, 1]) == [UNITS // 3, UNITS - 2 * (UNITS // 3), UNITS // 3]
