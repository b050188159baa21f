"""Attacks on additive sharing: S1, S2, S4, S5, S7 of the list of cases, and a server that asks for two sets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from secagg import record
from secagg.driver import Letter
from secagg.errors import Aborted, Rejected
from secagg.frames import HEADER_BYTES, split
from secagg.identity import SERVER, PartyId
from smpc.additive.role import AGREE, COHORT, HELD, KEY, SEED, SHARE, SUM
from smpc.cohort import encode_set
from smpc.masks import MaskStream, apply_masks
from tests.adversary.federation import Federation, is_vector, step_of

ONE, TWO = "aggregator-1", "aggregator-2"
over_thresholds = pytest.mark.parametrize("name", ["smpc", "smpc 2 of 3", "smpc 3 of 5"])


@over_thresholds
def test_s4_a_seed_for_one_aggregator_is_worthless_to_another(name: str) -> None:
    """A relay hands aggregator 1 the seeds of both. It cannot open, nor use, what is not addressed to it."""
    federation = Federation(name)

    def misroute(letter: Letter) -> Iterable[Letter]:
        yield letter
        if letter.kind == "frame" and letter.to == TWO and step_of(letter) == SEED:
            yield replace(letter, to=ONE)

    federation.wire = misroute
    outcome = federation.round()
    federation.check(outcome)
    assert {error.why for error in outcome.rejected} == {"the frame is addressed to somebody else"}
    assert len(outcome.rejected) == 5


@over_thresholds
def test_s4_a_client_that_sends_one_aggregator_the_other_seed_is_rejected(name: str) -> None:
    """The envelope is bound to the pair: re-framed for another aggregator by an insider, it does not open."""
    federation = Federation(name)
    spec = federation.spec()
    envelopes: list[bytes] = []

    def reuse(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.sender == "site-1" and step_of(letter) == SEED:
            envelopes.append(bytes(letter.frame[HEADER_BYTES:]))
            if letter.to == TWO:
                yield replace(letter, frame=federation.forge("site-1", TWO, spec, SEED, envelopes[0]))
                return
        yield letter

    federation.wire = reuse
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {"site-1"})
    assert "envelope does not open" in outcome.rejected[0].why


@over_thresholds
def test_s5_a_seed_sent_twice_counts_once(name: str) -> None:
    federation = Federation(name)
    spec = federation.spec()

    def again(letter: Letter) -> Iterable[Letter]:
        yield letter
        if letter.kind == "frame" and letter.sender == "site-1" and step_of(letter) in (SEED, SHARE):
            body = bytes(letter.frame[HEADER_BYTES:])
            yield replace(letter, frame=federation.forge("site-1", letter.to, spec, step_of(letter), body))

    federation.wire = again
    outcome = federation.round(spec=spec)
    federation.check(outcome)
    assert [error.why[:12] for error in outcome.rejected] == ["equivocation"] * (len(federation.backend.helpers()) + 1)


@over_thresholds
def test_s7_aggregators_that_were_shown_different_sets_abort_before_expanding(name: str) -> None:
    federation = Federation(name)
    spec = federation.spec()
    sums: list[Letter] = []

    def two_sets(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and step_of(letter) >= SUM:
            sums.append(letter)
        if letter.kind == "frame" and letter.to == TWO and step_of(letter) == COHORT:
            smaller = encode_set(federation.names[:4], sorted(federation.names))
            yield replace(letter, frame=federation.forge(SERVER, TWO, spec, COHORT, smaller))
        else:
            yield letter

    federation.wire = two_sets
    with pytest.raises(Aborted, match="was shown another client set than this aggregator; nothing was revealed"):
        federation.round(spec=spec)
    assert not sums


@over_thresholds
@pytest.mark.parametrize("members", [0, 1, 2])
def test_a_server_that_asks_for_too_small_a_set_gets_nothing(name: str, members: int) -> None:
    """T9 at the aggregator: the minimum is checked by everybody who could reveal something."""
    federation = Federation(name)
    spec = federation.spec()
    sums: list[Letter] = []

    def shrink(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and step_of(letter) >= SUM:
            sums.append(letter)
        if letter.kind == "frame" and step_of(letter) == COHORT:
            few = encode_set(federation.names[:members], sorted(federation.names))
            yield replace(letter, frame=federation.forge(SERVER, letter.to, spec, COHORT, few))
        else:
            yield letter

    federation.wire = shrink
    with pytest.raises(Aborted, match=f"{members} clients contributed, the minimum cohort is 3; nothing was revealed"):
        federation.round(spec=spec)
    assert not sums


@over_thresholds
def test_a_server_cannot_ask_for_a_second_set(name: str) -> None:
    """The difference of two sums would be one client's update. The second request is equivocation."""
    federation = Federation(name)
    sessions = federation.keep_sessions()
    spec = federation.spec()
    federation.round(spec=spec)
    smaller = encode_set(federation.names[:4], sorted(federation.names))
    for helper in federation.backend.helpers():
        with pytest.raises(Rejected, match="equivocation"):
            sessions[helper].receive(SERVER, federation.forge(SERVER, helper, spec, COHORT, smaller))


def test_the_same_request_gets_the_same_answer() -> None:
    federation = Federation("smpc")
    sessions = federation.keep_sessions()
    asked: dict[PartyId, bytes] = {}
    answered: dict[PartyId, bytes] = {}

    def watch(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.to == ONE and step_of(letter) == AGREE:
            asked[letter.sender] = bytes(letter.frame)
        if letter.kind == "frame" and letter.sender == ONE and step_of(letter) == SUM:
            answered[ONE] = bytes(letter.frame)
        return (letter,)

    federation.wire = watch
    federation.round()
    (again,) = sessions[ONE].receive(TWO, asked[TWO])
    assert again.frame == answered[ONE]


@over_thresholds
def test_an_aggregator_that_aborted_stays_out(name: str) -> None:
    federation = Federation(name)
    sessions = federation.keep_sessions()
    spec = federation.spec()
    few = encode_set(federation.names[:1], sorted(federation.names))
    federation.wire = lambda letter: (
        [replace(letter, frame=federation.forge(SERVER, letter.to, spec, COHORT, few))]
        if letter.kind == "frame" and step_of(letter) == COHORT
        else [letter]
    )
    with pytest.raises(Aborted):
        federation.round(spec=spec)
    everybody = encode_set(federation.names, sorted(federation.names))
    with pytest.raises(Aborted, match="minimum cohort"):
        sessions[ONE].receive(SERVER, federation.forge(SERVER, ONE, spec, COHORT, everybody))


@pytest.mark.parametrize("step", [KEY, HELD, SUM])
def test_s2_a_silent_aggregator_is_named(step: int) -> None:
    federation = Federation("smpc")
    federation.wire = lambda letter: (
        [] if letter.kind == "frame" and letter.sender == TWO and step_of(letter) >= step else [letter]
    )
    with pytest.raises(Aborted, match=f"'{TWO}' is silent, and every aggregator is needed"):
        federation.round()


@over_thresholds
@pytest.mark.parametrize("helper", [ONE, TWO])
def test_a_client_whose_seed_is_lost_on_the_way_is_left_out(name: str, helper: str) -> None:
    federation = Federation(name)
    federation.wire = lambda letter: (
        [] if letter.kind == "frame" and letter.to == helper and letter.sender == "site-4" else [letter]
    )
    federation.check(federation.round(), set(federation.names) - {"site-4"})


@over_thresholds
def test_s1_what_the_server_sees_is_uniform_and_independent_of_the_input(name: str) -> None:
    """The worst input, all ones, looks uniform in every byte; two runs on one input share nothing."""
    seen: list[np.ndarray] = []
    for _ in range(2):
        federation = Federation(name, size=20_000)
        federation.vectors = {name: np.ones(20_000, np.float32) for name in federation.names}

        def watch(letter: Letter) -> Iterable[Letter]:
            if letter.kind == "frame" and letter.sender == "site-0" and step_of(letter) == SHARE:
                seen.append(np.frombuffer(split(letter.frame)[1], np.uint8))
            return (letter,)

        federation.wire = watch
        federation.round()
    for share in seen:
        counts = np.bincount(share, minlength=256)
        expected = share.size / 256
        chi_square = float(((counts - expected) ** 2 / expected).sum())
        assert chi_square < 400  # 255 degrees of freedom: exceeded with probability 1e-8
    assert np.count_nonzero(seen[0] == seen[1]) < 0.01 * seen[0].size


@pytest.mark.parametrize("colluders", [("server", ONE), ("server", TWO), (ONE, TWO)])
def test_s1_two_colluding_aggregators_of_three_see_nothing_of_an_input(colluders: tuple[str, str]) -> None:
    """All that two aggregators hold of site-0, added up in its favour, is still uniform: the third mask is missing.

    The true input is constant, so anything that shone through would show as a crooked histogram.
    """
    size = 20_000
    federation = Federation("smpc", size=size)
    federation.vectors = {name: np.ones(size, np.float32) for name in federation.names}
    sessions = federation.keep_sessions()
    spec = federation.spec()
    held: dict[str, bytes] = {}
    view = np.zeros(size + 1, np.uint32)

    def collude(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.to == SERVER and step_of(letter) == HELD:
            held[letter.sender] = sessions[letter.sender]._seeds["site-0"]  # type: ignore[attr-defined]
        if "server" in colluders and letter.sender == "site-0" and is_vector(letter) and step_of(letter) == SHARE:
            np.add(view, np.frombuffer(split(letter.frame)[1], np.uint32), out=view)
        return (letter,)

    federation.wire = collude
    federation.check(federation.round(spec=spec))
    fingerprints = spec.roster.fingerprints
    for helper in set(colluders) - {"server"}:
        context = (spec.digest, fingerprints["site-0"], fingerprints[helper])
        apply_masks(view, [(MaskStream(held[helper], suite="chacha20", context=context), 1)])
    counts = np.bincount(view.view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 400  # 255 degrees of freedom: 1e-8


@over_thresholds
def test_a_vector_from_a_client_whose_seeds_are_not_all_held_is_rejected(name: str) -> None:
    """site-4's seed never reached aggregator 2; it sends its vector all the same, and it is not taken."""
    federation = Federation(name)
    spec = federation.spec()

    def uninvited(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and (letter.sender, letter.to) == ("site-4", TWO):
            return
        yield letter
        if is_vector(letter) and letter.sender == "site-0":
            body = bytes(len(letter.frame) - HEADER_BYTES)
            yield Letter("site-4", SERVER, federation.forge("site-4", SERVER, spec, SHARE, body))

    federation.wire = uninvited
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {"site-4"})
    assert "no message of step 5 is expected from it" in outcome.rejected[0].why


@over_thresholds
def test_an_aggregator_refuses_a_set_with_a_client_whose_seed_it_does_not_hold(name: str) -> None:
    federation = Federation(name)
    spec = federation.spec()

    def add_a_stranger(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.sender == "site-4":
            return
        if letter.kind == "frame" and step_of(letter) == COHORT:
            everybody = encode_set(federation.names, sorted(federation.names))
            yield replace(letter, frame=federation.forge(SERVER, letter.to, spec, COHORT, everybody))
        else:
            yield letter

    federation.wire = add_a_stranger
    with pytest.raises(Aborted, match="counts 'site-4', whose seed this aggregator does not hold"):
        federation.round(spec=spec)


@over_thresholds
def test_an_aggregator_erases_the_key_that_opens_seeds_before_it_expands_them(name: str) -> None:
    """Whoever takes its stored state after the round cannot open the sealed seeds that were recorded on the wire."""
    federation = Federation(name)
    sessions = federation.keep_sessions()
    federation.round()
    fields = record.decode(sessions[ONE].dump())["role"]
    assert fields["key"] == b""
    assert fields["seeds"] == {}
