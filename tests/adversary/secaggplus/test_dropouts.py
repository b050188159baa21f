"""Clients that vanish: at every step, down to the threshold and below, with late vectors; restarts. M6, M7, M13."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secagg.driver import Letter
from secagg.errors import Aborted, Rejected
from secagg.identity import SERVER, PartyId
from secagg.protocol import Send
from smpc.secaggplus import steps
from smpc.secaggplus.server import SecAggPlusServer
from tests.adversary.federation import Federation, step_of
from tests.adversary.secaggplus.altering import SPARSE, VICTIM, assert_uniform
from tests.dropouts import SETTINGS, STAGES, Losses, campaign, main, run_schedule
from tests.secagg.test_protocol import Crashing

SMALL = {name: setting for name, setting in SETTINGS.items() if "70" not in name}


@pytest.mark.parametrize("setting", [{"clients": 7}, {"clients": 7, "threat": "passive"}, SPARSE], ids=str)
@pytest.mark.parametrize("stage", range(len(STAGES)))
def test_m6_a_client_lost_at_any_step_leaves_the_exact_sum_of_the_others(setting: dict[str, Any], stage: int) -> None:
    federation = Federation("secaggplus", **setting)
    federation.wire = Losses({VICTIM: stage})
    outcome = federation.round()
    uploaded = stage > STAGES.index("vector")
    federation.check(outcome, set(federation.names) - (set() if uploaded else {VICTIM}))


@pytest.mark.parametrize(
    ("threat", "stage"),
    [
        ("active", "vector"),
        ("active", "agreement"),
        ("active", "release"),
        ("passive", "vector"),
        ("passive", "release"),
    ],
)
def test_m7_threshold_neighbours_suffice_and_one_fewer_reveals_nothing(threat: str, stage: str) -> None:
    """Of nine clients each has eight neighbours, of whom five must be left: six survive, or not."""
    for left, enough in ((6, True), (5, False)):
        federation = Federation("secaggplus", clients=9, threat=threat)
        sessions = federation.keep_sessions()
        gone = federation.names[left:]
        losses = Losses(dict.fromkeys(gone, STAGES.index(stage)))
        releases: list[Letter] = []

        def watch(letter: Letter, losses: Losses = losses, releases: list[Letter] = releases) -> Iterable[Letter]:
            for arriving in losses(letter):
                if letter.kind == "frame" and step_of(letter) == steps.RELEASE:
                    releases.append(letter)
                yield arriving

        federation.wire = watch
        if enough:
            federation.check(federation.round(), federation.names[:left] if stage == "vector" else None)
        else:
            with pytest.raises(
                Aborted, match=r"4 (neighbours|shares) of 'site-\d' .*, 5 are needed to recover its masks"
            ):
                federation.round()
            assert sessions[SERVER].result is None
            assert bool(releases) == (stage == "release")


def test_m7_too_few_releases_leave_the_sum_masked() -> None:
    """Shares of five of nine came, of each seed four: what the server holds looks uniform, the worst input included."""
    size = 20_000
    federation = Federation("secaggplus", clients=9, size=size)
    federation.vectors = {name: np.ones(size, np.float32) for name in federation.names}
    sessions = federation.keep_sessions()
    federation.wire = Losses(dict.fromkeys(federation.names[5:], STAGES.index("release")))
    with pytest.raises(Aborted, match="5 are needed"):
        federation.round()
    assert_uniform(sessions[SERVER]._sum.store().view(np.uint8))  # type: ignore[attr-defined]


def test_m13_the_vector_of_a_dropped_client_is_never_opened() -> None:
    """It arrives when its key is already recovered, and its own mask alone would hide it: it is turned away unread."""
    federation = Federation("secaggplus")
    sessions = federation.keep_sessions()
    held: list[Letter] = []

    def late(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.sender == VICTIM and step_of(letter) == steps.MASKED:
            held.append(letter)
            return
        if held and letter.kind == "frame" and step_of(letter) == steps.RELEASE:
            yield replace(held[0])
        yield letter

    federation.wire = late
    outcome = federation.round()
    federation.check(outcome, set(federation.names) - {VICTIM})
    assert {error.why for error in outcome.rejected} == {f"step {steps.MASKED} is closed; too late"}
    with pytest.raises(Rejected, match="closed; too late"):
        sessions[SERVER].receive(VICTIM, held[0].frame)


def test_a_client_that_nobody_could_recover_is_left_out_before_it_masks() -> None:
    """Six of thirty are lost around one place of the ring: the client there has six neighbours left of the seven."""
    federation = Federation("secaggplus", clients=30, degree=12, threshold=7, acknowledge_weak_parameters=True)
    sessions = federation.keep_sessions()
    lost: set[PartyId] = set()

    def wire(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and step_of(letter) == steps.GRAPH and not lost:
            server: Any = sessions[SERVER]
            lost.update(server._name(place) for place in (2, 4, 8, 9, 27, 28))
        return () if letter.sender in lost else (letter,)

    federation.wire = wire
    outcome = federation.round()
    assert len(outcome.result.contributors) == 23
    federation.check(outcome, outcome.result.contributors)
    assert not lost & set(outcome.result.contributors)


def test_thirty_random_schedules_of_dropouts() -> None:
    """The small version of `python -m tests.dropouts`."""
    outcomes = campaign(30, seed=7, settings=SMALL)
    assert outcomes.total() == 30
    assert outcomes["sum of the survivors"] > 5


@pytest.mark.parametrize("stage", range(len(STAGES)))
def test_losses_that_all_fall_on_one_step(stage: int) -> None:
    assert campaign(5, seed=stage, settings=SMALL, stage=stage).total() == 5


@pytest.mark.parametrize("step", [steps.ADVERTISE, steps.SHARES, steps.MASKED])
def test_the_campaign_sees_a_server_that_leaves_out_a_live_client(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = SecAggPlusServer.handle

    def forgetful(server: SecAggPlusServer, at: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        return () if (at, sender) == (step, VICTIM) else handle(server, at, sender, body)

    monkeypatch.setattr(SecAggPlusServer, "handle", forgetful)
    with pytest.raises(AssertionError):
        run_schedule(Federation("secaggplus", clients=7), 1, {})


def test_no_alarm_is_left_after_a_round_that_ends_in_an_abort() -> None:
    federation = Federation("secaggplus")
    assert run_schedule(federation, 1, dict.fromkeys(federation.names[:3], 0)) == "aborted: too few clients left"
    assert signal.alarm(0) == 0


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_a_campaign_without_schedules_boasts_of_nothing(
    count: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["dropouts", "--schedules", count])
    with pytest.raises(SystemExit):
        main()
    assert f"{count}, expected 1 at least" in capsys.readouterr().err


@pytest.mark.parametrize("victim", [SERVER, VICTIM])
def test_a_party_of_a_sparse_graph_that_dies_at_any_call_loses_nothing(victim: PartyId) -> None:
    """With the draw, one client lost in it, and one lost before its vector."""
    for call in range(1, 200 if victim == SERVER else 12):
        federation = Federation("secaggplus", clients=11, degree=6, acknowledge_weak_parameters=True)
        crashing = Crashing(federation.backend, victim, call * (11 if victim == SERVER else 1))
        federation.driver.backend = crashing  # type: ignore[assignment]
        federation.wire = Losses({"site-4": STAGES.index("draw"), "site-7": STAGES.index("vector")})
        federation.check(federation.round(), set(federation.names) - {"site-4", "site-7"})
        if not crashing.crashed:
            break
    assert call > 3
