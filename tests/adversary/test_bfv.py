"""Attacks on BFV aggregation: C1, C5, C8 and the honest limit of a passive key holder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from he.bfv.keys import BfvSecretKey, generate_bfv
from he.bfv.parameters import COMPACT
from he.key_setup import HOLDER
from he.rounds import SUM, UPLOAD, UPLOAD_PARTS
from secagg import record
from secagg.driver import Driver, Letter
from secagg.errors import Refused
from secagg.fixedpoint import FixedPoint
from secagg.frames import HEADER_BYTES
from secagg.identity import SERVER
from secagg.registry import build
from tests.adversary.federation import Federation, is_vector, step_of


@pytest.mark.parametrize("name", ["bfv", "bfv shared key"])
def test_c1_no_byte_of_a_secret_key_is_in_a_frame_that_the_server_sees(name: str) -> None:
    """Every frame of set-up and round, searched for every 16-byte piece of the secret key."""
    frames: list[Letter] = []

    class Watched(Federation):
        def _on_the_wire(self, letter: Letter) -> Iterable[Letter]:
            frames.append(letter)
            return super()._on_the_wire(letter)

    federation = Watched(name)
    federation.check(federation.round())
    party = HOLDER if name == "bfv" else "site-0"
    key: bytes = record.decode(federation.driver._setup[party])["role"]["key"]
    BfvSecretKey.load_for_client(key, COMPACT)  # it is one
    pieces = [key[start : start + 16] for start in range(0, len(key), 16)]
    assert frames
    for letter in frames:
        content = bytes(letter.frame)
        assert not any(piece in content for piece in pieces), f"{letter.sender} sends key bytes to {letter.to}"


@pytest.mark.parametrize("name", ["bfv", "bfv shared key"])
@pytest.mark.parametrize("size_change", [-1, 1, 15, -64])
def test_c4_a_ciphertext_of_another_length_costs_one_client(name: str, size_change: int) -> None:
    federation = Federation(name)
    spec = federation.spec()

    def swap(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == "site-2":
            body = bytes(letter.frame[HEADER_BYTES:])
            body = body[:size_change] if size_change < 0 else body + bytes(size_change)
            yield replace(letter, frame=federation.forge("site-2", SERVER, spec, UPLOAD, body))
        else:
            yield letter

    federation.wire = swap
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {"site-2"})
    assert [error.sender for error in outcome.rejected] == ["site-2"]


def test_c8_a_shared_key_must_be_acknowledged() -> None:
    with pytest.raises(Refused, match="backend 'bfv': key_mode 'shared' gives every client the secret key"):
        build("bfv", {"key_mode": "shared"})


def test_a_passive_holder_opens_one_client_for_a_server_that_lies_as_the_guarantees_say() -> None:
    """The limit, carried out: all signed headers, and in place of the sum one client's ciphertext."""
    federation = Federation("bfv")
    spec = federation.spec()
    single: list[bytes] = []

    def lie(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == "site-1":
            single.append(bytes(letter.frame[HEADER_BYTES:]))
        if letter.kind == "frame" and letter.to == HOLDER and step_of(letter) == SUM:
            body = bytes(letter.frame[HEADER_BYTES:])
            count = UPLOAD_PARTS.unpack_from(body)[0]
            body = body[: UPLOAD_PARTS.size + count * HEADER_BYTES] + single[0]
            yield replace(letter, frame=federation.forge(SERVER, HOLDER, spec, SUM, body))
        else:
            yield letter

    federation.wire = lie
    outcome = federation.round(spec=spec)
    stolen = federation.encoding.encode(federation.vectors["site-1"], federation.weights["site-1"]).integers
    np.testing.assert_array_equal(outcome.result.totals, stolen[:-1])
    assert any("one client's ciphertext" in text for text in federation.backend.guarantees.limitations)


def test_an_encoding_that_needs_more_bits_is_refused_with_the_preset_that_would_do() -> None:
    federation = Federation("bfv")
    wide = FixedPoint.fit(clients=5, value_bound=1.0, max_weight=20)
    with pytest.raises(Refused, match=r"holds sums of 24 bits, 32 needed \(n8192-3x32 would do\)"):
        federation.spec(encoding=wide)


def test_more_clients_than_never_fail_are_refused() -> None:
    federation = Federation("bfv")
    driver = Driver(federation.backend, [f"site-{number}" for number in range(2048)])
    encoding = FixedPoint.fit(clients=2048, value_bound=1.0, sum_bits=24)
    with pytest.raises(Refused, match="adds up to 2047 clients without decryption failures in public mode, 2048 asked"):
        driver.spec(0, layout=federation.layout, encoding=encoding, task="0" * 64, phase="setup")


def test_a_sum_under_another_key_than_the_spec_names_is_refused() -> None:
    federation, (secret, _) = Federation("bfv"), generate_bfv(COMPACT)
    spec = federation.spec()
    fields = record.decode(federation.driver._setup[HOLDER])
    fields["role"] = {"key": secret.local().for_state(), "agreed": bytes(32)}
    with pytest.raises(Refused, match="bfv: the round is for other keys than this party set up"):
        federation.backend.session(spec, federation.driver.party(HOLDER), setup=record.encode(fields))
