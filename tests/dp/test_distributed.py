"""What sums of noise are worth, against exact distributions; the layer with noise inside the sum, on every backend."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dp.accountant import epsilon
from dp.claims import claim, solve
from dp.distributed import (
    check_gaussian,
    check_skellam,
    skellam_epsilon,
    tau,
)
from dp.layer import ClientLevel
from dp.noise.skellam import skellam_table
from dp.placement import Placement, mixed
from secagg.driver import Driver
from secagg.errors import InvalidUpdate, Refused
from secagg.fixedpoint import FixedPoint
from secagg.layered import fit_encoding
from secagg.registry import Composition, build
from secagg.spec import RoundSpec, task_digest
from secagg.vectors import Layout
from tests.dp.noise.test_alias import held
from tests.secagg.exact import counting_rng

NAMES = [f"site-{number}" for number in range(6)]
SIZE = 6000
# Six standard errors of the standard deviation of so many draws, 5.5 %: two in 10^9 by chance.
SPREAD = 6 / math.sqrt(2 * SIZE)
LAYOUT = Layout.flat(SIZE)
TASK = task_digest(b"dp")
BACKENDS = ["dp+smpc", "dp+secaggplus", "dp+ckks", "dp+bfv"]
TABLE = {"mechanism": "skellam", "sampler": "table"}


def encoding_of(composition: Composition, clients: int = 6, **fields: Any) -> FixedPoint:
    return fit_encoding(
        composition.backend, clients=clients, value_bound=1.0, size=SIZE, **({"divisor": clients} | fields)
    )


def driver_of(composition: Composition, minimum_cohort: int, **arguments: Any) -> Driver:
    return Driver(composition.backend, NAMES, minimum_cohort=minimum_cohort, **arguments)


def layer_of(name: str, parameters: dict[str, Any]) -> ClientLevel:
    (layer,) = build(name, parameters).layers
    assert isinstance(layer, ClientLevel)
    return layer


def spec_of(composition: Composition, encoding: FixedPoint, minimum_cohort: int = 4) -> RoundSpec:
    return driver_of(composition, minimum_cohort).spec(1, layout=LAYOUT, encoding=encoding, task=TASK)


# --- what sums of noise are worth -------------------------------------------------------------------------------------


def gaussian_pmf(sigma: float, reach: int) -> NDArray[np.float64]:
    weights = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    total: NDArray[np.float64] = weights / weights.sum()
    return total


def summed(pmf: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The distribution of a sum of `count` draws."""
    whole = pmf
    for _ in range(count - 1):
        whole = np.convolve(whole, pmf)
    return whole


@pytest.mark.parametrize("sigma", [0.5, 0.6, 0.8, 1.0])
@pytest.mark.parametrize("shares", [2, 3, 6])
def test_tau_bounds_how_far_a_sum_of_discrete_gaussians_is_from_one(sigma: float, shares: int) -> None:
    reach = 40
    whole = summed(gaussian_pmf(sigma, reach), shares)
    middle = whole.size // 2
    one = gaussian_pmf(sigma * math.sqrt(shares), middle)
    # As far as float64 knows the tails of the sum.
    near = slice(middle - 5, middle + 6)
    apart = float(np.abs(np.log(whole[near] / one[near])).max())
    assert apart <= tau(sigma**2, shares) + 1e-13
    if sigma <= 0.6:
        assert apart > 1e-4


def test_a_sum_of_discrete_gaussians_is_not_taken_for_one_where_it_is_none() -> None:
    """Kairouz et al.'s term: at small shares the claim for a single discrete Gaussian does not hold, and is refused."""
    with pytest.raises(Refused, match="10000 of them make no discrete Gaussian"):
        check_gaussian(0.6, shares=10_000, size=1)
    with pytest.raises(Refused, match="tau d"):
        check_gaussian(2.0, shares=1000, size=1_000_000)
    check_gaussian(2.6, shares=1000, size=1_000_000)
    check_gaussian(0.5, shares=1, size=1_000_000)
    assert tau(9.0, 1 << 20) >= 10 * (2**20 - 1) * math.exp(-2 * math.pi**2 * 9)


def hockey_stick(pmf: NDArray[np.float64], shift: int, claimed: float) -> float:
    """The exact delta at an epsilon, between noise and the same noise `shift` further."""
    padded = np.pad(pmf, shift)
    moved = np.roll(padded, shift)
    return float(np.maximum(padded - math.exp(claimed) * moved, 0).sum())


@pytest.mark.parametrize(("multiplier", "shares"), [(1.0, 3), (0.5, 4), (3.0, 2)])
def test_the_claim_for_distributed_gaussian_noise_holds_exactly(multiplier: float, shares: int) -> None:
    """In one coordinate, of 1024 steps of noise in all: the exact privacy curve of the sum lies under the claim."""
    share = 1024 / math.sqrt(shares)
    whole = summed(gaussian_pmf(share, round(9 * share)), shares)
    for delta in (1e-2, 1e-5):
        claimed = epsilon(multiplier, 1, delta=delta)
        attained = hockey_stick(whole, round(1024 / multiplier), claimed)
        assert 0.5 * delta < attained <= delta


@pytest.mark.parametrize("multiplier", [0.5, 1.0, 4.0])
def test_the_claim_for_skellam_noise_holds_exactly(multiplier: float) -> None:
    pmf = np.array([chance / 2**192 for _, chance in sorted(held(skellam_table(2.0**20)).items())])
    for delta in (1e-2, 1e-5):
        claimed = skellam_epsilon(multiplier, 1, delta=delta)
        attained = hockey_stick(pmf, round(1024 / multiplier), claimed)
        assert attained <= delta
        # The Renyi accountant gives something away, and not much.
        assert hockey_stick(pmf, round(1024 / multiplier), 0.6 * claimed) > delta


@pytest.mark.parametrize(("variance", "shift"), [(20.0, 1), (20.0, 4), (400.0, 15)])
def test_skellam_noise_has_the_renyi_divergence_of_its_bound(variance: float, shift: int) -> None:
    """Agarwal et al. 2021 in one coordinate, where D1 = D2, at whole orders."""
    pmf = np.array([chance / 2**192 for _, chance in sorted(held(skellam_table(variance)).items())])
    seen = pmf > 0
    logs = np.log(pmf[seen])
    here, there = logs[shift:], logs[:-shift]
    for order in (2, 3, 5, 9):
        divergence = math.log(float(np.exp(order * here + (1 - order) * there).sum())) / (order - 1)
        gaussian = order * shift**2 / (2 * variance)
        excess = (1 + 3 / shift) / variance
        assert gaussian * 0.6 < divergence <= gaussian * (1 + excess)


def test_skellam_noise_whose_excess_counts_is_refused() -> None:
    check_skellam(1024.0, sensitivity=1024.0, size=1_000_000)
    check_skellam(200.0, sensitivity=200.0, size=100)
    with pytest.raises(Refused, match="exceeds the Gaussian's divergence"):
        check_skellam(100.0, sensitivity=1024.0, size=100)
    # The L1 norm of many coordinates counts too.
    with pytest.raises(Refused, match="exceeds the Gaussian's divergence"):
        check_skellam(200.0, sensitivity=200.0, size=1_000_000)


def test_epsilons_of_the_placements_side_by_side() -> None:
    server, shared = Placement("server"), Placement("distributed", survivors=5, colluders=1)
    table = Placement("distributed", "skellam", "table", survivors=5, colluders=1)
    local = Placement("local")
    figures = {p: claim(p, 2.0, 10, delta=1e-5)["epsilon"] for p in (server, shared, table, local)}
    assert figures[server] == figures[shared]
    assert figures[shared] < figures[table] < 1.3 * figures[shared]
    # Replacing an update by another moves it twice as far as leaving it out.
    assert figures[local] == claim(server, 1.0, 10, delta=1e-5)["epsilon"]


PLACEMENTS = [
    Placement("server"),
    Placement("distributed", survivors=5, colluders=1),
    Placement("distributed", "skellam", "table", survivors=5, colluders=1),
    Placement("local"),
]


@pytest.mark.parametrize("placement", PLACEMENTS, ids=lambda p: f"{p.where}-{p.mechanism}")
@pytest.mark.parametrize("target", [0.5, 8.0])
def test_a_solved_target_is_kept_and_not_by_far(placement: Placement, target: float) -> None:
    multiplier = solve(placement, target, 1e-6, rounds=20)
    assert claim(placement, multiplier, 20, delta=1e-6)["epsilon"] <= target
    assert claim(placement, multiplier * 0.99, 20, delta=1e-6)["epsilon"] > target


def test_the_samplers_distance_is_added_to_delta() -> None:
    shared = Placement("distributed", sampler="table", survivors=5, colluders=1)
    stated = claim(shared, 0.3, 3, delta=1e-12)
    # 2^40 draws of distance 2^-160 in each of three rounds, and e^epsilon of them on the other side.
    assert 50 < stated["epsilon"] < 100
    assert stated["delta"] - 1e-12 == pytest.approx(3 * 2.0**-120 * math.exp(stated["epsilon"]), rel=0.01)
    assert "delta is 1" not in " ".join(stated["warnings"])
    empty = claim(shared, 1e-2, 3, delta=1e-12)
    assert empty["delta"] == 1
    assert "delta is 1: no guarantee, whatever epsilon is" in empty["warnings"]
    assert claim(Placement("server"), 0.2, 3, delta=1e-12)["delta"] == 1e-12


@pytest.mark.parametrize("placement", PLACEMENTS[1:], ids=lambda p: f"{p.where}-{p.mechanism}")
def test_no_amplification_is_claimed_for_noise_that_clients_add(placement: Placement) -> None:
    with pytest.raises(Refused, match=r"sampling_rate is 0\.1, expected 1"):
        claim(placement, 1.0, 1, delta=1e-5, sampling_rate=0.1)


# --- D2, D3: where the noise comes from -------------------------------------------------------------------------------


def test_d2_an_rng_that_repeats_itself_repeats_no_noise() -> None:
    """A fixed seed, a restored snapshot, one state for two clients: fresh randomness is mixed in at use."""
    placement = Placement("distributed", survivors=4, colluders=1)
    draws = [placement.noise(2048.0, 1000, counting_rng("the same")) for _ in range(2)]
    assert np.count_nonzero(draws[0] == draws[1]) < 50
    # Six standard errors of a correlation of zero; noise that repeats itself is at 32.
    assert abs(float(np.mean(draws[0] * draws[1]))) < 6 * 2048.0**2 / 3 / math.sqrt(1000)


def test_d2_a_client_restored_from_before_its_upload_draws_other_noise() -> None:
    composition = build("dp+smpc", {"survivors": 4})
    driver = driver_of(composition, 4)
    spec = driver.spec(1, layout=LAYOUT, encoding=encoding_of(composition), task=TASK)
    zeros = spec.encoding.encode(np.zeros(SIZE, np.float32)).integers
    layer = composition.layers[0]
    noisy = [layer.onto(zeros.copy(), spec.encoding, counting_rng("snapshot")) for _ in range(2)]
    assert np.count_nonzero(noisy[0] == noisy[1]) < 50


def test_d3_too_few_random_bytes_are_refused_before_anything_is_drawn() -> None:
    for give in (lambda count: b"", lambda count: bytes(count - 1)):
        with pytest.raises(Refused, match="no secure noise is available"):
            mixed(give)(32)
        with pytest.raises(Refused, match="no secure noise is available"):
            Placement("local").noise(1024.0, 5, give)


def test_mixing_keeps_the_randomness_of_either_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dp.placement.secrets.token_bytes", bytes)
    one, other = mixed(counting_rng("one"))(32), mixed(counting_rng("other"))(32)
    assert len(one) == 32
    assert one != other


# --- D7: how much of it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [{}, {"sampler": "table"}, TABLE], ids=["default", "table", "skellam"])
def test_d7_the_smallest_number_of_survivors_less_colluders_has_all_of_the_noise(parameters: dict[str, Any]) -> None:
    """Five survive, two of them tell their noise: the shares of the other three are what was promised."""
    layer = layer_of("dp+smpc", {"noise_multiplier": 2.0, "survivors": 5, "colluders": 2, **parameters})
    composition = build("dp+smpc", dict(layer.parameters))
    encoding = encoding_of(composition)
    zeros = encoding.encode(np.zeros(SIZE, np.float32)).integers
    honest = sum(layer.onto(zeros.copy(), encoding, counting_rng("x")).astype(np.int64) for _ in range(3))
    assert np.std(honest) / encoding.scale == pytest.approx(2.0, rel=SPREAD)


def test_d7_a_cohort_under_the_survivors_that_the_noise_is_for_is_refused() -> None:
    composition = build("dp+smpc", {"survivors": 5})
    with pytest.raises(Refused, match="minimum_cohort is 4, the noise is calibrated to 5 survivors"):
        spec_of(composition, encoding_of(composition), minimum_cohort=4)
    spec_of(composition, encoding_of(composition), minimum_cohort=5)


@pytest.mark.parametrize(("name", "survivors"), [("dp+secaggplus", 5), ("dp+smpc", 4), ("dp+ckks", 3)])
def test_d7_dropouts_down_to_the_survivors_leave_all_of_the_noise(name: str, survivors: int) -> None:
    composition = build(name, {"survivors": survivors, "colluders": 1})
    driver = driver_of(composition, survivors)
    driver.set_up(layout=LAYOUT, encoding=encoding_of(composition))
    spec = driver.spec(1, layout=LAYOUT, encoding=encoding_of(composition), task=TASK)
    zero = np.zeros(SIZE, np.float32)
    outcome = driver.round(spec, lambda name: None if name in NAMES[survivors:] else (zero, 1))
    assert len(outcome.result.contributors) == survivors
    noise = np.std(outcome.result.totals) / spec.encoding.scale
    assert noise == pytest.approx(math.sqrt(survivors / (survivors - 1)), rel=SPREAD)


@pytest.mark.parametrize(
    ("survivors", "colluders", "expected"), [(3, 2, 4), (5, 4, 6), (10, 9, 11)], ids=["3-2", "5-4", "10-9"]
)
def test_d7_one_honest_client_alone_is_no_cohort(survivors: int, colluders: int, expected: int) -> None:
    with pytest.raises(Refused, match=f"survivors is {survivors}, expected {expected} at least"):
        build("dp+smpc", {"survivors": survivors, "colluders": colluders})


def test_d7_noise_that_the_server_adds_counts_as_central_only() -> None:
    guarantees = build("dp+smpc", {"noise": "server"}).guarantees
    assert guarantees.privacy is not None
    assert guarantees.privacy["noise"] == "discrete Gaussian, added at the server"
    assert "the server sees the sum before the noise" in guarantees.limitations
    assert "the sum" in guarantees.sees["server"]


# --- the layer, inside the sum ---------------------------------------------------------------------------------------


def run(composition: Composition, **fields: Any) -> tuple[NDArray[np.float64], NDArray[np.int64], Any]:
    """Error of the sum in the update's unit, what the clients sent in all, and the outcome."""
    driver = driver_of(composition, composition.backend.parameters["survivors"] or 3)
    encoding = encoding_of(composition, **fields)
    driver.set_up(layout=LAYOUT, encoding=encoding)
    spec = driver.spec(1, layout=LAYOUT, encoding=encoding, task=TASK)
    generator = np.random.default_rng(2)
    vectors = {name: (generator.normal(size=SIZE) * 0.5 / math.sqrt(SIZE)).astype(np.float32) for name in NAMES}
    sent = np.zeros(SIZE, np.int64)
    layer: Any = composition.layers[0]
    original = layer.onto

    def onto(*arguments: Any) -> Any:
        noisy = original(*arguments)
        np.add(sent, noisy, out=sent)
        return noisy

    layer.onto = onto
    outcome = driver.round(spec, lambda name: (vectors[name], 1))
    error = outcome.result.mean() * 6.0 - np.sum(list(vectors.values()), axis=0)
    return error, sent, outcome


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("parameters", [{}, TABLE], ids=["gaussian", "skellam"])
def test_the_sum_is_the_clients_noisy_integers_exactly(name: str, parameters: dict[str, Any]) -> None:
    """Over CKKS too: its errors and its flooding stay under half a step of this grid, and are rounded away."""
    composition = build(name, {"survivors": 4, "colluders": 1, **parameters})
    error, sent, outcome = run(composition)
    np.testing.assert_array_equal(outcome.result.totals, sent)
    assert np.std(error) == pytest.approx(math.sqrt(6 / 3), rel=SPREAD)


@pytest.mark.parametrize("modulus_bits", [20, 24])
def test_narrow_rings_and_stochastic_rounding_carry_it(modulus_bits: int) -> None:
    composition = build("dp+smpc", {"survivors": 4, "noise_multiplier": 0.5})
    error, sent, outcome = run(composition, modulus_bits=modulus_bits, rounding="stochastic")
    np.testing.assert_array_equal(outcome.result.totals, sent)
    assert np.std(error) == pytest.approx(0.5 * math.sqrt(6 / 3), rel=SPREAD)


@pytest.mark.parametrize("name", ["dp", "dp+smpc"])
def test_local_noise_is_all_in_every_vector(name: str) -> None:
    composition = build(name, {"noise": "local", "noise_multiplier": 2.0})
    error, _, _ = run(composition)
    assert np.std(error) == pytest.approx(2.0 * math.sqrt(6), rel=SPREAD)
    assert composition.guarantees.privacy is not None
    assert composition.guarantees.privacy["adjacency"] == "replace"
    assert all("noise" in thing for thing in composition.guarantees.sees["server"] if "update" in thing)


def test_distributed_noise_is_the_default_where_only_sums_are_shown() -> None:
    composition = build("dp+secaggplus", {})
    assert composition.backend.parameters["noise"] == "distributed"
    assert (composition.backend.parameters["survivors"], composition.backend.parameters["colluders"]) == (3, 1)
    assert build("dp", {}).backend.parameters["noise"] == "server"
    again = build("dp+secaggplus", composition.backend.parameters)
    assert dict(again.backend.parameters) == dict(composition.backend.parameters)


@pytest.mark.parametrize("name", ["dp+plain", "dp+selective"])
def test_shares_of_noise_are_refused_where_single_updates_show(name: str) -> None:
    with pytest.raises(Refused, match="a share of the noise hides a client only within a sum"):
        build(name, {"noise": "distributed"})


def test_d7_shares_of_noise_are_refused_where_a_colluder_has_the_key() -> None:
    shared = {"key_mode": "shared", "acknowledge_shared_key": True}
    for name in ("dp+ckks", "dp+bfv"):
        with pytest.raises(Refused, match="the clients share the key"):
            build(name, shared)
        assert build(name, {**shared, "noise": "local"}).guarantees.result_at == "clients"


def test_what_the_server_sees_is_said_to_be_noisy_and_whom_it_holds_against() -> None:
    guarantees = build("dp+secaggplus", {"threat": "active"}).guarantees
    assert guarantees.adversary == "passive"
    assert "the sum, with the noise of every client in it" in guarantees.sees["server"]
    assert guarantees.privacy is not None
    assert guarantees.privacy["adjacency"] == "zero-out"


def test_selective_encryption_refuses_a_rotation() -> None:
    composition = build("dp+selective", {"noise": "server", "rotation": True, "fraction": 0.5})
    with pytest.raises(Refused, match="the encoding rotates"):
        driver_of(composition, 3).spec(1, layout=LAYOUT, encoding=encoding_of(composition), task=TASK)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"mechanism": "skellam"}, "say sampler = 'table'"),
        ({"noise": "server", "survivors": 4}, "belong to noise = 'distributed'"),
        ({"noise": "local", "colluders": 1}, "belong to noise = 'distributed'"),
        ({"clipping": "adaptive", "rotation": True}, "the bit of the clipping must stay where it is"),
        ({"survivors": 2}, "survivors"),
        ({"sampling_rate": 0.5, "target_epsilon": 1.0}, "sampling_rate is 0.5, expected 1"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        build("dp+smpc", parameters)


def changes(encoding: FixedPoint) -> Iterable[tuple[dict[str, Any], str]]:
    yield {"noise_bound": encoding.noise_bound / 2}, "the noise needs"
    yield {"rotation": None}, "lacks a rotation"
    yield {"fraction_bits": 8}, "noise of 256 grid steps, expected 1024"


def test_an_encoding_that_does_not_fit_the_noise_is_refused_by_the_site() -> None:
    composition = build("dp+smpc", {"survivors": 4})
    encoding = encoding_of(composition)
    for change, says in changes(encoding):
        with pytest.raises(Refused, match=says):
            spec_of(composition, encoding.model_copy(update=change))


def test_the_ring_has_room_for_signal_and_noise() -> None:
    """Signal by proof; noise beyond its room with probability 2^-40 at most, over 2^30 coordinates of a sum."""
    composition = build("dp+smpc", {"survivors": 4, "noise_multiplier": 3.0})
    encoding = encoding_of(composition)
    sigma = 3.0 * math.sqrt(6 / 3)
    assert 2 * math.exp(-((encoding.noise_bound / sigma) ** 2) / 2) <= 2.0**-70
    assert 2 * math.exp(-((encoding.noise_bound / sigma) ** 2) / 2) >= 2.0**-73
    assert (6 * encoding.value_bound + encoding.noise_bound) * encoding.scale + 3 < 2**31


def test_an_encoding_that_skipped_the_clipping_gets_no_noise_and_is_not_sent() -> None:
    composition = build("dp+smpc", {"survivors": 4, "clip_l2": 0.1})
    encoding = encoding_of(composition)
    unclipped = encoding.encode(np.full(SIZE, 0.01, np.float32)).integers
    with pytest.raises(InvalidUpdate, match="the encoded update has norm"):
        composition.layers[0].onto(unclipped, encoding, counting_rng("x"))
