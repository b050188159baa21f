"""Altered shares, envelopes that do not open, owners that lie. M8."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secagg.driver import Letter
from secagg.errors import Aborted
from secagg.identity import SERVER, PartyId
from secagg.spec import RoundSpec
from smpc.cohort import set_bytes
from smpc.secaggplus import steps
from smpc.secaggplus.draw import commitment
from smpc.secaggplus.keys import Advert
from smpc.secaggplus.shamir import SHARE_BYTES
from tests.adversary.federation import Federation, step_of
from tests.adversary.secaggplus.altering import VICTIM, Edit, body_of
from tests.dropouts import STAGES, Losses


def forged_release(federation: Federation, spec: RoundSpec, sender: PartyId, edit: Edit) -> Callable[[Letter], Any]:
    def wire(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.sender == sender and step_of(letter) == steps.RELEASE:
            letter = replace(letter, frame=federation.forge(sender, SERVER, spec, steps.RELEASE, edit(body_of(letter))))
        return (letter,)

    return wire


@pytest.mark.parametrize(
    "edit",
    [
        lambda body: body[:-1] + bytes([body[-1] ^ 1]),
        lambda body: body[:1] + body[1 + SHARE_BYTES : 1 + 2 * SHARE_BYTES] + body[1 + SHARE_BYTES :],
        lambda body: body[:1] + b"\xff" * (len(body) - 1),
    ],
    ids=["one bit", "another owner's", "no field elements"],
)
def test_m8_an_altered_share_is_rejected_and_the_sum_stays_exact(edit: Edit) -> None:
    federation = Federation("secaggplus", clients=7)
    spec = federation.spec()
    federation.wire = forged_release(federation, spec, VICTIM, edit)
    outcome = federation.round(spec=spec)
    federation.check(outcome)
    assert [error.sender for error in outcome.rejected] == [VICTIM]
    assert "is not the one that it was given" in outcome.rejected[0].why


def test_m8_a_share_of_the_kind_that_is_not_due_is_rejected() -> None:
    """A client that releases the share of the *key* of a living neighbour helps the server to what it must not have."""
    federation = Federation("secaggplus", clients=7)
    sessions = federation.keep_sessions()
    spec = federation.spec()
    keys: list[bytes] = []

    def wire(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.to == VICTIM and step_of(letter) == steps.QUORUM:
            keys.append(sessions[VICTIM]._held[0][SHARE_BYTES:])  # type: ignore[attr-defined]
        if letter.kind == "frame" and letter.sender == VICTIM and step_of(letter) == steps.RELEASE:
            body = body_of(letter)
            body = body[: set_bytes(6)] + keys[0] + body[set_bytes(6) + SHARE_BYTES :]
            letter = replace(letter, frame=federation.forge(VICTIM, SERVER, spec, steps.RELEASE, body))
        return (letter,)

    federation.wire = wire
    outcome = federation.round(spec=spec)
    federation.check(outcome)
    assert [error.sender for error in outcome.rejected] == [VICTIM]


@pytest.mark.parametrize("lost", [(), ("site-6",)])
def test_m8_an_envelope_that_does_not_open_costs_one_share_not_the_round(lost: tuple[PartyId, ...]) -> None:
    """site-6 sends the others random bytes for envelopes in two places; both mask with it all the same."""
    federation = Federation("secaggplus", clients=7)
    spec = federation.spec()
    federation.absent = set(lost)

    def wire(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.sender == "site-6" and step_of(letter) == steps.SHARES:
            body = bytearray(body_of(letter))
            body[32 : 32 + 2 * steps.PARCEL_BYTES] = bytes(2 * steps.PARCEL_BYTES)
            letter = replace(letter, frame=federation.forge("site-6", SERVER, spec, steps.SHARES, bytes(body)))
        return (letter,)

    federation.wire = wire
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - set(lost))
    assert not outcome.rejected


def test_m8_an_owner_whose_digests_are_wrong_is_named_and_not_those_who_hold_its_shares() -> None:
    """It would have its neighbours' releases rejected as altered, and with them everybody's shares."""
    federation = Federation("secaggplus", clients=7)
    spec = federation.spec()

    def wire(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.sender == VICTIM and step_of(letter) == steps.SHARES:
            body = bytearray(body_of(letter))
            for at in range(32, len(body), steps.PARCEL_BYTES):
                body[at + steps.ENVELOPE_BYTES : at + steps.PARCEL_BYTES] = bytes(32)
            letter = replace(letter, frame=federation.forge(VICTIM, SERVER, spec, steps.SHARES, bytes(body)))
        return (letter,)

    federation.wire = wire
    with pytest.raises(Aborted, match=f"0 shares of '{VICTIM}' were released, 4 are needed to recover its masks"):
        federation.round(spec=spec)


def test_m8_an_owner_whose_shares_do_not_make_up_its_secret_is_named() -> None:
    """Its own commitment convicts it: the round is lost, and nothing but noise was opened."""
    federation = Federation("secaggplus", clients=7)
    spec = federation.spec()

    def wire(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.sender == VICTIM and step_of(letter) == steps.SHARES:
            body = bytes(32) + body_of(letter)[32:]
            letter = replace(letter, frame=federation.forge(VICTIM, SERVER, spec, steps.SHARES, body))
        return (letter,)

    federation.wire = wire
    with pytest.raises(Aborted, match=f"the shares that '{VICTIM}' gave its neighbours do not make up its secret"):
        federation.round(spec=spec)


def test_a_share_of_somebody_who_never_shared_is_rejected() -> None:
    federation = Federation("secaggplus", clients=7)
    spec = federation.spec()
    losses = Losses({"site-6": STAGES.index("shares")})

    def wire(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.sender == VICTIM and step_of(letter) == steps.RELEASE:
            body = bytes([0b111111]) + body_of(letter)[1:] + bytes(SHARE_BYTES)
            letter = replace(letter, frame=federation.forge(VICTIM, SERVER, spec, steps.RELEASE, body))
        return losses(letter)

    federation.wire = wire
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {"site-6"})
    assert [error.sender for error in outcome.rejected] == [VICTIM]


def test_m8_a_lost_client_that_shared_another_key_than_it_showed_is_named() -> None:
    """Its neighbours masked with the key that it showed; the one that they recover takes nothing off."""
    federation = Federation("secaggplus", clients=7)
    sessions = federation.keep_sessions()
    spec = federation.spec()
    losses = Losses({VICTIM: STAGES.index("vector")})

    def wire(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.sender == VICTIM and step_of(letter) == steps.ADVERTISE:
            shown = X25519PrivateKey.generate()
            seal, chain = sessions[VICTIM]._seal_key, sessions[VICTIM]._chain  # type: ignore[attr-defined]
            advert = Advert.make(
                shown,
                X25519PrivateKey.from_private_bytes(seal),
                commitment(chain),
                spec=spec.digest,
                own=federation.driver.identities[VICTIM],
            )
            letter = replace(letter, frame=federation.forge(VICTIM, SERVER, spec, steps.ADVERTISE, advert.to_bytes()))
        return losses(letter)

    federation.wire = wire
    with pytest.raises(Aborted, match=f"the shares that '{VICTIM}' gave its neighbours do not make up its secret"):
        federation.round(spec=spec)
