"""A site gives each model one update, and says where cohorts are close: T10."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from secagg.driver import Driver
from secagg.errors import Aborted, Refused
from secagg.fixedpoint import FixedPoint
from secagg.participation import CloseCohorts, Participation
from secagg.registry import build
from secagg.spec import RoundSpec, task_digest
from secagg.vectors import Layout

NAMES = [f"site-{number}" for number in range(8)]
DRIVER = Driver(build("smpc").backend, NAMES)
OLD, NEW = task_digest(b"model"), task_digest(b"another model")


def spec(number: int = 1, clients: int = 8) -> RoundSpec:
    encoding = FixedPoint.fit(clients=8, value_bound=1.0)
    return DRIVER.spec(number, layout=Layout.flat(4), encoding=encoding, task=OLD, clients=NAMES[:clients])


def test_t10_another_spec_for_one_model_is_refused_whatever_its_cohort() -> None:
    past = Participation()
    past.enter(spec(), OLD)
    for other in (spec(), spec(2), spec(1, clients=7), spec(2, clients=3)):
        with pytest.raises(Aborted, match="two sums of one model, under one spec or two, may have difference size 1"):
            past.check(other, OLD)
        with pytest.raises(Aborted, match="difference size 1"):
            past.enter(other, OLD)


def test_what_was_only_checked_may_be_proposed_again() -> None:
    past = Participation()
    past.check(spec(), OLD)
    past.enter(spec(2, clients=7), OLD)


@pytest.mark.parametrize(("clients", "close"), [(8, False), (7, True), (6, True), (5, False)])
def test_t10_close_cohorts_of_two_models_are_warned_of(clients: int, close: bool) -> None:
    past = Participation()
    past.enter(spec(), OLD)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        past.check(spec(2, clients=clients), NEW)
    assert [warning.category for warning in caught] == ([CloseCohorts] if close else [])
    if close:
        assert f"rounds 1 and 2 differ by {8 - clients} of {clients} clients" in str(caught[0].message)


def test_t10_a_file_remembers_beyond_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    Participation(path).enter(spec(), OLD)
    Participation(path).enter(spec(2), NEW)
    again = Participation(path)
    with pytest.raises(Aborted, match="difference size 1"):
        again.check(spec(3), OLD)
    with pytest.raises(Aborted, match="difference size 1"):
        again.check(spec(3), NEW)


@pytest.mark.parametrize("damage", [lambda text: text[:-5], lambda text: text + b"{}\n", lambda text: b"[]\n" + text])
def test_a_damaged_file_is_refused_with_its_line(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "sums.jsonl"
    Participation(path).enter(spec(), OLD)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(Refused, match=r"sums.jsonl: line \d is no record of a sum"):
        Participation(path)


def test_a_file_that_cannot_be_written_keeps_the_update_at_home(tmp_path: Path) -> None:
    past = Participation(tmp_path / "missing" / "sums.jsonl")
    with pytest.raises(Refused, match="cannot remember what this site takes part in"):
        past.enter(spec(), OLD)
    past.check(spec(2), OLD)
