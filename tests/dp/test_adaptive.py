"""Adaptive clipping: the bit is paid for, the bound finds its quantile and keeps to the site's limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dp.adaptive import COORDINATE, AdaptiveClipping, extended
from dp.layer import ClientLevel, ClientLevelParameters
from secagg.bench import Workload, run_bench
from secagg.driver import Driver
from secagg.errors import Aborted, InvalidUpdate, Refused
from secagg.fixedpoint import FixedPoint
from secagg.plan import make_plan
from secagg.protocol import SecureSum
from secagg.registry import build
from secagg.spec import RoundSpec, task_digest
from secagg.vectors import Layout

NAMES = [f"site-{number}" for number in range(4)]
MODEL = Layout.flat(100)
LAYOUT = extended(MODEL)
TASK = task_digest(b"adaptive")


def adaptive(**parameters: Any) -> ClientLevel:
    return ClientLevel(ClientLevelParameters(clipping="adaptive", **parameters))


def encoding_for(clip_l2: float, clients: int = 4) -> FixedPoint:
    return FixedPoint.fit(clients=clients, value_bound=clip_l2, divisor=clients)


def contribution(layer: ClientLevel, vector: NDArray[np.float32], encoding: FixedPoint) -> NDArray[Any]:
    """What a client protects, as integers."""
    filled = layer.before(np.append(vector, np.float32(0)), encoding)
    return layer.onto(encoding.encode(filled).integers, encoding, bytes)


def noise_steps(layer: ClientLevel, encoding: FixedPoint, size: int = 40_000) -> NDArray[np.int64]:
    """Noise as it is added: to a sum of zeros."""
    zeros = SecureSum(np.zeros(size, np.int64), 4, tuple(NAMES), encoding)
    noise: NDArray[np.int64] = layer.after(zeros, np.random.default_rng().bytes).totals
    return noise


@settings(deadline=None, max_examples=60)
@given(st.floats(1e-3, 1e3), st.floats(0.5, 20), st.floats(1, 10), st.floats(1e-3, 1e3), st.integers(0, 1000))
def test_d8_the_bit_is_within_the_norm_that_the_charge_is_for(
    clip_l2: float, multiplier: float, ratio: float, length: float, seed: int
) -> None:
    """Update and bit together: noise is at least the multiplier that is charged times the whole contribution's norm."""
    layer = adaptive(
        noise_multiplier=multiplier, clip_l2=clip_l2, clip_count_noise=ratio * multiplier, clip_min=1e-4, clip_max=1e4
    )
    encoding = encoding_for(clip_l2)
    direction = np.random.default_rng(seed).normal(size=100)
    vector = (direction / np.linalg.norm(direction) * length * clip_l2).astype(np.float32)
    integers = contribution(layer, vector, encoding).astype(object)
    norm = float(sum(value * value for value in integers)) ** 0.5
    moving = AdaptiveClipping(multiplier, ratio * multiplier, 0.5, 0.2, 1e-4, 1e4)
    sigma = moving.update_multiplier * clip_l2 * encoding.scale
    assert norm * multiplier <= sigma * (1 + 1e-12)
    # Nothing is given away either: an update at the bound uses what it is charged for.
    if length >= 1:
        assert norm * multiplier >= sigma * 0.999


def test_the_noise_is_what_the_paper_splits() -> None:
    """1 / z^2 = 1 / z_update^2 + 1 / (2 sigma_b)^2 (Andrew et al. 2021, theorem 1), in what is really added."""
    layer = adaptive(noise_multiplier=1.5, clip_l2=2.0, clip_count_noise=2.0)
    encoding = encoding_for(2.0)
    sigma = float(np.std(noise_steps(layer, encoding))) / encoding.scale
    beta = abs(contribution(layer, np.zeros(100, np.float32), encoding)[-1]) / encoding.scale
    update_multiplier, count_noise = sigma / 2.0, sigma / (2 * beta)
    # Of 40,000 draws the standard deviation errs by 0.35 %, and the variance by 0.7 % (one standard error).
    assert count_noise == pytest.approx(2.0, rel=0.025)
    assert update_multiplier**-2 + (2 * count_noise) ** -2 == pytest.approx(1.5**-2, rel=0.05)


def test_the_bound_finds_the_quantile_of_the_norms() -> None:
    clients, quantile = 200, 0.7
    layer = adaptive(noise_multiplier=1.0, clip_l2=0.1, clip_quantile=quantile, clip_learning_rate=0.5)
    generator = np.random.default_rng(5)
    norms = generator.lognormal(0.0, 0.5, clients)
    clip, visited = 0.1, []
    for _ in range(60):
        encoding = encoding_for(clip, clients)
        total = np.zeros(101, np.int64)
        for norm in norms:
            vector = np.zeros(100, np.float32)
            vector[0] = norm
            total += contribution(layer, vector, encoding)
        released = layer.after(SecureSum(total, clients, (), encoding), generator.bytes)
        found = layer.next_clip(released)
        assert found is not None
        clip = found
        visited.append(clip)
    assert np.mean(norms <= np.mean(visited[-20:])) == pytest.approx(quantile, abs=0.05)


def test_the_bound_stays_within_the_sites_limits_and_moves_by_one_step_at_most() -> None:
    layer = adaptive(noise_multiplier=1.0, clip_l2=1.0, clip_min=0.95, clip_max=1.05, clip_learning_rate=0.2)
    encoding = encoding_for(1.0)
    for coordinate, expected in ((2**40, 0.95), (-(2**40), 1.05), (0, 1.0)):
        released = SecureSum(np.array([0, coordinate]), 4, tuple(NAMES), encoding)
        assert layer.next_clip(released) == pytest.approx(expected)
    wide = adaptive(noise_multiplier=1.0, clip_l2=1.0, clip_learning_rate=0.2)
    released = SecureSum(np.array([0, 2**40]), 4, tuple(NAMES), encoding)
    assert wide.next_clip(released) == pytest.approx(np.exp(-0.2 * 0.5))


def test_flat_clipping_moves_nothing_and_adds_no_coordinate() -> None:
    flat = build("dp", {})
    assert flat.layout(MODEL) == MODEL
    assert build("dp", {"clipping": "adaptive"}).layout(MODEL).tensors[-1].name == COORDINATE
    (layer,) = flat.layers
    assert isinstance(layer, ClientLevel)
    assert layer.next_clip(SecureSum(np.zeros(3, np.int64), 4, (), encoding_for(1.0))) is None


def spec_of(driver: Driver, clip_l2: float, layout: Layout = LAYOUT) -> RoundSpec:
    return driver.spec(1, layout=layout, encoding=encoding_for(clip_l2), task=TASK)


def test_t8_a_bound_outside_the_sites_limits_is_refused_by_the_site() -> None:
    """A server that moves it further than the site allows: every site leaves, and says why."""
    parameters = {"clipping": "adaptive", "clip_min": 0.5, "clip_max": 2.0}
    driver = Driver(build("dp", parameters).backend, NAMES)
    allowed = spec_of(driver, 2.0)
    for clip_l2 in (0.4, 2.1):
        with pytest.raises(Refused, match=rf"the clip bound of this round is {clip_l2}, this site allows 0\.5 to 2"):
            spec_of(driver, clip_l2)
    moved = allowed.model_copy(update={"encoding": encoding_for(2.1)})
    with pytest.raises(Aborted, match=r"the clip bound of this round is 2\.1"):
        driver.round(moved, lambda name: (np.zeros(101, np.float32), 1))


def test_a_layout_without_the_bits_coordinate_is_refused() -> None:
    driver = Driver(build("dp", {"clipping": "adaptive"}).backend, NAMES)
    with pytest.raises(Refused, match=r"adaptive clipping needs a last tensor 'dp\.within_clip'"):
        spec_of(driver, 1.0, MODEL)


def test_d8_the_bits_coordinate_is_the_layers_own() -> None:
    with pytest.raises(InvalidUpdate, match=r"the last coordinate is 0\.5, expected 0"):
        adaptive().before(np.append(np.zeros(100, np.float32), np.float32(0.5)), encoding_for(1.0))


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"clip_count_noise": 0.9, "noise_multiplier": 1.0}, r"clip_count_noise is 0\.9, expected at least the noise"),
        ({"clip_min": 3.0, "clip_max": 2.0}, r"clip_min is 3, expected at most clip_max = 2"),
        ({"clip_quantile": 1.0}, "clip_quantile"),
        ({"clip_learning_rate": 0.0}, "clip_learning_rate"),
        ({"clipping": "flat", "clip_min": 0.1}, "belong to clipping = 'adaptive'"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        build("dp", {"clipping": "adaptive", **parameters})


@pytest.mark.parametrize(
    ("name", "parameters"), [("dp", {}), ("dp+smpc", {"noise": "server"}), ("dp+ckks", {"noise": "server"})]
)
def test_a_bound_that_moves_between_rounds_goes_through_every_sum(name: str, parameters: dict[str, Any]) -> None:
    composition = build(name, {"clipping": "adaptive", "noise_multiplier": 2.0**-10, **parameters})
    driver = Driver(composition.backend, NAMES)
    encodings = [
        FixedPoint.fit(clients=4, value_bound=clip, divisor=4, sum_bits=composition.backend.sum_bits)
        for clip in (1.0, 0.8, 1.3)
    ]
    driver.set_up(layout=LAYOUT, encoding=encodings[0])
    vector = np.full(101, 0.05, np.float32)
    vector[-1] = 0
    for number, encoding in enumerate(encodings, start=1):
        spec = driver.spec(number, layout=LAYOUT, encoding=encoding, task=TASK)
        mean = driver.round(spec, lambda name: (vector, 1)).result.mean()
        np.testing.assert_allclose(mean[:100], vector[:100], atol=0.01)


def test_it_can_be_measured_and_planned_and_is_charged_like_flat_clipping() -> None:
    composition = build("dp", {"clipping": "adaptive", "noise_multiplier": 2.0})
    assert run_bench(composition, Workload(50, 3)).params == 50
    plan = make_plan(composition, params=50, clients=3, rounds=4)
    assert plan.client.upload_bytes == 4 * (204 + 51 * 4)
    assert plan.privacy is not None
    flat = build("dp", {"noise_multiplier": 2.0}).spent(4)
    assert flat is not None
    assert plan.privacy.epsilon == flat["epsilon"]
    assert "the noisy share of clients within the clip bound" in plan.sees["everybody else"]
