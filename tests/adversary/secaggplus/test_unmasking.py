"""Attacks on the unmasking: both kinds of share, wrong survivors, two views of them, missing signatures. M1-M5, T9."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from secagg.driver import Letter
from secagg.errors import Aborted, Rejected
from secagg.frames import HEADER_BYTES
from secagg.identity import SERVER, PartyId
from smpc.cohort import decode_mask, encode_mask, set_bytes
from smpc.secaggplus import steps
from smpc.secaggplus.shamir import SHARE_BYTES
from tests.adversary.federation import Federation, step_of
from tests.adversary.secaggplus.altering import VICTIM, Altering, Edit, attack, body_of, counted_as, refusal, sets


@pytest.mark.parametrize("name", ["secaggplus", "secaggplus passive"])
def test_m1_nobody_gives_up_both_kinds_of_share(name: str) -> None:
    """Each client is asked a second time, with the opposite survivors: it has answered, and answers nothing else."""
    federation = Federation(name)
    sessions = federation.keep_sessions()
    spec = federation.spec()
    federation.round(spec=spec)
    other = sets(federation.names, federation.names[1:], federation.names)
    for client in federation.names[1:]:
        with pytest.raises(Rejected, match="equivocation"):
            sessions[client].receive(SERVER, federation.forge(SERVER, client, spec, steps.ALIVE, other))


@pytest.mark.parametrize("lost", [(), ("site-4",)])
def test_m1_a_release_holds_one_share_of_each_neighbour(lost: tuple[PartyId, ...]) -> None:
    """And the share is of the seed where the neighbour is alive, of the key where it is not: the digests tell."""
    federation = Federation("secaggplus")
    sessions = federation.keep_sessions()
    federation.absent = set(lost)
    released: dict[PartyId, bytes] = {}

    def watch(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and step_of(letter) == steps.RELEASE:
            released[letter.sender] = body_of(letter)
        return (letter,)

    federation.wire = watch
    outcome = federation.round()
    federation.check(outcome, set(federation.names) - set(lost))
    assert set(released) == set(federation.names) - set(lost)
    assert {len(body) for body in released.values()} == {set_bytes(4) + 4 * SHARE_BYTES}
    assert not any(sessions[client]._held for client in released)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["secaggplus", "secaggplus passive"])
@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (counted_as(range(5), [0, 1, 3, 4]), "the server counts this client as dropped, and asks it all the same"),
        (counted_as(range(4), range(5)), "the server counts 'site-4' as alive, who did not come so far"),
        (counted_as(range(4), range(4)), "the server names other neighbours as sharing than those whose shares"),
        (counted_as(range(5), [1, 2]), "2 clients contributed, the minimum cohort is 3; nothing was revealed"),
        (counted_as(range(5), [1, 2, 3]), "2 neighbours are left, 3 are needed; nothing was revealed"),
        (lambda body: body[:-1], "client sets of 1 bytes, expected 2"),
        (lambda body: body[:1] + b"\xff", "the client set names a client beyond the roster"),
    ],
    ids=["M2 itself", "M4 unknown", "shared", "T9", "M7 too few", "short", "M4 beyond the roster"],
)
def test_a_client_refuses_survivors_that_cannot_be(name: str, edit: Edit, why: str) -> None:
    federation, spec, wire = attack(steps.ALIVE, edit, name=name)
    assert why in refusal(federation, spec)
    assert VICTIM not in wire.sent(steps.AGREE) | wire.sent(steps.RELEASE)


def test_m4_a_client_that_never_came_is_named() -> None:
    """site-4 sends no keys; the server says that it shared and is alive."""
    federation, spec, wire = attack(steps.ALIVE, counted_as(range(5), range(5)))
    altering = federation.wire
    federation.wire = lambda letter: () if letter.sender == "site-4" else altering(letter)
    assert "counts 'site-4' as shared, who did not come so far" in refusal(federation, spec)
    assert VICTIM not in wire.sent(steps.RELEASE)


def repeat_one(body: bytes) -> bytes:
    """The first signature of a QUORUM in the place of all."""
    head = set_bytes(4)
    return body[:head] + body[head : head + 64] * ((len(body) - head) // 64)


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (repeat_one, "did not sign the client sets that this client was shown; nothing was revealed"),
        (lambda body: body[:-64] + bytes(64), "did not sign the client sets that this client was shown"),
        (lambda body: bytes([0b11]) + body[1:-64], "2 signatures in 129 bytes, expected 3"),
        (lambda body: bytes([0b11]) + body[1:], "2 signatures in 193 bytes, expected 3"),
    ],
    ids=["M3 one for all", "forged", "too few", "too few bits"],
)
def test_m3_signatures_of_threshold_neighbours_are_needed(edit: Edit, why: str) -> None:
    federation, spec, wire = attack(steps.QUORUM, edit)
    assert why in refusal(federation, spec)
    assert VICTIM not in wire.sent(steps.RELEASE)


OTHER = {"ring": bytes(32), "shared": np.array([1, 1, 1, 1, 0], bool), "alive": np.array([1, 1, 1, 1, 0], bool)}


@pytest.mark.parametrize("what", [None, *OTHER])
def test_m3_neighbours_that_were_shown_another_ring_or_other_sets_make_no_quorum(what: str | None) -> None:
    """The neighbours sign what the server showed them; what it showed this client is all the same but for one thing."""
    federation = Federation("secaggplus")
    sessions = federation.keep_sessions()
    spec = federation.spec()

    def signed_elsewhere(body: bytes) -> bytes:
        victim: Any = sessions[VICTIM]
        shown = {"ring": victim._ring, "shared": np.ones(5, bool), "alive": np.ones(5, bool)}
        statement = victim.statement(**shown | ({what: OTHER[what]} if what else {}))
        head = set_bytes(4)
        signing = np.flatnonzero(decode_mask(body[:head], 4))
        names = [victim.names[victim._neighbours[slot]] for slot in signing]
        return body[:head] + b"".join(federation.driver.identities[name].sign(statement) for name in names)

    federation.wire = wire = Altering(federation, spec, steps.QUORUM, signed_elsewhere, to=[VICTIM])
    why = refusal(federation, spec)
    assert ("did not sign the client sets that this client was shown" in why) == (what is not None)
    assert (VICTIM in wire.sent(steps.RELEASE)) == (what is None)


@pytest.mark.parametrize("views", [1, 2])
def test_clients_that_were_told_different_survivors_release_nothing(views: int) -> None:
    """The server tells two of five that site-4 is lost: neither side finds three neighbours of its own mind."""
    federation, spec, wire = attack(steps.ALIVE, counted_as(range(5), range(4)), to=["site-0", "site-1"][:views])
    if views == 1:
        outcome = federation.round(spec=spec)
        federation.check(outcome)
        assert [error.sender for error in outcome.rejected] == ["site-0"]
        assert "did not sign the client sets of this round" in outcome.rejected[0].why
    else:
        with pytest.raises(Aborted, match=r"neighbours of .* are left, 3 are needed to recover its masks"):
            federation.round(spec=spec)
        assert not wire.sent(steps.RELEASE)


@pytest.mark.parametrize("step", [steps.ALIVE, steps.QUORUM, steps.GRAPH, steps.DELIVER])
def test_m5_the_same_request_gets_the_same_answer_and_another_none(step: int) -> None:
    federation = Federation("secaggplus")
    sessions = federation.keep_sessions()
    spec = federation.spec()
    asked: list[bytes] = []
    answers: dict[int, bytes] = {}

    def watch(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.to == VICTIM and step_of(letter) == step:
            asked.append(bytes(letter.frame))
        if letter.kind == "frame" and letter.sender == VICTIM:
            answers[step_of(letter)] = bytes(letter.frame)
        return (letter,)

    federation.wire = watch
    federation.round(spec=spec)
    again = [send.frame for send in sessions[VICTIM].receive(SERVER, asked[0])]
    answered_in = {steps.ALIVE: steps.AGREE, steps.QUORUM: steps.RELEASE, steps.GRAPH: steps.SHARES}
    assert again == ([answers[answered_in[step]]] if step in answered_in else [])
    changed = federation.forge(SERVER, VICTIM, spec, step, asked[0][HEADER_BYTES:])
    with pytest.raises(Rejected, match="equivocation"):
        sessions[VICTIM].receive(SERVER, changed)


@pytest.mark.parametrize("name", ["secaggplus", "secaggplus passive"])
def test_m1_a_state_that_is_restored_releases_for_no_other_survivors(name: str) -> None:
    """Rule 7 of the list: restored, and told of other survivors, it would give the other kind of each share."""
    federation = Federation(name)
    sessions = federation.keep_sessions()
    spec = federation.spec()
    before: dict[int, bytes] = {}
    told: dict[int, Letter] = {}

    def wire(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.to == VICTIM and step_of(letter) in (steps.ALIVE, steps.QUORUM):
            before[step_of(letter)] = sessions[VICTIM].dump()
            told[step_of(letter)] = letter
        return (letter,)

    federation.wire = wire
    federation.check(federation.round(spec=spec))
    party = federation.driver.party(VICTIM)

    def tell(alive: list[int]) -> None:
        """A session restored from before it was told of survivors. Where they must be signed, all sign it."""
        fork: Any = federation.backend.session(spec, party, state=before[steps.ALIVE])
        everybody = federation.names
        body = sets(everybody, [everybody[one] for one in alive], everybody)
        list(fork.receive(SERVER, federation.forge(SERVER, VICTIM, spec, steps.ALIVE, body)))
        if steps.QUORUM in told:
            neighbours = [fork.names[one] for one in fork._neighbours][: fork._threshold]
            signatures = [federation.driver.identities[one].sign(fork._statement) for one in neighbours]
            mask = np.zeros(len(fork._neighbours), bool)
            mask[: fork._threshold] = True
            quorum = encode_mask(mask) + b"".join(signatures)
            list(fork.receive(SERVER, federation.forge(SERVER, VICTIM, spec, steps.QUORUM, quorum)))

    tell([0, 1, 2, 3, 4])  # the same again
    with pytest.raises(Aborted, match="released for other survivors: the session was restored twice from one state"):
        tell([0, 1, 2, 3])
