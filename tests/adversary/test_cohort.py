"""Too few clients, two sums of one model, weights and values out of range: T9, T10, T15, T17, T18, every backend."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from secagg.driver import Letter
from secagg.errors import Aborted, InvalidUpdate, Refused
from secagg.participation import Participation
from secagg.spec import RoundSpec
from tests.adversary.federation import BACKENDS, Federation, is_vector

pytestmark = pytest.mark.parametrize("name", BACKENDS)


def test_t9_a_round_under_the_minimum_cohort_reveals_nothing(name: str) -> None:
    federation = Federation(name)
    federation.absent = set(federation.names[2:])
    revealed: list[Letter] = []

    def watch(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and not letter.sender.startswith("site-"):
            revealed.append(letter)
        return (letter,)

    federation.wire = watch
    with pytest.raises(Aborted, match=r"2 clients contributed, the minimum cohort is 3; nothing was revealed"):
        federation.round()
    # No helper sent anything as large as a vector: nothing was expanded and nothing was decrypted.
    assert all(len(letter.frame) < 1000 for letter in revealed)


def test_t9_a_cohort_at_the_minimum_is_summed(name: str) -> None:
    """Two of five vanish: before their upload, or before their keys where the others must recover what they left."""
    federation = Federation(name)
    # Four of five are the fewest in which an active server can form no second ring; see `secaggplus`.
    federation = Federation(name, clients=4) if name == "secaggplus" else federation
    federation.absent = set(federation.names[3:])
    if name.startswith("secaggplus"):
        federation.wire = lambda letter: () if letter.to in federation.absent else (letter,)
    federation.check(federation.round(), federation.names[:3])


@pytest.mark.parametrize("left_out", ["in the roster", "by silence"])
def test_t10_a_second_sum_of_one_model_is_refused(name: str, left_out: str) -> None:
    """The server wants the sum without site-4 too: it proposes another roster, or the same and loses the upload."""
    federation = Federation(name)
    federation.driver.participation = {site: Participation() for site in federation.names}
    federation.check(federation.round(1))
    spec = federation.spec(2)
    if left_out == "in the roster":
        spec = federation.spec(2, clients=federation.names[:4])
    federation.absent = {"site-4"}
    with pytest.raises(Aborted, match="difference size 1"):
        federation.round(spec=spec)


@pytest.mark.parametrize("cohort", [0, 1, 2])
def test_t9_a_spec_below_the_minimum_cannot_be_made(name: str, cohort: int) -> None:
    spec = Federation(name).spec()
    with pytest.raises(Refused, match="expected 3 at least"):
        RoundSpec.model_validate(spec.model_dump() | {"minimum_cohort": cohort})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_t15_a_value_that_is_not_finite_stays_at_the_client(name: str, value: float) -> None:
    federation = Federation(name)
    federation.vectors["site-3"][17] = value
    sent: list[Letter] = []

    def watch(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == "site-3" and len(letter.frame) > 1000:
            sent.append(letter)
        return (letter,)

    federation.wire = watch
    with pytest.raises(InvalidUpdate, match=r"client 'site-3': tensor 'vector' holds .* at flat index 17"):
        federation.round()
    assert not sent


@pytest.mark.parametrize("shape", [(256,), (258,), (257, 1)])
def test_t16_a_vector_of_another_shape_stays_at_the_client(name: str, shape: tuple[int, ...]) -> None:
    federation = Federation(name)
    federation.vectors["site-1"] = np.zeros(shape, np.float32)
    with pytest.raises(InvalidUpdate, match=r"client 'site-1': update is float32.*expected float32\[257\]"):
        federation.round()


def test_t16_another_dtype_stays_at_the_client(name: str) -> None:
    federation = Federation(name)
    federation.vectors["site-1"] = federation.vectors["site-1"].astype(np.float64)  # type: ignore[assignment]
    with pytest.raises(InvalidUpdate, match=r"update is float64\[257\], expected float32\[257\]"):
        federation.round()


@pytest.mark.parametrize("weight", [-1, 21, 2.5, float("nan"), float("inf"), True, "3"])
def test_t17_a_weight_out_of_range_is_a_client_error(name: str, weight: object) -> None:
    federation = Federation(name)
    federation.weights["site-0"] = weight  # type: ignore[assignment]
    with pytest.raises(InvalidUpdate, match=r"client 'site-0': weight is .*, expected a whole number from"):
        federation.round()


def test_t18_a_total_weight_of_zero_is_a_named_abort(name: str) -> None:
    federation = Federation(name)
    federation.weights = dict.fromkeys(federation.names, 0)
    if federation.uniform:
        with pytest.raises(InvalidUpdate, match="expected a whole number from 1 to 1"):
            federation.round()
    else:
        outcome = federation.round()
        with pytest.raises(Aborted, match="total weight of all contributions is zero"):
            outcome.result.mean()
