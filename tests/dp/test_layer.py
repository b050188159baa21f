"""The layer: what it clips, what it adds, what it refuses, and what it claims to have spent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secagg.driver import Driver
from secagg.errors import InvalidUpdate, Refused
from secagg.fixedpoint import FixedPoint
from secagg.registry import build
from secagg.spec import RoundSpec, task_digest
from secagg.vectors import Layout

NAMES = [f"site-{number}" for number in range(4)]
LAYOUT = Layout.flat(1000)
PUBLIC = FixedPoint.fit(clients=4, value_bound=1.0, divisor=4)


def spec_of(name: str, parameters: dict[str, Any], encoding: FixedPoint = PUBLIC) -> RoundSpec:
    driver = Driver(build(name, parameters).backend, NAMES)
    return driver.spec(1, layout=LAYOUT, encoding=encoding, task=task_digest(b"dp"))


@pytest.mark.parametrize("multiplier", [0, 0.0, -1.0])
def test_noise_of_zero_is_not_called_differential_privacy(multiplier: float) -> None:
    with pytest.raises(Refused, match="without noise there is no differential privacy"):
        build("dp", {"noise_multiplier": multiplier})


def test_secret_weights_are_refused() -> None:
    with pytest.raises(Refused, match="expected a public divisor and weights of 1"):
        spec_of("dp", {}, FixedPoint.fit(clients=4, value_bound=1.0, max_weight=20))


def test_noise_at_the_server_is_refused_where_the_clients_see_the_sum() -> None:
    shared = {"key_mode": "shared", "acknowledge_shared_key": True, "noise": "server"}
    with pytest.raises(Refused, match="they would see it without noise"):
        build("dp+ckks", shared)


def test_a_clip_that_rounding_would_swallow_is_refused_before_the_round() -> None:
    with pytest.raises(Refused, match="too small for 1000 coordinates"):
        spec_of("dp", {"clip_l2": 1e-8})


def test_d10_noise_on_too_coarse_a_grid_is_refused_as_the_accountant_does_not_know_it() -> None:
    """The accountant's figure is for the continuous Gaussian; discrete noise of a few steps may cost more."""
    smallest = 2.0**10 / PUBLIC.scale
    spec_of("dp", {"noise_multiplier": smallest})
    with pytest.raises(Refused, match=r"noise of 1023 grid steps, expected 1024 to .*; change modulus_bits"):
        spec_of("dp", {"noise_multiplier": smallest * 1023 / 1024})


def test_a_target_and_a_multiplier_exclude_each_other() -> None:
    with pytest.raises(Refused, match="both given"):
        build("dp", {"noise_multiplier": 1.0, "target_epsilon": 8.0})


@pytest.mark.parametrize(
    "parameters", [{"target_epsilon": -1}, {"target_delta": 0}, {"target_delta": 1}, {"clip_l2": 0}]
)
def test_parameters_out_of_range_name_the_field(parameters: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=next(iter(parameters))):
        build("dp", parameters)


def test_a_solved_target_is_kept_after_the_rounds_it_was_solved_for() -> None:
    composition = build("dp", {"target_epsilon": 8.0, "target_delta": 1e-5, "rounds": 50})
    spent = composition.spent(50)
    assert spent is not None
    assert 7.9 < spent["epsilon"] <= 8.0
    # The spec binds the noise itself: built from the resolved parameters, it is the same backend.
    again = build("dp", composition.backend.parameters)
    assert dict(again.backend.parameters) == dict(composition.backend.parameters)


def test_a_plan_below_full_sampling_states_both_figures() -> None:
    spent = build("dp", {"noise_multiplier": 1.0, "sampling_rate": 0.1}).spent(50)
    assert spent is not None
    assert spent["epsilon"] < spent["epsilon_roster"]
    assert spent["epsilon"] == spent["epsilon_outsiders"]


def test_noise_is_drawn_once_and_released_again_the_same() -> None:
    """A restored server must not draw fresh noise: the average of two releases would have less of it."""
    composition = build("dp", {"noise_multiplier": 1.0})
    driver = Driver(composition.backend, NAMES)
    kept: dict[str, Any] = {}
    make = composition.backend.session

    def keep(spec: Any, party: Any, *, setup: bytes = b"", state: bytes = b"") -> Any:
        kept[party.name] = make(spec, party, setup=setup, state=state)
        return kept[party.name]

    composition.backend.session = keep  # type: ignore[method-assign]
    spec = driver.spec(1, layout=LAYOUT, encoding=PUBLIC, task=task_digest(b"dp"))
    vector = np.zeros(1000, np.float32)
    released = driver.round(spec, lambda _: (vector, 1)).result
    assert np.count_nonzero(released.totals) > 900
    restored = make(spec, driver.party("server"), state=kept["server"].dump()).result
    assert restored is not None
    np.testing.assert_array_equal(restored.totals, released.totals)


def test_an_encoding_that_skipped_the_clipping_is_not_sent() -> None:
    """The door for encoded integers is no way around the norm that the noise is calibrated to."""
    composition = build("dp", {"clip_l2": 0.1})
    driver = Driver(composition.backend, NAMES)
    spec = driver.spec(1, layout=LAYOUT, encoding=PUBLIC, task=task_digest(b"dp"))
    session = composition.backend.session(spec, driver.party("site-0"))
    unclipped = PUBLIC.encode(np.full(1000, 0.01, np.float32)).integers
    with pytest.raises(InvalidUpdate, match="the encoded update has norm"):
        session.contribute_integers(unclipped)
