"""An active server and colluding clients against `verified`, and the same attacks against the passive mode: C5, T9."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from he.key_setup import HOLDER
from he.residues import Malformed
from he.rounds import RESULT, SUM, UPLOAD, UPLOAD_PARTS, evidence_bytes
from he.scheme import Encryptor
from secagg import record
from secagg.driver import Letter
from secagg.errors import Aborted, Refused, Rejected
from secagg.fixedpoint import Integers
from secagg.frames import HEADER_BYTES, Header
from secagg.identity import SERVER
from secagg.registry import build
from secagg.sealing import ENVELOPE_OVERHEAD
from tests.adversary.federation import Federation, is_vector, step_of
from tests.adversary.key_theft import SIZE, KeyThief

PASSIVE = ("ckks", "bfv")
VERIFIED = ("ckks verified", "bfv verified")
VICTIM, COLLUDER = "site-1", "site-4"


def body_of(letter: Letter) -> bytes:
    return bytes(letter.frame[HEADER_BYTES:])


def integers_of(federation: Federation, name: str) -> Integers:
    return federation.encoding.encode(federation.vectors[name], federation.weights[name]).integers


def secret_key(federation: Federation) -> list[int]:
    """The holder's key as its coefficients: what a thief's must equal."""
    scheme = federation.backend.scheme  # type: ignore[attr-defined]
    exported = record.decode(federation.driver._setup[HOLDER])["role"]["key"]
    if scheme.label == "bfv":
        octets = np.frombuffer(exported, np.uint8)[:, None]
        return [int(s) - 1 for s in (octets >> np.array([0, 2, 4, 6], np.uint8) & 3).reshape(-1)]
    from he.ckks.flooded.cipher import RingSecretKey

    secret = RingSecretKey.load_for_client(exported, scheme.parameters)
    one = np.zeros((2, 2, scheme.parameters.degree), np.uint64)
    one[:, :, 0] = 1
    (words, _), prime = secret.times(one)[0], scheme.parameters.primes[0]
    return [int(s) - prime if s > prime // 2 else int(s) for s in words]


class Recorder:
    """A server that keeps what it relays, and may put its own letters in."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.spec = federation.spec()
        self.uploads: dict[str, bytes] = {}
        self.results: list[Letter] = []
        self.change: Callable[[Letter], Iterable[Letter]] = lambda letter: (letter,)
        federation.wire = self

    def __call__(self, letter: Letter) -> Iterable[Letter]:
        if is_vector(letter):
            self.uploads[letter.sender] = bytes(letter.frame)
        if letter.kind == "frame" and step_of(letter) == RESULT:
            self.results.append(letter)
        return self.change(letter)


# The passive mode: what `verified` is for.


@pytest.mark.parametrize("name", PASSIVE)
def test_c5_passive_a_probe_in_place_of_the_sum_gives_the_server_the_key_and_every_update(name: str) -> None:
    federation = Federation(name, size=SIZE)
    server, thief = Recorder(federation), KeyThief(federation)

    def probe(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.to == HOLDER:
            body = body_of(letter)
            start = evidence_bytes(UPLOAD_PARTS.unpack_from(body)[0])
            body = body[:start] + thief.probe(body[start:])
            letter = replace(letter, frame=federation.forge(SERVER, HOLDER, server.spec, SUM, body))
        return (letter,)

    server.change = probe
    key = thief.key(federation.round(spec=server.spec).result.totals)
    assert key == secret_key(federation)
    for victim in (VICTIM, "site-3"):
        opened = thief.open(server.uploads[victim][HEADER_BYTES:], key)
        assert opened == integers_of(federation, victim)[: len(opened)].tolist()


@pytest.mark.parametrize("name", PASSIVE)
def test_c5_passive_a_colluder_can_have_another_client_counted_twice(name: str) -> None:
    federation = Federation(name)
    server = Recorder(federation)

    def copy(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == COLLUDER:
            body = server.uploads[VICTIM][HEADER_BYTES:]
            letter = replace(letter, frame=federation.forge(COLLUDER, SERVER, server.spec, UPLOAD, body))
        return (letter,)

    server.change = copy
    totals = federation.round(spec=server.spec).result.totals
    counted = ["site-0", VICTIM, VICTIM, "site-2", "site-3"]
    np.testing.assert_array_equal(totals, sum(integers_of(federation, who)[:-1] for who in counted))


# The same, and more, against `verified`.


@pytest.mark.parametrize("name", VERIFIED)
@pytest.mark.parametrize("content", ["a probe", "one client's upload"])
@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_c5_a_sum_that_the_server_sends_is_rejected(name: str, content: str, moment: str) -> None:
    """With the signed headers that it has relayed, at any moment of the round: there is no such step."""
    federation = Federation(name)
    server = Recorder(federation)
    sent = 0

    def submit(letter: Letter) -> Iterable[Letter]:
        nonlocal sent
        first, last = federation.names[0], federation.names[-1]
        now = is_vector(letter) and letter.sender == {"before": first, "between": VICTIM, "after": last}[moment]
        scheme = federation.backend.scheme  # type: ignore[attr-defined]
        body = UPLOAD_PARTS.pack(len(server.uploads))
        body += b"".join(frame[:HEADER_BYTES] for frame in server.uploads.values())
        if content == "a probe":
            body += bytes(range(256)) * (scheme.sum_bytes(federation.encoding.length(257)) // 256)
        else:
            body += next(iter(server.uploads.values()), b"")[HEADER_BYTES:]
        frames = [federation.forge(SERVER, HOLDER, server.spec, step, body) for step in (SUM, UPLOAD, RESULT)]
        forged = [Letter(SERVER, HOLDER, frame) for frame in frames] if now else []
        sent += len(forged)
        return [letter, *forged] if moment == "after" else [*forged, letter]

    server.change = submit
    outcome = federation.round(spec=server.spec)
    federation.check(outcome)
    assert sent == len(outcome.rejected) == 3
    assert {error.sender for error in outcome.rejected} == {SERVER}
    assert len(server.results) == 1


@pytest.mark.parametrize("name", VERIFIED)
def test_c5_a_client_replayed_under_another_name_is_rejected(name: str) -> None:
    """As it is; with a header that the colluder signs; and by the server, in the name of a client without its key."""
    federation = Federation(name)
    server = Recorder(federation)

    def replay(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == COLLUDER:
            stolen = server.uploads[VICTIM]
            yield replace(letter, frame=stolen)
            yield replace(letter, frame=federation.forge(SERVER, HOLDER, server.spec, UPLOAD, stolen[HEADER_BYTES:]))
            signed = federation.forge(COLLUDER, HOLDER, server.spec, UPLOAD, stolen[HEADER_BYTES:])
            yield replace(letter, frame=signed)
        else:
            yield letter

    server.change = replay
    outcome = federation.round(spec=server.spec)
    federation.check(outcome, set(federation.names) - {COLLUDER})
    assert [(error.sender, error.why) for error in outcome.rejected] == [
        (COLLUDER, "the frame names another sender"),
        (COLLUDER, "the frame names another sender"),
        (COLLUDER, "ciphertext: envelope does not open: altered, or sealed to another key or context"),
    ]


@pytest.mark.parametrize("name", VERIFIED)
def test_c5_a_client_that_uploads_in_two_parts_is_counted_once(name: str) -> None:
    """The same ciphertexts once more, sealed and signed anew as another part of the step."""
    federation = Federation(name)
    server = Recorder(federation)

    def twice(letter: Letter) -> Iterable[Letter]:
        yield letter
        if is_vector(letter) and letter.sender == VICTIM:
            header = replace(Header.from_bytes(letter.frame), part=1)
            signature = federation.driver.identities[VICTIM].sign(header.signed_bytes())
            yield replace(letter, frame=header.sign_with(signature).to_bytes() + body_of(letter))

    server.change = twice
    outcome = federation.round(spec=server.spec)
    federation.check(outcome)
    (error,) = outcome.rejected
    assert (error.sender, error.why) == (VICTIM, "no message of step 4 is expected from it")


@pytest.mark.parametrize("name", VERIFIED)
@pytest.mark.parametrize("what", ["altered", "of another round", "of another spec", "transparent"])
def test_c5_a_sealed_upload_is_for_one_round_and_whole(name: str, what: str) -> None:
    """A client that is careless or worse signs it all the same; it is left out and named."""
    federation = Federation(name)
    server = Recorder(federation)
    federation.round(9)
    earlier = server.uploads[COLLUDER][HEADER_BYTES:]
    other = federation.spec(task="ab" * 32)

    def swap(letter: Letter) -> Iterable[Letter]:
        if not is_vector(letter) or letter.sender != COLLUDER:
            return (letter,)
        body = body_of(letter)
        if what == "altered":
            body = body[:5000] + bytes([body[5000] ^ 1]) + body[5001:]
        elif what == "of another round":
            body = earlier
        elif what == "of another spec":
            return (replace(letter, frame=federation.seal_upload(COLLUDER, other, body[ENVELOPE_OVERHEAD:])),)
        else:
            ciphertexts = bytes(len(body) - ENVELOPE_OVERHEAD)
            return (replace(letter, frame=federation.seal_upload(COLLUDER, server.spec, ciphertexts)),)
        return (replace(letter, frame=federation.forge(COLLUDER, HOLDER, server.spec, UPLOAD, body)),)

    server.change = swap
    outcome = federation.round(spec=server.spec)
    federation.check(outcome, set(federation.names) - {COLLUDER})
    assert [error.sender for error in outcome.rejected] == [COLLUDER]


@pytest.mark.parametrize("name", VERIFIED)
def test_c5_a_colluders_crafted_ciphertext_brings_out_a_key_that_opens_nothing(name: str) -> None:
    """The holder cannot tell it from an honest one. But all that the server has to use the key on is sealed."""
    federation = Federation(name, size=SIZE)
    server, thief = Recorder(federation), KeyThief(federation)
    sessions = federation.keep_sessions()
    own: list[bytes] = []

    class Crafting:
        """The colluder's software, changed in this one place."""

        def __init__(self, honest: Encryptor) -> None:
            self.honest = honest

        def encrypt(self, values: Integers) -> Iterable[bytes]:
            own.append(b"".join(self.honest.encrypt(values)))
            yield thief.craft(own[0])

    def collude(letter: Letter) -> Iterable[Letter]:
        yield letter
        if letter.kind == "proposal" and letter.to == COLLUDER:
            session: Any = sessions[COLLUDER]
            session._encryptor = Crafting(session._encryptor)

    server.change = collude
    key = thief.key(federation.round(spec=server.spec).result.totals)
    assert key == secret_key(federation)
    expected = integers_of(federation, COLLUDER)[:8].tolist()
    assert thief.open(own[0], key) == expected  # a ciphertext, if it had one, would open
    for name, frame in server.uploads.items():
        sealed = frame[HEADER_BYTES:]
        try:
            opened = thief.open(sealed[32 : len(sealed) - ENVELOPE_OVERHEAD + 32], key)
        except Malformed:
            continue
        assert opened != integers_of(federation, name)[:8].tolist()


@pytest.mark.parametrize("name", VERIFIED)
@pytest.mark.parametrize("left", [2, 1, 0])
def test_t9_the_holder_opens_nothing_for_fewer_clients_than_the_minimum(name: str, left: int) -> None:
    """The server loses the others' uploads and declares them absent."""
    federation = Federation(name)
    server = Recorder(federation)
    server.change = lambda letter: [] if is_vector(letter) and letter.sender in federation.names[left:] else [letter]
    with pytest.raises(Aborted, match=f"holder: {left} clients contributed, the minimum cohort is 3; nothing was rev"):
        federation.round(spec=server.spec)
    assert not server.results


@pytest.mark.parametrize("name", VERIFIED)
def test_c5_nothing_is_added_after_the_holder_has_opened_its_sum(name: str) -> None:
    """An upload that the server held back and declared absent; and again, those that were counted."""
    federation = Federation(name)
    server = Recorder(federation)
    sessions = federation.keep_sessions()
    server.change = lambda letter: [] if is_vector(letter) and letter.sender == VICTIM else [letter]
    outcome = federation.round(spec=server.spec)
    federation.check(outcome, set(federation.names) - {VICTIM})
    with pytest.raises(Rejected, match="step 4 is closed; too late"):
        sessions[HOLDER].receive(VICTIM, server.uploads[VICTIM])
    for name in set(federation.names) - {VICTIM}:
        answers = list(sessions[HOLDER].receive(name, server.uploads[name]))
        assert all(answer.frame == server.results[0].frame for answer in answers)


EVIDENCE = ["too few", "counted twice", "unsigned", "a stranger", "another round", "another length", "to the server"]


@pytest.mark.parametrize("name", VERIFIED)
@pytest.mark.parametrize("trick", EVIDENCE)
def test_the_server_takes_no_sum_without_the_signed_headers_of_its_contributions(name: str, trick: str) -> None:
    federation = Federation(name)
    server = Recorder(federation)
    federation.round(9)
    earlier = [frame[:HEADER_BYTES] for frame in server.uploads.values()]

    def change(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.to == SERVER:
            body = body_of(letter)
            start = evidence_bytes(5)
            headers = [body[at : at + HEADER_BYTES] for at in range(UPLOAD_PARTS.size, start, HEADER_BYTES)]
            size = len(server.uploads[VICTIM]) - HEADER_BYTES
            forged = {
                "too few": headers[:2],
                "counted twice": [*headers[:3], headers[2]],
                "unsigned": [*headers[:2], headers[2][:-64] + bytes(64)],
                "a stranger": [*headers[:2], federation.forge(HOLDER, HOLDER, server.spec, UPLOAD, bytes(size))],
                "another round": earlier,
                "another length": [*headers[:2], federation.forge("site-2", HOLDER, server.spec, UPLOAD, bytes(9))],
                "to the server": [*headers[:2], federation.forge("site-2", SERVER, server.spec, UPLOAD, bytes(size))],
            }[trick]
            signed = b"".join(header[:HEADER_BYTES] for header in forged)
            body = UPLOAD_PARTS.pack(len(forged)) + signed + body[start:]
            letter = replace(letter, frame=federation.forge(HOLDER, SERVER, server.spec, RESULT, body))
        return (letter,)

    server.change = change
    with pytest.raises(Aborted, match="'holder' is silent"):
        federation.round(spec=server.spec)


@pytest.mark.parametrize("name", VERIFIED)
def test_a_silent_holder_ends_the_round_by_name(name: str) -> None:
    federation = Federation(name)
    server = Recorder(federation)
    server.change = lambda letter: [] if letter.kind == "frame" and letter.sender == HOLDER else [letter]
    with pytest.raises(Aborted, match="'holder' is silent, and only it can open the sum; nothing was revealed"):
        federation.round(spec=server.spec)


@pytest.mark.parametrize("name", VERIFIED)
def test_the_holder_keeps_one_sum_and_the_server_no_ciphertext(name: str) -> None:
    federation = Federation(name, size=SIZE)
    server = Recorder(federation)
    sessions = federation.keep_sessions()
    held: list[int] = []

    def watch(letter: Letter) -> Iterable[Letter]:
        yield letter
        if is_vector(letter):
            held.append(len(sessions[HOLDER].dump()))

    server.change = watch
    outcome = federation.round(spec=server.spec)
    assert held[3] - held[0] < 3 * 1000  # three headers more
    assert len(sessions[SERVER].dump()) < outcome.result.totals.nbytes + 10_000
    assert set(outcome.evidence) == set(federation.names)


@pytest.mark.parametrize("name", PASSIVE)
def test_verified_needs_a_key_holder(name: str) -> None:
    with pytest.raises(Refused, match=f"backend '{name}': verified = true needs a key holder; set key_mode"):
        build(name, {"verified": True, "key_mode": "shared", "acknowledge_shared_key": True})


@pytest.mark.parametrize("name", PASSIVE)
def test_what_verified_withstands_and_what_it_costs_is_in_the_record(name: str) -> None:
    passive, verified = (build(name, {"verified": on}).backend.guarantees for on in (False, True))
    assert (passive.adversary, verified.adversary) == ("passive", "active")
    assert any("reads that client" in text for text in passive.limitations)
    assert "a curious key holder alone reads every update" in verified.limitations
    assert verified.sees["holder"] != passive.sees["holder"]
    assert (passive.uploads_to, verified.uploads_to) == (SERVER, HOLDER)
