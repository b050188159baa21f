"""Shamir's sharing: a slow twin in whole numbers, every subset of small sharings, known answers, bad input."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.errors import Refused
from smpc.secaggplus.shamir import LIMBS, PRIME, SHARE_BYTES, combine, split
from tests.secagg.exact import counting_rng

SECRETS = (bytes(32), b"\xff" * 32, bytes(range(32)))


def slow_value(limbs: Sequence[int], x: int) -> int:
    """The polynomial with these coefficients at x, in the field."""
    return sum(coefficient * x**power for power, coefficient in enumerate(limbs)) % PRIME


def slow_secret(points: Sequence[int], values: Sequence[int]) -> int:
    """Lagrange's formula at 0."""
    total = 0
    for place, one in enumerate(points):
        weight = 1
        for other in points[:place] + points[place + 1 :]:
            weight = weight * other * pow(other - one, -1, PRIME) % PRIME
        total += weight * values[place]
    return total % PRIME


def recover(shares: np.ndarray, points: Sequence[int], secret: int = 0) -> bytes | None:
    """`secret` from the shares with these numbers."""
    rows = shares[np.array(points) - 1, secret]
    return combine(np.array([points]), rows[None])[0]


@pytest.mark.parametrize(("threshold", "count"), [(2, 2), (2, 4), (3, 5), (4, 6), (6, 6)])
def test_every_subset_of_threshold_shares_recovers_every_secret(threshold: int, count: int) -> None:
    shares = split(SECRETS, threshold=threshold, count=count)
    assert shares.shape == (count, 3, LIMBS)
    assert shares.dtype == np.uint32
    for size in range(threshold, count + 1):
        for points in itertools.permutations(range(1, count + 1), size):
            for number, secret in enumerate(SECRETS):
                assert recover(shares, points, number) == secret
            if size > 3:
                break


@settings(max_examples=30)
@given(st.binary(min_size=32, max_size=32), st.integers(2, 40), st.integers(0, 30), st.randoms())
def test_shares_equal_those_of_the_slow_twin(secret: bytes, threshold: int, more: int, random: object) -> None:
    count = threshold + more
    shares = split([secret], threshold=threshold, count=count, rng=counting_rng(secret.hex()))
    numbers = np.frombuffer(counting_rng(secret.hex())(4 * (threshold - 1) * LIMBS), "<u4") & PRIME
    coefficients = numbers.reshape(threshold - 1, LIMBS).astype(object)
    whole = int.from_bytes(secret, "little")
    for limb in range(LIMBS):
        polynomial = [whole >> (30 * limb) & (2**30 - 1), *(int(row[limb]) for row in coefficients)]
        assert [slow_value(polynomial, x) for x in range(1, count + 1)] == shares[:, 0, limb].tolist()
    points = sorted(random.sample(range(1, count + 1), threshold))  # type: ignore[attr-defined]
    limbs = [slow_secret(points, shares[np.array(points) - 1, 0, limb].tolist()) for limb in range(LIMBS)]
    assert sum(limb << (30 * place) for place, limb in enumerate(limbs)) == whole
    assert recover(shares, points) == secret


def test_many_secrets_at_once_are_those_one_by_one() -> None:
    """Different sets of points in one call, some of them alike."""
    sharings = [split([bytes([number]) * 32], threshold=3, count=6) for number in range(40)]
    points = np.array(
        [sorted(p) for p in itertools.islice(itertools.cycle(itertools.combinations(range(1, 7), 3)), 40)]
    )
    shares = np.stack([sharing[row - 1, 0] for sharing, row in zip(sharings, points, strict=True)])
    assert combine(points, shares) == [bytes([number]) * 32 for number in range(40)]


def test_known_answer() -> None:
    shares = split([bytes(range(32))], threshold=3, count=4, rng=counting_rng("shamir"))
    assert shares[3, 0].tolist() == KNOWN
    assert shares.astype("<u4")[3].tobytes() == np.array(KNOWN, "<u4").tobytes()
    assert len(shares[3].tobytes()) == SHARE_BYTES


KNOWN = [351471899, 1588614068, 1012403081, 1089055842, 744520670, 1785520896, 754355840, 870216713, 1645758304]


def test_one_share_short_is_uniform_whatever_the_secret() -> None:
    """20,000 sharings of the worst secret: the low byte of two of three shares, together, is uniform."""
    shares = np.stack([split([b"\xff" * 32], threshold=3, count=3)[:2, 0] for _ in range(2000)])
    for share in (0, 1):
        counts = np.bincount(((shares[:, share] >> 8) & 255).reshape(-1), minlength=256)
        expected = counts.sum() / 256
        assert float(((counts - expected) ** 2 / expected).sum()) < 400  # 255 degrees of freedom: 1e-8
    together = (shares[:, 0].astype(np.uint64) + shares[:, 1]) % PRIME
    counts = np.bincount((together >> np.uint64(23)).astype(np.int64).reshape(-1), minlength=256)
    expected = counts.sum() / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 400


def test_the_prime_itself_is_drawn_again() -> None:
    """A generator that gives 31 ones first: modulo the prime that would make zero likelier than the rest."""
    given = iter([b"\xff" * 36, *(bytes([5, 0, 0, 0]) * 9 for _ in range(2))])
    asked: list[int] = []

    def rng(count: int) -> bytes:
        asked.append(count)
        return next(given)[:count]

    shares = split([bytes(32)], threshold=2, count=2, rng=rng)
    assert asked == [36, 36]
    assert shares[:, 0].tolist() == [[5] * 9, [10] * 9]


def test_altered_shares_recover_something_else_or_nothing() -> None:
    shares = split([bytes(range(32))], threshold=3, count=3)
    for limb in range(LIMBS):
        altered = shares.copy()
        altered[1, 0, limb] = (int(altered[1, 0, limb]) + 1) % PRIME
        assert recover(altered, (1, 2, 3)) != bytes(range(32))
    assert recover(split([b"\xff" * 32], threshold=2, count=3), (1, 3)) == b"\xff" * 32


@pytest.mark.parametrize(("threshold", "count"), [(1, 5), (0, 5), (6, 5), (2, 1)])
def test_a_threshold_out_of_range_is_refused(threshold: int, count: int) -> None:
    with pytest.raises(Refused, match=f"threshold {threshold} of {count} shares"):
        split([bytes(32)], threshold=threshold, count=count)


def test_a_secret_of_another_length_is_refused() -> None:
    with pytest.raises(Refused, match="secret of 31 bytes, expected 32"):
        split([bytes(31)], threshold=2, count=3)
