"""Attacks on CKKS aggregation: C1, C3, C4, C5, C8 and T9 of the list of cases, at the server and the key holder."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest

from he.bfv.keys import generate_bfv
from he.bfv.parameters import COMPACT as BFV
from he.ckks.flooded.cipher import CoefficientSum, RingSecretKey, generate_pair
from he.ckks.flooded.rings import NARROW, ROOMY
from he.ckks.flooded.wire import pack_sum
from he.ckks.slots.encryption import SeededEncryptor
from he.ckks.slots.keys import SecretKey
from he.ckks.slots.keys import generate as slots
from he.ckks.slots.parameters import COMPACT, WIDE
from he.key_setup import HOLDER, KEY_ID, PUBLIC_KEY, SECRET_KEY, HolderSetup
from he.rounds import RESULT, SUM, UPLOAD, UPLOAD_PARTS
from he.scheme import SecretKey as SchemeSecret
from secagg import record
from secagg.driver import Driver, Letter
from secagg.errors import Aborted, Refused, Rejected
from secagg.frames import HEADER_BYTES
from secagg.identity import SERVER
from secagg.registry import build
from secagg.vectors import Layout
from tests.adversary.federation import Federation, is_vector, step_of

SHARED = {"key_mode": "shared", "acknowledge_shared_key": True}


def secret_key_bytes(federation: Federation, party: str) -> bytes:
    """What a key-holding party keeps from set-up."""
    key: bytes = record.decode(federation.driver._setup[party])["role"]["key"]
    return key


@pytest.mark.parametrize("name", ["ckks", "ckks shared key"])
def test_c1_no_byte_of_a_secret_key_goes_to_the_server(name: str) -> None:
    """Every frame of set-up and round is searched for every 16-byte piece of the secret key."""
    frames: list[Letter] = []

    class Watched(Federation):
        def _on_the_wire(self, letter: Letter) -> Iterable[Letter]:
            frames.append(letter)
            return super()._on_the_wire(letter)

    federation = Watched(name)
    federation.check(federation.round())
    key = secret_key_bytes(federation, HOLDER if name == "ckks" else "site-0")
    # It is one.
    if name == "ckks":
        RingSecretKey.load_for_client(key, ROOMY)
    else:
        SecretKey.load_for_client(key, COMPACT)
    pieces = {key[start : start + 16] for start in range(0, len(key) - 16, 16)}
    for letter in frames:
        content = bytes(letter.frame)
        windows = {content[start : start + 16] for start in range(len(content) - 15)}
        assert not pieces & windows, f"{letter.sender} sends key bytes to {letter.to}"


def test_c1_a_server_refuses_a_key_message_that_carries_more_than_a_public_key() -> None:
    """A holder that appends its secret key to the public one is turned away, unread, by exact length."""
    secret, public = generate_pair(ROOMY)
    federation = Federation("ckks")
    driver = Driver(federation.backend, federation.names)
    spec = driver.spec(0, layout=federation.layout, encoding=federation.encoding, task="0" * 64, phase="setup")
    federation.driver = driver
    for receiver in (SERVER, "site-1"):
        session = federation.backend.session(spec, driver.party(receiver))
        body = public.to_bytes() + secret.local().for_state()
        with pytest.raises(Rejected, match="at most"):
            session.receive(HOLDER, federation.forge(HOLDER, receiver, spec, PUBLIC_KEY, body))
        with pytest.raises(Rejected, match="not a public key"):
            session.receive(HOLDER, federation.forge(HOLDER, receiver, spec, PUBLIC_KEY, secret.local().for_state()))
        list(session.receive(HOLDER, federation.forge(HOLDER, receiver, spec, PUBLIC_KEY, public.to_bytes())))
        assert session.agreed


@pytest.mark.parametrize(
    "generate", [lambda: generate_pair(ROOMY)[0], lambda: generate_bfv(BFV)[0], lambda: slots(COMPACT)]
)
def test_c1_a_secret_key_fits_no_message(generate: Callable[[], SchemeSecret]) -> None:
    """Its one way out is no bytes: what sends does not take it, at whatever step, and it has no buffer."""
    federation = Federation("ckks")
    driver = Driver(federation.backend, federation.names)
    spec = driver.spec(0, layout=federation.layout, encoding=federation.encoding, task="0" * 64, phase="setup")
    holder = federation.backend.session(spec, driver.party(HOLDER))
    assert isinstance(holder, HolderSetup)
    key = generate().local()
    for body in ([key], [b"", key], [memoryview(b""), key]):
        with pytest.raises(TypeError):
            holder.send(SERVER, PUBLIC_KEY, *body)  # type: ignore[arg-type]
    for take in (bytes, memoryview, pickle.dumps, copy.copy):
        with pytest.raises(TypeError):
            take(key)
    assert "not shown" in repr(key)


def test_c1_the_shared_key_is_sealed_to_clients_only() -> None:
    federation = Federation("ckks shared key")
    driver = Driver(federation.backend, federation.names)
    steps: list[tuple[str, int]] = []

    def watch(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame":
            steps.append((letter.to, step_of(letter)))
        return (letter,)

    driver.intercept = watch
    driver.set_up(layout=federation.layout, encoding=federation.encoding)
    assert sorted(steps) == [(SERVER, KEY_ID), *((name, SECRET_KEY) for name in federation.names[1:])]


@pytest.mark.parametrize("name", ["ckks", "ckks shared key"])
def test_c3_a_ciphertext_of_other_parameters_is_rejected(name: str) -> None:
    federation = Federation(name)
    spec = federation.spec()
    length = spec.encoding.length(257)
    foreign = bytes(
        build("ckks", {"preset": NARROW.name}).backend.scheme.fresh_bytes(length)
        if name == "ckks"
        else WIDE.fresh_bytes(length, "symmetric")
    )

    def swap(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == "site-2":
            yield replace(letter, frame=federation.forge("site-2", SERVER, spec, UPLOAD, foreign))
        else:
            yield letter

    federation.wire = swap
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {"site-2"})
    assert [error.sender for error in outcome.rejected] == ["site-2"]


def test_c7_records_of_another_preset_are_rejected_by_their_length() -> None:
    """Nothing on the wire says a scale or a level. Real records of the other preset are too short."""
    federation = Federation("ckks shared key", preset=WIDE.name)
    spec = federation.spec()
    foreign = b"".join(SeededEncryptor(slots(COMPACT)).encrypt(np.arange(spec.encoding.length(257), dtype=np.int32)))

    def swap(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == "site-2":
            return (replace(letter, frame=federation.forge("site-2", SERVER, spec, UPLOAD, foreign)),)
        return (letter,)

    federation.wire = swap
    outcome = federation.round(spec=spec)
    assert [error.sender for error in outcome.rejected] == ["site-2"]
    assert "expected exactly" in str(outcome.rejected[0])
    federation.check(outcome, set(federation.names) - {"site-2"})


def test_c3_a_party_with_other_keys_than_the_spec_names_refuses() -> None:
    one, other = Federation("ckks"), Federation("ckks")
    spec = one.spec()
    for party in (SERVER, HOLDER, "site-0"):
        with pytest.raises(Refused, match="other keys than this party set up"):
            one.backend.session(spec, one.driver.party(party), setup=other.driver._setup[party])
        with pytest.raises(Refused, match="has not been through set-up"):
            one.backend.session(spec, one.driver.party(party))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda body: bytes(len(body)), "transparent|zero"),
        (lambda body: b"\xff" * len(body), "not below|modul|residue"),
        (lambda body: body[:-1], "bytes"),
        (lambda body: body + b"\0", "at most"),
    ],
)
def test_c4_c5_a_signed_but_malformed_ciphertext_is_rejected(damage, why: str) -> None:  # type: ignore[no-untyped-def]
    federation = Federation("ckks")
    spec = federation.spec()

    def insider(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == "site-2":
            body = damage(bytes(letter.frame[HEADER_BYTES:]))
            yield replace(letter, frame=federation.forge("site-2", SERVER, spec, UPLOAD, body))
        else:
            yield letter

    federation.wire = insider
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {"site-2"})
    (error,) = outcome.rejected
    assert error.sender == "site-2"


class HolderUnderAttack:
    """A key holder, and a server that has all its own keys and may send what it likes."""

    def __init__(self) -> None:
        self.federation = Federation("ckks")
        self.sessions = self.federation.keep_sessions()
        self.spec = self.federation.spec()
        self.sum = b""
        self.results: list[Letter] = []
        self.watch: Callable[[Letter], None] = lambda letter: None

    def run(self, change) -> None:  # type: ignore[no-untyped-def]
        def attack(letter: Letter) -> Iterable[Letter]:
            self.watch(letter)
            if letter.kind == "frame" and letter.to == HOLDER and step_of(letter) == SUM:
                self.sum = bytes(letter.frame[HEADER_BYTES:])
                body = change(self.sum)
                yield replace(letter, frame=self.federation.forge(SERVER, HOLDER, self.spec, SUM, body))
            else:
                if letter.kind == "frame" and step_of(letter) == RESULT:
                    self.results.append(letter)
                yield letter

        self.federation.wire = attack
        self.federation.round(spec=self.spec)

    def parts(self, body: bytes) -> tuple[list[bytes], bytes]:
        count = UPLOAD_PARTS.unpack_from(body)[0]
        start = UPLOAD_PARTS.size
        headers = [body[start + n * HEADER_BYTES :][:HEADER_BYTES] for n in range(count)]
        return headers, body[start + count * HEADER_BYTES :]

    def join(self, headers: list[bytes], ciphertexts: bytes) -> bytes:
        return b"".join([UPLOAD_PARTS.pack(len(headers)), *headers, ciphertexts])


def test_t9_the_holder_opens_nothing_for_fewer_signatures_than_the_minimum() -> None:
    attack = HolderUnderAttack()
    with pytest.raises(Aborted, match="holder: 2 clients contributed, the minimum cohort is 3; nothing was revealed"):
        attack.run(lambda body: attack.join(attack.parts(body)[0][:2], attack.parts(body)[1]))
    assert not attack.results


@pytest.mark.parametrize(
    "trick", ["one client three times", "one client twice", "another round's headers", "unsigned", "a stranger"]
)
def test_the_holder_counts_only_signatures_of_this_round(trick: str) -> None:
    attack = HolderUnderAttack()
    federation = attack.federation
    earlier = attack.parts
    old: list[bytes] = []
    if trick == "another round's headers":

        def remember(letter: Letter) -> Iterable[Letter]:
            if letter.kind == "frame" and letter.to == HOLDER:
                old.extend(earlier(bytes(letter.frame[HEADER_BYTES:]))[0])
            return (letter,)

        federation.wire = remember
        federation.round(7)

    def change(body: bytes) -> bytes:
        headers, ciphertexts = attack.parts(body)
        if trick == "one client three times":
            headers = headers[:1] * 3
        elif trick == "one client twice":
            headers = [*headers[:4], headers[0]]
        elif trick == "another round's headers":
            headers = old
        elif trick == "unsigned":
            headers = [header[:-64] + bytes(64) for header in headers]
        else:
            forged = federation.forge(SERVER, SERVER, attack.spec, UPLOAD, b"")[:HEADER_BYTES]
            headers = [*headers[:2], forged]
        return attack.join(headers, ciphertexts)

    with pytest.raises(Aborted, match="'holder' is silent"):
        attack.run(change)
    assert not attack.results


def test_c5_a_probe_in_place_of_the_sum_reveals_nothing_and_ends_the_round() -> None:
    """(0, Delta) would decrypt to the secret key. The holder makes one attempt in a round, whatever comes of it."""
    attack = HolderUnderAttack()

    def probe(body: bytes) -> bytes:
        headers, ciphertexts = attack.parts(body)
        probe = np.zeros((2, 2, ROOMY.degree), np.uint64)
        probe[1, :, 0] = [1, ROOMY.delta % ROOMY.primes[1]]  # Delta modulo p would be 0: transparent
        record = pack_sum(probe, ROOMY)
        return attack.join(headers, record * (len(ciphertexts) // len(record)))

    with pytest.raises(Aborted, match="honest ciphertexts; nothing was revealed"):
        attack.run(probe)
    assert not attack.results
    honest = attack.federation.forge(SERVER, HOLDER, attack.spec, SUM, attack.sum)
    with pytest.raises(Aborted, match="nothing was revealed"):
        attack.sessions[HOLDER].receive(SERVER, honest)


def test_c6_a_sum_is_opened_once_and_its_reply_stored() -> None:
    attack = HolderUnderAttack()
    attack.run(lambda body: body)
    again = attack.federation.forge(SERVER, HOLDER, attack.spec, SUM, attack.sum)
    (stored,) = attack.sessions[HOLDER].receive(SERVER, again)
    assert stored.frame == bytes(attack.results[0].frame)
    changed = attack.sum[:-1] + bytes([attack.sum[-1] ^ 1])  # a byte put in its place would be the same by chance
    other = attack.federation.forge(SERVER, HOLDER, attack.spec, SUM, changed)
    with pytest.raises(Rejected, match="equivocation"):
        attack.sessions[HOLDER].receive(SERVER, other)


def test_c8_a_shared_key_must_be_acknowledged() -> None:
    with pytest.raises(Refused, match="the server and any one client together read every update; set acknowledge"):
        build("ckks", {"key_mode": "shared"})


def test_c8_with_a_shared_key_one_client_and_the_server_open_another_client() -> None:
    """What the acknowledgement is about, carried out: site-4's key opens site-1's ciphertext."""
    from he.ckks.slots.decryption import Decryptor
    from he.sums import SeededSum

    federation = Federation("ckks shared key")
    seen: list[bytes] = []

    def server_sees(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == "site-1":
            seen.append(bytes(letter.frame[HEADER_BYTES:]))
        return (letter,)

    federation.wire = server_sees
    federation.round()
    length = federation.encoding.length(257)
    alone = SeededSum(COMPACT, length)
    alone.fold(seen[0])
    colluder = SecretKey.load_for_client(secret_key_bytes(federation, "site-4"), COMPACT)
    opened = Decryptor(colluder).decrypt(alone.to_bytes(), length=length, clients=1)
    expected = federation.encoding.encode(federation.vectors["site-1"], federation.weights["site-1"]).integers
    np.testing.assert_array_equal(opened, expected)


def test_a_ring_of_64_bits_does_not_fit_a_slot() -> None:
    federation = Federation("ckks")
    with pytest.raises(Refused, match="a slot holds 32 bits"):
        federation.spec(encoding=federation.encoding.model_copy(update={"modulus_bits": 64}))


def test_more_clients_than_the_noise_leaves_room_for_are_refused_with_the_preset_that_would_do() -> None:
    backend = build("ckks", {"preset": "n4096-q88"}).backend
    federation = Federation("ckks")
    driver = Driver(backend, [f"site-{number}" for number in range(200)])
    encoding = federation.encoding.model_copy(update={"clients": 200, "fraction_bits": 8})
    fields = {"encoding": encoding, "task": "0" * 64, "phase": "setup"}
    few = Driver(backend, federation.names)
    assert few.spec(0, layout=Layout.flat(1_000_000), **fields | {"encoding": federation.encoding})
    with pytest.raises(Refused, match=r"no room for the noise .* n8192-q96 would do"):
        driver.spec(0, layout=Layout.flat(1_000_000), **fields)


def test_c6_a_preset_without_room_for_flooding_is_refused_with_a_holder() -> None:
    for name in ("n4096-q56", "n4096-q60"):
        with pytest.raises(Refused, match="no room for flooding"):
            build("ckks", {"preset": name})
    with pytest.raises(Refused, match="flooding_bits"):
        build("ckks", {"flooding_bits": 39})


def test_c6_a_round_over_the_query_budget_is_refused_by_name() -> None:
    federation = Federation("ckks")
    budget = federation.backend.parameters["query_budget"]
    federation.check(federation.round(budget))
    with pytest.raises(Refused, match=f"round {budget + 1} is over the query budget of {budget} rounds"):
        federation.spec(budget + 1)
    # A server that skips its own check meets the holder's.
    driver = federation.driver
    late = federation.spec().model_copy(update={"round": budget + 1})
    with pytest.raises(Refused, match="over the query budget"):
        federation.backend.session(late, driver.party(HOLDER), setup=driver._setup[HOLDER])


def test_c5_a_passive_holder_opens_one_clients_ciphertext_behind_everybodys_headers() -> None:
    """What this mode does *not* withstand, carried out: the record says so in its limitations."""
    attack = HolderUnderAttack()
    federation = attack.federation
    victim: list[bytes] = []

    def one_client(body: bytes) -> bytes:
        alone = CoefficientSum(ROOMY, federation.encoding.length(257))
        alone.fold(victim[0])
        return attack.join(attack.parts(body)[0], alone.to_bytes())

    def take(letter: Letter) -> None:
        if is_vector(letter) and letter.sender == "site-1":
            victim.append(bytes(letter.frame[HEADER_BYTES:]))

    attack.watch = take
    attack.run(one_client)
    opened = np.frombuffer(attack.results[0].frame[HEADER_BYTES:], np.int32)
    expected = federation.encoding.encode(federation.vectors["site-1"], federation.weights["site-1"]).integers
    np.testing.assert_array_equal(opened, expected)
    assert any("reads that client" in text for text in federation.backend.guarantees.limitations)
