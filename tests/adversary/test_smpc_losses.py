"""S2: aggregators that die at every step, as many as may and one more; clients that vanish with them, and restarts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import record, registry
from secagg.driver import Letter
from secagg.errors import Aborted
from secagg.identity import SERVER, PartyId
from smpc.additive.role import AGREE, CHECK, HELD, KEY, MISSING, SEED, SPARE, SUM
from tests.adversary.federation import Federation, is_vector, step_of
from tests.secagg.test_protocol import NAMES, Crashing, mean, run

ONE, TWO, THREE, FOUR = (f"aggregator-{number}" for number in range(1, 5))
PROPOSAL = 0
# What an aggregator sends, in the order in which it does.
SENT = (PROPOSAL, KEY, HELD, AGREE, CHECK, SUM, SPARE)


class Deaths:
    """A wire on which parties die: each just before, or right after, the first frame that it sends in a step.

    From then on nothing comes from it and nothing reaches it. Who dies at the proposal never gets one.
    """

    def __init__(self, deaths: Mapping[PartyId, tuple[int, int]]) -> None:
        self._deaths = deaths
        self._sent = dict.fromkeys(deaths, 0)
        self.dead = {name for name, (step, _) in deaths.items() if step == PROPOSAL}

    def __call__(self, letter: Letter) -> Iterable[Letter]:
        step, frames = self._deaths.get(letter.sender, (None, 0))
        if letter.kind == "frame" and letter.sender not in self.dead and step_of(letter) == step:
            if self._sent[letter.sender] == frames:
                self.dead.add(letter.sender)
            self._sent[letter.sender] += 1
        return () if self.dead & {letter.sender, letter.to} else (letter,)


@pytest.mark.parametrize("frames", [0, 1])
@pytest.mark.parametrize("step", SENT)
@pytest.mark.parametrize(("name", "who"), [("smpc 2 of 3", ONE), ("smpc 2 of 3", TWO), ("smpc 3 of 5", THREE)])
def test_s2_an_aggregator_that_dies_at_any_step_leaves_the_exact_sum(
    name: str, who: PartyId, step: int, frames: int
) -> None:
    federation = Federation(name)
    federation.wire = Deaths({who: (step, frames)})
    federation.check(federation.round())


@pytest.mark.parametrize("steps", list(itertools.combinations_with_replacement(SENT, 2)), ids=str)
def test_s2_two_of_five_may_die_each_at_its_own_step(steps: tuple[int, int]) -> None:
    federation = Federation("smpc 3 of 5")
    federation.wire = Deaths({ONE: (steps[0], 0), TWO: (steps[1], 0)})
    federation.check(federation.round())


deaths = st.tuples(st.sampled_from(SENT), st.integers(0, 2))


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from([ONE, TWO, THREE, FOUR]), deaths, max_size=2), st.data())
def test_s2_whoever_dies_whenever_the_sum_is_that_of_the_clients_who_stayed(
    dead: dict[PartyId, tuple[int, int]], data: st.DataObject
) -> None:
    """Clients die as well, at most two of five: before or after their seeds or their vector leave."""
    federation = Federation("smpc 3 of 5")
    lost = data.draw(st.dictionaries(st.sampled_from(federation.names), st.sampled_from([SEED, 5]), max_size=2))
    wire = Deaths({**dead, **{client: (step, 0) for client, step in lost.items()}})
    federation.wire = wire
    federation.check(federation.round(), set(federation.names) - wire.dead)


@pytest.mark.parametrize("step", [step for step in SENT if step not in (SUM, SPARE)])
@pytest.mark.parametrize(("name", "gone"), [("smpc 2 of 3", (ONE, TWO)), ("smpc 3 of 5", (ONE, THREE, FOUR))])
def test_s2_one_more_death_is_a_named_abort_and_the_shares_are_kept(
    name: str, gone: tuple[PartyId, ...], step: int
) -> None:
    federation = Federation(name)
    sessions = federation.keep_sessions()
    federation.wire = Deaths(dict.fromkeys(gone, (step, 0)))
    names = ", ".join(f"'{helper}'" for helper in gone)
    needed = f"{federation.backend.parameters['threshold'] - 1} of the {len(federation.backend.helpers())}"
    with pytest.raises(
        Aborted, match=f"{names} are silent, and {needed} aggregators .* are needed; nothing was revealed"
    ):
        federation.round()
    assert sessions[SERVER].result is None
    for helper in set(federation.backend.helpers()) - set(gone):
        role = record.decode(sessions[helper].dump())["role"]
        # Nobody was dealt anything when too few keys came; summed up or not, what was dealt is still there.
        assert step in (PROPOSAL, KEY) or bool(role["seeds"]) != bool(role["sums"])


def test_s2_the_last_holders_of_a_share_die_when_they_are_asked_for_it() -> None:
    """Both holders of the only share, after the digests were compared: the server has vectors, and they stay masked."""
    federation = Federation("smpc 2 of 3")
    sessions = federation.keep_sessions()
    federation.wire = Deaths({ONE: (SUM, 0), TWO: (SPARE, 0)})
    with pytest.raises(Aborted, match="'aggregator-1', 'aggregator-2' are silent, and 1 of the 2 aggregators"):
        federation.round()
    assert sessions[SERVER].result is None


@pytest.mark.parametrize("step", [PROPOSAL, KEY, HELD, AGREE, SUM])
def test_s2_with_full_sharing_any_death_is_a_named_abort(step: int) -> None:
    federation = Federation("smpc")
    federation.wire = Deaths({TWO: (step, 0)})
    with pytest.raises(Aborted, match=f"'{TWO}' is silent, and every aggregator is needed; nothing was revealed"):
        federation.round()


def test_s2_an_aggregator_that_no_client_heard_in_time_is_not_counted_on() -> None:
    """It lives, and says truthfully that it holds nobody's seeds: no reason to leave everybody out."""
    federation = Federation("smpc 2 of 3")
    federation.wire = lambda letter: (
        () if letter.kind == "frame" and letter.sender == TWO and step_of(letter) == KEY else (letter,)
    )
    federation.check(federation.round())


def test_s2_who_never_got_the_proposal_is_named_in_the_outcome() -> None:
    federation = Federation("smpc 2 of 3")
    federation.wire = Deaths({TWO: (PROPOSAL, 0)})
    assert federation.round().dropped == {TWO: "never got the proposal"}


def test_s2_only_one_holder_sends_a_share_unless_it_dies() -> None:
    federation = Federation("smpc 3 of 5")
    sent: list[tuple[PartyId, int]] = []

    def watch(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.to == SERVER and step_of(letter) in (SUM, SPARE):
            sent.append((letter.sender, step_of(letter)))
        return (letter,)

    federation.wire = watch
    federation.check(federation.round())
    assert sorted(sent) == [(helper, SUM) for helper in (ONE, TWO, THREE, FOUR)]


@pytest.mark.parametrize("victim", [SERVER, TWO, THREE, "site-0"])
@pytest.mark.parametrize("step", [KEY, SUM])
def test_s2_a_death_and_a_restart_in_one_round(victim: PartyId, step: int) -> None:
    """Aggregator 1 dies, another party is started again at each of its calls in turn, and a client is absent."""
    left = [who for who in NAMES if who != "site-3"]
    for call in range(1, 30):
        crashing = Crashing(registry.build("smpc", {"aggregators": 5, "threshold": 3}).backend, victim, call)
        result = run(crashing, gone=["site-3"], intercept=Deaths({ONE: (step, 0)}))  # type: ignore[arg-type]
        assert list(result.contributors) == left
        np.testing.assert_allclose(result.mean(), mean(left), atol=1e-5)
        if not crashing.crashed:
            break
    assert 1 < call < 29


@pytest.mark.parametrize("name", ["smpc 2 of 3", "smpc 3 of 5"])
def test_what_was_sent_is_asked_for_again_and_sent_again_the_same(name: str) -> None:
    federation = Federation(name)
    sessions = federation.keep_sessions()
    letters: list[Letter] = []

    def watch(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and TWO in (letter.sender, letter.to):
            letters.append(letter)
        return (letter,)

    federation.wire = watch
    federation.round()
    requests = [letter for letter in letters if letter.to == TWO]
    again = {bytes(send.frame) for letter in requests for send in sessions[TWO].receive(letter.sender, letter.frame)}
    # Its keys it sends unasked.
    assert again == {bytes(letter.frame) for letter in letters if letter.sender == TWO and step_of(letter) != KEY}


@pytest.mark.parametrize("name", ["smpc 2 of 3", "smpc 3 of 5"])
def test_a_vector_that_never_comes_leaves_its_client_out_whatever_the_aggregators_hold(name: str) -> None:
    federation = Federation(name)
    federation.wire = lambda letter: () if is_vector(letter) and letter.sender == "site-2" else (letter,)
    federation.check(federation.round(), set(federation.names) - {"site-2"})


def test_missing_shares_are_asked_only_of_those_who_are_left() -> None:
    federation = Federation("smpc 3 of 5")
    asked: list[PartyId] = []
    deaths = Deaths({ONE: (SUM, 0)})

    def watch(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and step_of(letter) == MISSING:
            asked.append(letter.to)
        return deaths(letter)

    federation.wire = watch
    federation.check(federation.round())
    assert ONE not in asked
    assert len(asked) == 2
