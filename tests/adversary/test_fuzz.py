"""The fuzzing campaign itself: what it fuzzes, and that it names a backend that there is not."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from secagg.driver import Letter
from smpc.secaggplus import steps
from tests.adversary.federation import step_of
from tests.fuzz import CAMPAIGNS, federation_of, main


def test_the_campaign_holds_every_message_of_secaggplus() -> None:
    federation = federation_of("secaggplus sparse")
    seen: set[int] = set()

    def watch(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame":
            seen.add(step_of(letter))
        return (letter,)

    federation.wire = watch
    federation.check(federation.round())
    assert seen == {*range(steps.ADVERTISE, steps.RELEASE + 1), steps.draw_step(0), steps.reveal_step(0)}
    assert "secaggplus sparse" in CAMPAIGNS


def test_a_backend_that_there_is_not_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["fuzz", "secaggplus sparce"])
    with pytest.raises(SystemExit):
        main()
    assert "unknown backend 'secaggplus sparce' (did you mean 'secaggplus sparse'?)" in capsys.readouterr().err
