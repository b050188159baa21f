"""Keys of low order, swapped, of another round or spec. M12, T2, T7."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secagg.driver import Letter
from secagg.identity import SERVER, PartyId
from secagg.spec import RoundSpec, task_digest
from smpc.masks import apply_masks
from smpc.secaggplus import steps
from smpc.secaggplus.keys import ADVERT_BYTES, Advert
from tests.adversary.federation import Federation, step_of
from tests.adversary.secaggplus.altering import VICTIM, Altering, Edit, assert_uniform, refusal


def advert_with(federation: Federation, spec: RoundSpec, client: PartyId, **changed: bytes) -> bytes:
    """Keys that `client` signs itself, some of them put in from outside."""
    identity = federation.driver.identities[client]
    mask, sealing = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    keys = {"mask": mask.public_key().public_bytes_raw(), "seal": sealing.public_key().public_bytes_raw()}
    keys["commitment"] = bytes(32)
    data = b"".join((keys | changed).values())
    signature = identity.sign(b"secagg/v1/secaggplus/keys" + spec.digest + identity.public.fingerprint + data)
    return data + signature


LOW_ORDER = [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"]


@pytest.mark.parametrize("which", ["mask", "seal"])
@pytest.mark.parametrize("point", LOW_ORDER)
def test_m12_the_bad_key_of_one_client_does_not_end_the_round_of_the_others(which: str, point: bytes) -> None:
    federation = Federation("secaggplus")
    spec = federation.spec()

    def wire(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.sender == VICTIM and step_of(letter) == steps.ADVERTISE:
            body = advert_with(federation, spec, VICTIM, **{which: point})
            letter = replace(letter, frame=federation.forge(VICTIM, SERVER, spec, steps.ADVERTISE, body))
        return (letter,)

    federation.wire = wire
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {VICTIM})
    assert "a point of low order" in outcome.rejected[0].why


@pytest.mark.parametrize("which", ["mask", "seal"])
def test_m12_a_server_that_passes_a_bad_key_on_is_refused(which: str) -> None:
    federation = Federation("secaggplus")
    spec = federation.spec()
    bad = advert_with(federation, spec, "site-0", **{which: bytes(32)})
    federation.wire = Altering(federation, spec, steps.GRAPH, with_advert_of(federation, "site-0", bad), to=[VICTIM])
    assert "the server passes on a bad key of 'site-0': agreement key: a point of low order" in refusal(
        federation, spec
    )


def with_advert_of(federation: Federation, client: PartyId, advert: bytes) -> Edit:
    """Put these keys in the place of `client`'s in a GRAPH: found by its genuine signature."""
    identity = federation.driver.identities[client].public

    def edit(body: bytes) -> bytes:
        for at in range(len(body) - ADVERT_BYTES, 0, -ADVERT_BYTES):
            if Advert.from_bytes(body[at : at + ADVERT_BYTES]).is_signed_by(identity, spec=federation.spec().digest):
                return body[:at] + advert + body[at + ADVERT_BYTES :]
        raise AssertionError("not a neighbour")

    return edit


@pytest.mark.parametrize("theirs", ["the server's own", "another round's", "another client's"])
def test_t2_keys_that_the_neighbour_did_not_sign_for_this_round_are_refused(theirs: str) -> None:
    federation = Federation("secaggplus")
    spec = federation.spec()
    if theirs == "another round's":
        digest, identity = federation.spec(2).digest, federation.driver.identities["site-0"]
        pair = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        keys = Advert.make(*pair, bytes(32), spec=digest, own=identity).to_bytes()
    else:
        keys = advert_with(federation, spec, "site-3" if theirs == "another client's" else SERVER)
    wire = Altering(federation, spec, steps.GRAPH, with_advert_of(federation, "site-0", keys), to=[VICTIM])
    federation.wire = wire
    assert "shows keys of 'site-0' that it did not sign for this round" in refusal(federation, spec)
    assert VICTIM not in wire.sent(steps.SHARES)


def test_a_client_whose_keys_it_did_not_sign_is_turned_away_by_the_server() -> None:
    """Else its neighbours would have to leave the round."""
    federation = Federation("secaggplus")
    spec = federation.spec()

    def wire(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.sender == VICTIM and step_of(letter) == steps.ADVERTISE:
            body = advert_with(federation, spec, "site-0")
            letter = replace(letter, frame=federation.forge(VICTIM, SERVER, spec, steps.ADVERTISE, body))
        return (letter,)

    federation.wire = wire
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {VICTIM})
    assert "its keys are not signed by it for this round" in outcome.rejected[0].why


def test_t7_masks_of_two_specs_do_not_cancel() -> None:
    """A pair with one secret, under two digests: what one adds, the other does not take off."""
    federation = Federation("secaggplus")
    specs = [federation.spec(), federation.spec(task=task_digest(b"another model", b"settings"))]
    ends: list[Any] = [
        federation.backend.session(spec, federation.driver.party(name))
        for spec, name in zip(specs, ("site-0", "site-1"), strict=True)
    ]
    vector = np.zeros(20_000, np.uint32)
    masks = [end.pair_mask(bytes(32), 0, 1) for end in ends]
    apply_masks(vector, [(masks[0], 1), (masks[1], -1)])
    assert_uniform(vector.view(np.uint8))
    apply_masks(vector, [(masks[1], 1), (masks[0], -1)])
    assert not vector.any()
