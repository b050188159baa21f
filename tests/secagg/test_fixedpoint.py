"""Fixed point: the overflow proof, exhaustively where it is small and at the ring's edge where it is not."""

from __future__ import annotations

import itertools
import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from pydantic import ValidationError

from secagg.errors import InvalidUpdate, Refused
from secagg.fixedpoint import MAX_WEIGHT, MIN_FRACTION_BITS, FixedPoint
from secagg.gaussian import Rng


def rint(value: Fraction) -> int:
    """To the nearest integer, halves to the even one: `round` on a Fraction is exact."""
    return round(value)


def slow_encode(encoding: FixedPoint, vector: NDArray[np.float32], weight: int) -> list[int]:
    """The module's first sentence, in rationals."""
    bound = Fraction(encoding.value_bound)
    out = [
        rint(weight * min(max(Fraction(float(x)), -bound), bound) * 2**encoding.fraction_bits) for x in vector.tolist()
    ]
    return [*out, weight] if encoding.divisor is None else out


def slow_bits(clients: int, value_bound: float, max_weight: int, fraction_bits: int) -> int:
    """Count bits up until the worst sum fits, sign included."""
    values = clients * (max_weight * Fraction(value_bound) * 2**fraction_bits + Fraction(1, 2))
    worst = max(values, Fraction(clients * max_weight))
    return next(bits for bits in itertools.count(1) if worst <= 2 ** (bits - 1) - 1)


@pytest.mark.parametrize("clients", range(1, 10))
def test_bits_needed_equals_its_slow_twin_over_all_small_parameters(clients: int) -> None:
    for value_bound, max_weight, fraction_bits in itertools.product(
        [2.0**-9, 0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 3.7, 1e3], range(1, 9), range(0, 12)
    ):
        given_bits = FixedPoint.bits_needed(
            clients=clients, value_bound=value_bound, max_weight=max_weight, fraction_bits=fraction_bits
        )
        assert given_bits == slow_bits(clients, value_bound, max_weight, fraction_bits)


@pytest.mark.parametrize("clients", range(1, 9))
def test_m11_no_sum_leaves_the_bits_that_were_proven_exhaustively(clients: int) -> None:
    """For all small parameters: the worst encodings that exist, summed, fit the signed range of `bits_needed`."""
    for value_bound, max_weight, fraction_bits in itertools.product(
        [0.3, 0.5, 1.0, 1.7, 100.0], range(1, 6), [8, 9, 10]
    ):
        encoding = FixedPoint(
            clients=clients, value_bound=value_bound, max_weight=max_weight, fraction_bits=fraction_bits
        )
        bits = FixedPoint.bits_needed(
            clients=clients, value_bound=value_bound, max_weight=max_weight, fraction_bits=fraction_bits
        )
        extremes = np.array([-np.inf, -value_bound, value_bound, np.inf]).clip(-3e38, 3e38).astype(np.float32)
        for weight in range(max_weight + 1):
            integers = encoding.encode(extremes, weight).integers.tolist()
            assert integers == slow_encode(encoding, extremes, weight)
            assert clients * max(map(abs, integers)) <= 2 ** (bits - 1) - 1


def edge(modulus_bits: int, clients: int, max_weight: int) -> float:
    """The largest value_bound, a float, whose worst sum fits at 8 fraction bits; 1 ulp more does not."""
    room = Fraction(2 ** (modulus_bits - 1) - 1, clients) - Fraction(1, 2)
    bound = float(room / max_weight / 2**MIN_FRACTION_BITS)
    while Fraction(bound) * max_weight * 2**MIN_FRACTION_BITS > room:
        bound = math.nextafter(bound, 0)
    while Fraction(math.nextafter(bound, math.inf)) * max_weight * 2**MIN_FRACTION_BITS <= room:
        bound = math.nextafter(bound, math.inf)
    return bound


EDGES = [
    (modulus_bits, clients, max_weight)
    for modulus_bits, weights in [
        (20, [1, 7]),
        (23, [1, 7]),
        (24, [1, 7, 100]),
        (32, [1, 7, 1000]),
        (64, [1 << 16, (1 << 24) + 1, MAX_WEIGHT]),
    ]
    for clients in [1, 3, 10, 127]
    for max_weight in weights
]


@pytest.mark.parametrize(("modulus_bits", "clients", "max_weight"), EDGES)
def test_m11_the_sum_is_exact_at_the_rings_edge_and_refused_one_step_beyond(
    modulus_bits: Any, clients: int, max_weight: int
) -> None:
    bound = edge(modulus_bits, clients, max_weight)
    sizes = {"clients": clients, "max_weight": max_weight, "fraction_bits": MIN_FRACTION_BITS}
    encoding = FixedPoint(value_bound=bound, modulus_bits=modulus_bits, **sizes)
    vector = np.array([3e38, -3e38, bound, -bound, 0.0], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        integers = encoding.encode(vector, max_weight).integers
    assert integers.tolist() == slow_encode(encoding, vector, max_weight)
    total = np.zeros(len(integers), encoding.ring)
    for _ in range(clients):
        total += integers.view(encoding.ring)
    assert total.view(encoding.dtype).tolist() == [clients * value for value in integers.tolist()]

    needed = modulus_bits + 1
    with pytest.raises(Refused, match=f"needs {needed} bits") as refused:
        FixedPoint(value_bound=math.nextafter(bound, math.inf), modulus_bits=modulus_bits, **sizes)
    wider = {20: " (21 would do)", 23: " (24 would do)", 24: " (32 would do)", 32: " (64 would do)", 64: ""}
    assert str(refused.value).endswith(f"{needed} bits{wider[modulus_bits]}")


def test_m11_a_hostile_float_does_not_push_a_64_bit_product_out_of_the_ring() -> None:
    """w * bound * 2^8 is within 2^10 of 2^63 and provably fits; as a double it is 2^63, which as an int64 is -2^63."""
    weight = MAX_WEIGHT
    bound = math.nextafter(2.0**55 / weight, 0)
    encoding = FixedPoint(clients=1, value_bound=bound, max_weight=weight, modulus_bits=64, fraction_bits=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        integers = encoding.encode(np.array([1e9, -1e9], np.float32), weight).integers
    exact = round(Fraction(bound) * weight * 256)
    assert 2**63 - 2**12 < exact < 2**63
    assert integers.tolist() == [exact, -exact, weight]


def test_refused_with_the_sizes_and_the_ring_that_would_do() -> None:
    with pytest.raises(Refused) as refused:
        FixedPoint(clients=10, value_bound=1e6, max_weight=20, fraction_bits=8)
    assert str(refused.value) == (
        "modulus_bits = 32 is too small: the sum of 10 clients, weights to 20, values to 1e+06 at 8 fraction bits "
        "needs 37 bits (64 would do)"
    )
    FixedPoint(clients=10, value_bound=1e6, max_weight=20, fraction_bits=8, modulus_bits=64)
    with pytest.raises(Refused, match=r"needs \d+ bits$"):
        FixedPoint.fit(clients=1 << 24, value_bound=1e12, max_weight=MAX_WEIGHT, modulus_bits=64)


@given(st.integers(1, 10_000), st.floats(1e-6, 1e4), st.integers(1, 100), st.sampled_from([20, 24, 32, 64]))
def test_fit_is_the_finest_that_is_proven(clients: int, bound: float, max_weight: int, modulus_bits: Any) -> None:
    sizes: dict[str, Any] = {"clients": clients, "value_bound": bound, "max_weight": max_weight}
    coarsest = FixedPoint.bits_needed(fraction_bits=MIN_FRACTION_BITS, **sizes)
    if coarsest > modulus_bits:
        with pytest.raises(Refused, match=f"needs {coarsest} bits"):
            FixedPoint.fit(modulus_bits=modulus_bits, **sizes)
        return
    encoding = FixedPoint.fit(modulus_bits=modulus_bits, **sizes)
    assert FixedPoint.bits_needed(fraction_bits=encoding.fraction_bits, **sizes) <= modulus_bits
    if encoding.fraction_bits < 52:
        finer = encoding.fraction_bits + 1
        assert FixedPoint.bits_needed(fraction_bits=finer, **sizes) > modulus_bits
        with pytest.raises(Refused, match="too small"):
            FixedPoint(modulus_bits=modulus_bits, fraction_bits=finer, **sizes)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf])
def test_fit_refuses_a_bound_that_is_none(bound: float) -> None:
    with pytest.raises(Refused, match=r"value_bound is .*, expected a positive number"):
        FixedPoint.fit(clients=3, value_bound=bound)


@pytest.mark.parametrize(
    "sizes", [{"clients": 0}, {"clients": (1 << 24) + 1}, {"max_weight": 0}, {"value_bound": 1e13}, {"divisor": 0}]
)
def test_fit_raises_refused_for_every_size_out_of_range(sizes: dict[str, Any]) -> None:
    """As its docstring says: a user's mistake is one line, from whichever argument it comes."""
    with pytest.raises(Refused):
        FixedPoint.fit(**({"clients": 3, "value_bound": 1.0} | sizes))


@pytest.mark.parametrize(
    "fields",
    [
        {"clients": 0},
        {"clients": 3.0},
        {"clients": True},
        {"value_bound": math.nan},
        {"value_bound": math.inf},
        {"value_bound": 0.0},
        {"modulus_bits": 16},
        {"modulus_bits": 25},
        {"rounding": "up"},
        {"modulus_bits": 33},
        {"fraction_bits": 7},
        {"fraction_bits": 53},
        {"max_weight": 0},
        {"divisor": 0},
        {"extra": 1},
    ],
)
def test_an_encoding_is_parsed_strictly(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FixedPoint.model_validate({"clients": 3, "value_bound": 1.0, "fraction_bits": 8} | fields)


def test_a_public_divisor_goes_with_weights_of_one() -> None:
    with pytest.raises(Refused, match="expected 1 under a public divisor"):
        FixedPoint(clients=3, value_bound=1.0, fraction_bits=8, max_weight=2, divisor=3)
    encoding = FixedPoint.fit(clients=3, value_bound=1.0, divisor=3)
    assert not encoding.weighted
    assert encoding.length(5) == 5
    assert encoding.encode(np.zeros(5, np.float32)).integers.shape == (5,)
    with pytest.raises(InvalidUpdate, match=r"weight is 0, expected a whole number from 1 to 1"):
        encoding.check_weight(0)


def test_d9_no_weight_above_one_under_a_public_divisor() -> None:
    encoding = FixedPoint.fit(clients=3, value_bound=1.0, divisor=3)
    with pytest.raises(InvalidUpdate, match=r"weight is 2, expected a whole number from 1 to 1"):
        encoding.encode(np.zeros(5, np.float32), 2)


def encodings(modulus_bits: Any) -> st.SearchStrategy[FixedPoint]:
    return st.builds(
        lambda clients, bound, max_weight: FixedPoint.fit(
            clients=clients, value_bound=bound, max_weight=max_weight, modulus_bits=modulus_bits
        ),
        st.integers(1, 50),
        st.sampled_from([0.01, 0.3, 1.0, 7.5]) | st.floats(2**-10, 100),
        st.integers(1, 1000),
    )


floats = st.floats(-2000, 2000, width=32) | st.floats(-1, 1, width=32)
vectors = npst.arrays(np.float32, st.integers(0, 8), elements=floats)


@given(encodings(32), vectors, st.data())
def test_encode_equals_its_slow_twin(encoding: FixedPoint, vector: NDArray[np.float32], data: st.DataObject) -> None:
    weight = data.draw(st.integers(0, encoding.max_weight))
    before = vector.copy()
    encoded = encoding.encode(vector, weight)
    slow = slow_encode(encoding, vector, weight)
    assert encoded.integers.dtype == encoding.dtype
    assert encoded.integers.shape == (encoding.length(vector.size),)
    assert encoded.clipped == sum(abs(x) > encoding.value_bound for x in vector.tolist())
    np.testing.assert_array_equal(vector, before)
    assert encoded.integers.tolist() == slow


@given(st.integers(0, 2**32 - 1))
def test_encode_equals_its_slow_twin_for_the_largest_weights(seed: int) -> None:
    """A float32 times a weight of 29 bits is exact in a double, and so is its rounding."""
    generator = np.random.default_rng(seed)
    encoding = FixedPoint.fit(clients=3, value_bound=1.0, max_weight=MAX_WEIGHT, modulus_bits=64)
    vector = generator.uniform(-1, 1, 8).astype(np.float32)
    weight = int(generator.integers(1 << 28, MAX_WEIGHT))
    assert encoding.encode(vector, weight).integers.tolist() == slow_encode(encoding, vector, weight)


def test_encode_works_in_chunks_without_a_seam() -> None:
    encoding = FixedPoint.fit(clients=4, value_bound=0.5, max_weight=3)
    for size in [0, 1, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 3 * (1 << 16) + 7]:
        vector = np.random.default_rng(size).uniform(-1, 1, size).astype(np.float32)
        encoded = encoding.encode(vector, 3)
        clipped = np.clip(vector.astype(np.float64), -0.5, 0.5)
        np.testing.assert_array_equal(encoded.integers[:-1], np.rint(clipped * 3 * encoding.scale))
        assert encoded.clipped == int((np.abs(vector) > 0.5).sum())
        assert encoded.integers[-1] == 3


def test_halves_go_to_the_even_integer() -> None:
    encoding = FixedPoint(clients=1, value_bound=1.0, fraction_bits=8)
    halves = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32) / 256
    assert encoding.encode(halves).integers.tolist() == [0, 2, 2, 0, -2, 1]


@pytest.mark.parametrize(
    "weight",
    [-1, 21, 2.5, math.nan, math.inf, -math.inf, True, False, "3", None, [1], 1j, np.float64("nan"), 10**400],
    ids=lambda weight: str(weight)[:8],
)
def test_t17_a_weight_out_of_range_is_an_invalid_update(weight: Any) -> None:
    encoding = FixedPoint.fit(clients=3, value_bound=1.0, max_weight=20)
    with pytest.raises(InvalidUpdate, match="expected a whole number from 0 to 20"):
        encoding.encode(np.zeros(3, np.float32), weight)


@pytest.mark.parametrize("weight", [0, 1, 20, 3.0, np.int8(5), np.uint64(20), np.float32(4)])
def test_t17_whole_numbers_in_range_are_weights(weight: Any) -> None:
    encoding = FixedPoint.fit(clients=3, value_bound=1.0, max_weight=20)
    checked = encoding.check_weight(weight)
    assert type(checked) is int
    assert checked == weight
    assert encoding.encode(np.ones(1, np.float32), weight).integers[-1] == weight


@pytest.mark.parametrize("modulus_bits", [32, 64])
@given(data=st.data())
def test_the_mean_errs_by_no_more_than_is_stated(modulus_bits: int, data: st.DataObject) -> None:
    """clients / (2 * total weight) * 2^-fraction_bits, before the mean is rounded to float32."""
    encoding = data.draw(encodings(modulus_bits))
    clients = data.draw(st.integers(1, min(encoding.clients, 6)))
    inside = st.floats(-float(np.float32(2**-10)), float(np.float32(2**-10)), width=32) | st.sampled_from(
        [float(np.float32(encoding.value_bound / 2)), -float(np.float32(encoding.value_bound / 3))]
    )
    weights = data.draw(st.lists(st.integers(1, encoding.max_weight), min_size=clients, max_size=clients))
    values = [data.draw(npst.arrays(np.float32, 3, elements=inside)) for _ in weights]
    total = np.zeros(4, encoding.ring)
    for vector, weight in zip(values, weights, strict=True):
        total += encoding.encode(vector, weight).integers.view(encoding.ring)
    signed = total.view(encoding.dtype).tolist()
    assert signed[-1] == sum(weights)
    allowed = Fraction(clients, 2 * sum(weights) * 2**encoding.fraction_bits)
    for place in range(3):
        exact = sum(w * Fraction(float(v[place])) for v, w in zip(values, weights, strict=True)) / sum(weights)
        mean = Fraction(signed[place], 2**encoding.fraction_bits * sum(weights))
        assert abs(mean - exact) <= allowed


def test_to_floats_undoes_the_scale_and_nothing_else() -> None:
    encoding = FixedPoint(clients=3, value_bound=1.0, fraction_bits=10, max_weight=5)
    np.testing.assert_array_equal(encoding.to_floats(np.array([1024, -512, 1], np.int32)), [1.0, -0.5, 2**-10])


@pytest.mark.parametrize("bits", [20, 21, 22, 23, 24, 32, 64])
def test_types_of_the_ring_and_its_bytes_on_the_wire(bits: int) -> None:
    encoding = FixedPoint.fit(clients=3, value_bound=1.0, modulus_bits=bits)
    word = max(bits, 32)
    assert (encoding.dtype, encoding.ring) == (np.dtype(f"int{word}"), np.dtype(f"uint{word}"))
    assert [encoding.wire_bytes(size) for size in (0, 1, 7)] == [math.ceil(n * bits / 8) for n in (1, 2, 8)]


@pytest.mark.parametrize(("modulus_bits", "clients", "max_weight"), [edge for edge in EDGES if edge[0] < 64])
def test_m11_rounding_up_at_the_rings_edge_is_in_the_proof(modulus_bits: Any, clients: int, max_weight: int) -> None:
    """At the largest bound for rounding to nearest no room is left to round up."""
    sizes = {"clients": clients, "max_weight": max_weight, "fraction_bits": MIN_FRACTION_BITS}
    bound = edge(modulus_bits, clients, max_weight)
    with pytest.raises(Refused, match=f"needs {modulus_bits + 1} bits"):
        FixedPoint(value_bound=bound, modulus_bits=modulus_bits, rounding="stochastic", **sizes)
    room = Fraction(2 ** (modulus_bits - 1) - 1, clients) - 1
    bound = float(room / max_weight / 2**MIN_FRACTION_BITS)
    while Fraction(bound) * max_weight * 2**MIN_FRACTION_BITS > room:
        bound = math.nextafter(bound, 0)
    encoding = FixedPoint(value_bound=bound, modulus_bits=modulus_bits, rounding="stochastic", **sizes)
    vector = np.array([3e38, -3e38, bound, -bound] * 50, np.float32)
    integers = encoding.encode(vector, max_weight).integers
    encoding.check_integers(integers, vector.size)
    exact = Fraction(bound) * max_weight * 2**MIN_FRACTION_BITS
    assert set(integers[:-1:4].tolist()) <= {math.floor(exact), math.ceil(exact)}
    assert clients * max(map(abs, integers.tolist())) <= 2 ** (modulus_bits - 1) - 1


@given(st.sampled_from([24, 32, 64]), vectors, st.data())
def test_stochastic_rounding_gives_a_neighbour_of_the_exact_value(
    bits: int, vector: NDArray[np.float32], data: st.DataObject
) -> None:
    encoding = FixedPoint.fit(clients=5, value_bound=7.5, max_weight=9, modulus_bits=bits, rounding="stochastic")
    weight = data.draw(st.integers(0, 9))
    integers = encoding.encode(vector, weight).integers.tolist()
    bound = Fraction(encoding.value_bound)
    for x, given_integer in zip(vector.tolist(), integers, strict=False):
        exact = weight * min(max(Fraction(x), -bound), bound) * 2**encoding.fraction_bits
        assert given_integer in (math.floor(exact), math.ceil(exact))
    assert integers[-1] == weight


def test_stochastic_rounding_is_drawn_from_the_given_randomness() -> None:
    encoding = FixedPoint(clients=3, value_bound=1.0, fraction_bits=8, modulus_bits=20, rounding="stochastic")
    vector = np.full(2000, 0.3, np.float32)

    def seeded(seed: int) -> Rng:
        return np.random.default_rng(seed).bytes

    one, again, other = (encoding.encode(vector, rng=seeded(seed)).integers.tolist() for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert encoding.encode(vector).integers.tolist() != encoding.encode(vector).integers.tolist()
    nearest = FixedPoint(clients=3, value_bound=1.0, fraction_bits=8, modulus_bits=20)
    nearest.encode(vector, rng=lambda _: pytest.fail("rounding to nearest needs no chance"))


def test_a_backend_with_narrower_sums_gets_a_coarser_encoding() -> None:
    for sum_bits in (20, 24, 32, 40):
        encoding = FixedPoint.fit(clients=10, value_bound=1.0, max_weight=20, sum_bits=sum_bits)
        assert encoding.sum_bits == min(sum_bits, 32)
        assert encoding.modulus_bits == 32


def test_sums_too_narrow_for_any_encoding_are_refused_in_one_line() -> None:
    with pytest.raises(
        Refused, match="needs 27 bits, the backend's sums hold 24; choose a preset with wider sums"
    ) as e:
        FixedPoint.fit(clients=100, value_bound=1.0, max_weight=2000, sum_bits=24)
    assert "\n" not in str(e.value)
