"""A key holder opens one sum for each number of a round, whatever it is shown: C6, every scheme and mode with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from secagg.errors import Aborted
from secagg.once import Once
from tests.adversary.federation import Federation

HELD: dict[str, tuple[str, dict[str, Any]]] = {
    "ckks": ("ckks", {}),
    "ckks verified": ("ckks verified", {}),
    "bfv": ("bfv", {}),
    "bfv verified": ("bfv verified", {}),
    "selective of ckks": ("selective", {}),
    "selective of bfv": ("selective", {"scheme": "bfv"}),
}
pytestmark = pytest.mark.parametrize("name", HELD)
REFUSED = "round 3 was opened under this key before; nothing was revealed"


def federation_of(name: str) -> Federation:
    backend, parameters = HELD[name]
    return Federation(backend, **parameters)


def test_c6_a_second_spec_for_one_round_opens_no_second_sum(name: str) -> None:
    """Two specs with one number, as a server may propose them, with all clients signing both."""
    federation = federation_of(name)
    federation.check(federation.round(3))
    with pytest.raises(Aborted, match=REFUSED):
        federation.round(spec=federation.spec(3, task="ab" * 32))
    federation.check(federation.round(4))


def test_c6_a_second_session_for_one_spec_opens_no_sum_without_a_client(name: str) -> None:
    """First minus second would be site-1's update: the server keeps one client's frames from a second session."""
    federation = federation_of(name)
    spec = federation.spec(3)
    federation.check(federation.round(spec=spec))
    federation.absent = {"site-1"}
    with pytest.raises(Aborted, match=REFUSED):
        federation.round(spec=spec)


def test_c6_a_folder_remembers_when_the_holder_is_started_again(name: str, tmp_path: Path) -> None:
    federation = federation_of(name)
    federation.backend.opened = Once(tmp_path)  # type: ignore[attr-defined]
    federation.check(federation.round(3))
    federation.backend.opened = Once(tmp_path)  # type: ignore[attr-defined]
    federation.absent = {"site-1"}
    with pytest.raises(Aborted, match=REFUSED):
        federation.round(3)
    federation.absent = set()
    federation.check(federation.round(4))


def test_c6_a_holder_that_forgot_opens_two_sums_as_the_guarantees_say(name: str) -> None:
    federation = federation_of(name)
    federation.check(federation.round(3))
    federation.backend.opened = Once()  # type: ignore[attr-defined]
    federation.absent = {"site-1"}
    federation.check(federation.round(3), [site for site in federation.names if site != "site-1"])
    assert any("forgets which rounds" in limit for limit in federation.backend.guarantees.limitations)
