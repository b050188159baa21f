"""The interface itself, before any real protocol leans on it: relays, dropouts, layers, restoring in a new process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secagg import record, registry
from secagg.driver import Driver, Letter
from secagg.errors import InvalidUpdate, Refused
from secagg.fixedpoint import FixedPoint
from secagg.identity import SERVER, PartyId
from secagg.protocol import Backend, Party, SecureSum, Send, Session
from secagg.spec import RoundSpec, task_digest
from secagg.vectors import Layout
from tests.toy.relay import SEED, Relay, RelayParameters

NAMES = [f"site-{number}" for number in range(5)]
SIZE = 101
LAYOUT = Layout.flat(SIZE)
ENCODING = FixedPoint.fit(clients=5, value_bound=1.0, max_weight=10)
TASK = task_digest(b"toy")
VECTORS = {
    name: np.random.default_rng(place).uniform(-1, 1, SIZE).astype(np.float32) for place, name in enumerate(NAMES)
}


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the toy backend and the toy layer beside the real ones."""
    extra = {
        "relay": EntryPoint("relay", "tests.toy.relay:Relay", registry.GROUP),
        "halving": EntryPoint("halving", "tests.toy.halving:Halving", registry.GROUP),
    }
    real = dict(registry.available())
    monkeypatch.setattr(registry, "available", lambda: real | extra)


def run(backend: Backend, *, gone: Collection[PartyId] = (), **options: Any) -> SecureSum:
    driver = Driver(backend, NAMES, **options)
    driver.set_up(layout=LAYOUT, encoding=ENCODING)
    spec = driver.spec(1, layout=LAYOUT, encoding=ENCODING, task=TASK)
    return driver.round(spec, lambda name: None if name in gone else (VECTORS[name], NAMES.index(name) + 1)).result


def mean(names: Iterable[PartyId]) -> NDArray[np.float64]:
    weights = {name: NAMES.index(name) + 1 for name in names}
    return sum(VECTORS[n].astype(float) * w for n, w in weights.items()) / sum(weights.values())


@pytest.mark.parametrize("gone", [[], ["site-1"], ["site-0", "site-4"], ["site-2", "site-3"]])
def test_relayed_masks_cancel_and_dropouts_are_recovered(gone: list[PartyId]) -> None:
    result = run(Relay(RelayParameters()), gone=gone)
    left = [name for name in NAMES if name not in gone]
    assert list(result.contributors) == left
    np.testing.assert_allclose(result.mean(), mean(left), atol=1e-6)


def test_a_relayed_letter_that_is_lost_drops_its_reader() -> None:
    """site-3 never gets its seed, so it never contributes; the seeds it shares are recovered."""
    result = run(
        Relay(RelayParameters()),
        intercept=lambda letter: () if letter.to == "site-3" and letter.sender == "site-2" else (letter,),
    )
    assert "site-3" not in result.contributors
    np.testing.assert_allclose(result.mean(), mean(result.contributors), atol=1e-6)


@pytest.mark.parametrize("inner", ["relay", "plain", "smpc"])
def test_a_layer_wraps_any_sum(inner: str) -> None:
    composition = registry.build(f"halving+{inner}", {"times": 2})
    assert composition.guarantees.protection.startswith("halved")
    np.testing.assert_allclose(run(composition.backend).mean(), mean(NAMES), atol=1e-5)


def test_layers_nest_in_the_order_of_the_name() -> None:
    backend = registry.build("halving+halving+plain").backend
    assert backend.name == "halving+halving+plain"
    np.testing.assert_allclose(run(backend).mean(), mean(NAMES), atol=1e-5)


@pytest.mark.parametrize("name", ["plain+halving", "plain+plain", "smpc+plain"])
def test_a_name_in_the_wrong_order_is_refused(name: str) -> None:
    with pytest.raises(Refused, match=r"expected \[training\+\]\[layer\+\]sum"):
        registry.build(name)


class Restoring:
    """Any backend, but every session is thrown away and restored from its dump after every single call."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def session(self, spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        return RestoredSession(lambda stored: self._inner.session(spec, party, setup=setup, state=stored))  # type: ignore[return-value]


class RestoredSession:
    """Lives only as bytes between two calls."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self._stored = make(b"").dump()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(self._stored), name)

    def _call(self, name: str, *arguments: Any) -> list[Send]:
        session = self._make(self._stored)
        sends = list(getattr(session, name)(*arguments))
        self._stored = session.dump()
        return sends

    def start(self) -> list[Send]:
        return self._call("start")

    def receive(self, sender: PartyId, frame: bytes) -> list[Send]:
        return self._call("receive", sender, frame)

    def contribute(self, vector: NDArray[np.float32], weight: int) -> list[Send]:
        return self._call("contribute", vector, weight)

    def close(self, absent: Collection[PartyId]) -> list[Send]:
        return self._call("close", absent)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        *((name, {}) for name in ("relay", "plain", "smpc", "halving+smpc", "secaggplus", "ckks")),
        ("ckks", {"verified": True}),
        ("bfv", {"verified": True, "preset": "n8192-3x32"}),
        ("dp", {"noise_multiplier": 2.0**-38}),
    ],
)
def test_every_session_survives_being_restored_after_every_call(name: str, parameters: dict[str, Any]) -> None:
    composition = registry.build(name, parameters)
    if composition.guarantees.uniform_weights:
        encoding = FixedPoint.fit(clients=5, value_bound=1.0, divisor=5, modulus_bits=64)
        driver = Driver(Restoring(composition.backend), NAMES)  # type: ignore[arg-type]
        spec = driver.spec(1, layout=LAYOUT, encoding=encoding, task=TASK)
        outcome = driver.round(spec, lambda who: (VECTORS[who] / 100, 1))
        expected = sum(vector.astype(float) for vector in VECTORS.values()) / 500
        np.testing.assert_allclose(outcome.result.mean(), expected, atol=1e-6)
        return
    result = run(Restoring(composition.backend), gone=["site-1"])  # type: ignore[arg-type]
    left = [who for who in NAMES if who != "site-1"]
    np.testing.assert_allclose(result.mean(), mean(left), atol=1e-5)


def in_a_new_process(driver: Driver, spec: RoundSpec, party: PartyId, state: bytes, **call: Any) -> Mapping[str, Any]:
    identity = driver.identities[party]
    fields = {
        "spec": spec.to_bytes(),
        "party": party,
        "signing": identity.signing_key.private_bytes_raw(),
        "agreement": identity.agreement_key.private_bytes_raw(),
        "directory": driver.directory.to_bytes(),
        "setup": b"",
        "state": state,
        "frame": b"",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.toy.resume"],
        input=record.encode(fields | call),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return record.decode(done.stdout)


def test_a_session_is_restored_in_a_new_process() -> None:
    """site-0 gets its last message before the upload, and then uploads, in two processes that live for one call."""
    backend = Relay(RelayParameters())
    letters: list[Letter] = []

    def record_letters(letter: Letter) -> Iterable[Letter]:
        letters.append(letter)
        return () if letter.sender == "site-4" and letter.to == "site-0" else (letter,)

    driver = Driver(backend, NAMES, intercept=record_letters)
    spec = driver.spec(1, layout=LAYOUT, encoding=ENCODING, task=TASK)
    kept: dict[str, Session] = {}
    make = backend.session

    def keep(spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        kept[party.name] = make(spec, party, setup=setup, state=state)
        return kept[party.name]

    backend.session = keep  # type: ignore[method-assign]
    driver.round(spec, lambda name: (VECTORS[name], 1))
    seed = next(letter for letter in letters if (letter.sender, letter.to) == ("site-4", "site-0"))

    given = in_a_new_process(driver, spec, "site-0", kept["site-0"].dump(), sender="site-4", frame=bytes(seed.frame))
    uploaded = in_a_new_process(driver, spec, "site-0", given["state"], vector=VECTORS["site-0"], weight=3)
    assert [to for to, _ in uploaded["sends"]] == [SERVER]

    # The same messages to the session that stayed in this process give the same upload, but for its nonce and tag.
    list(kept["site-0"].receive("site-4", seed.frame))
    here = next(iter(kept["site-0"].contribute(VECTORS["site-0"], 3)))
    assert uploaded["sends"][0][1][204:] == here.frame[204:]
    assert SEED == 3


def test_a_stored_session_of_another_round_is_refused() -> None:
    backend = registry.build("plain").backend
    driver = Driver(backend, NAMES)
    first, second = (driver.spec(number, layout=LAYOUT, encoding=ENCODING, task=TASK) for number in (1, 2))
    state = backend.session(first, driver.party("site-0")).dump()
    with pytest.raises(Refused, match="another round or another party"):
        backend.session(second, driver.party("site-0"), state=state)
    with pytest.raises(Refused, match="another round or another party"):
        backend.session(first, driver.party("site-1"), state=state)
    with pytest.raises(Refused, match="stored session"):
        backend.session(first, driver.party("site-0"), state=state[:-1])


class Crashing:
    """Any backend; one session dies after its n-th call, its messages unsent, and is restored from its stored state."""

    def __init__(self, inner: Backend, victim: PartyId, call: int) -> None:
        self._inner = inner
        self._victim = victim
        self._call = call
        self.crashed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def session(self, spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        session = self._inner.session(spec, party, setup=setup, state=state)
        if party.name != self._victim or spec.phase == "setup":
            return session
        return CrashingSession(
            self, session, lambda stored: self._inner.session(spec, party, setup=setup, state=stored)
        )  # type: ignore[return-value]

    def dies_now(self) -> bool:
        self._call -= 1
        self.crashed = self.crashed or self._call == 0
        return self._call == 0


class CrashingSession:
    """Stands for one party's process, and for the one that is started in its place."""

    def __init__(self, crashing: Crashing, session: Session, restore: Any) -> None:
        self._crashing = crashing
        self._session = session
        self._restore = restore

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._session, name)
        if name not in ("start", "receive", "contribute", "close"):
            return attribute

        def call(*arguments: Any) -> Iterable[Send]:
            sends = attribute(*arguments)
            if not self._crashing.dies_now():
                return sends
            # Its state is stored, and nothing of this call left: the process that takes over starts from the state.
            self._session = self._restore(self._session.dump())
            return self._session.start()

        return call


@pytest.mark.parametrize("victim", [SERVER, "helper", "site-0"])
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("plain", {}),
        ("smpc", {}),
        ("smpc", {"aggregators": 2}),
        ("smpc", {"aggregators": 3, "threshold": 2}),
        ("smpc", {"aggregators": 5, "threshold": 3}),
        ("secaggplus", {}),
        ("secaggplus", {"threat": "passive"}),
        ("ckks", {}),
        ("ckks", {"key_mode": "shared", "acknowledge_shared_key": True}),
        ("ckks", {"verified": True}),
        ("bfv", {"verified": True, "preset": "n8192-3x32"}),
        ("halving+smpc", {}),
    ],
)
def test_a_party_that_dies_before_its_messages_leave_loses_nothing(
    name: str, parameters: dict[str, Any], victim: str
) -> None:
    """At every call of every role, with one client absent: the round ends with the sum of the other four."""
    inner = registry.build(name, parameters).backend
    party = next(iter(inner.helpers()), SERVER) if victim == "helper" else victim
    left = [who for who in NAMES if who != "site-3"]
    for call in range(1, 30):
        crashing = Crashing(inner, party, call)
        result = run(crashing, gone=["site-3"])  # type: ignore[arg-type]
        assert list(result.contributors) == left
        np.testing.assert_allclose(result.mean(), mean(left), atol=1e-5)
        if not crashing.crashed:
            break
    assert call > 1


def test_starting_twice_draws_no_second_key() -> None:
    backend = registry.build("smpc").backend
    driver = Driver(backend, NAMES)
    spec = driver.spec(1, layout=LAYOUT, encoding=ENCODING, task=TASK)
    session = backend.session(spec, driver.party("aggregator-1"))
    first = [send.frame for send in session.start()]
    assert list(session.start()) == []
    restored = backend.session(spec, driver.party("aggregator-1"), state=session.dump())
    assert [send.frame for send in restored.start()] == first


def test_who_has_left_or_contributed_does_not_contribute_again() -> None:
    backend = registry.build("plain").backend
    driver = Driver(backend, NAMES)
    spec = driver.spec(1, layout=LAYOUT, encoding=ENCODING, task=TASK)
    session = backend.session(spec, driver.party("site-0"))
    too_large = np.full(SIZE + 1, 2**31 - 1, np.int32)
    with pytest.raises(InvalidUpdate, match="the largest that the encoding is proven for"):
        session.contribute_integers(too_large)
    with pytest.raises(InvalidUpdate, match="encoding is int32"):
        session.contribute_integers(too_large[:-1])
    bad_weight = np.zeros(SIZE + 1, np.int32)
    bad_weight[-1] = -1
    with pytest.raises(InvalidUpdate, match="the encoded weight is -1, expected 0 to 10"):
        session.contribute_integers(bad_weight)
    assert session.ready  # nothing was lost
    assert len(list(session.contribute(VECTORS["site-0"], 1))) == 1
    assert not session.ready
    for again in (session, backend.session(spec, driver.party("site-0"), state=session.dump())):
        with pytest.raises(Refused, match="already contributed"):
            again.contribute(VECTORS["site-0"], 1)


def test_a_training_part_that_nobody_applies_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name must not be credited with protection that no trainer gives."""
    from secagg.bench import Workload, run_bench

    composition = registry.build("plain")
    trained = registry.Composition("toy+plain", composition.backend, Untrained())
    with pytest.raises(Refused, match="'toy' acts where clients train"):
        run_bench(trained, Workload(10, 3))


class Untrained:
    """A training part that is never wrapped around anything."""

    kind = "training"
    name = "toy"
    parameters: Mapping[str, Any] = {}

    def wrap(self, model: Any, optimizer: Any, loader: Any) -> tuple[Any, Any, Any]:
        return model, optimizer, loader

    def spent(self) -> Mapping[str, Any]:
        return {}

    def compose(self, inner: Any) -> Any:
        return inner


@pytest.mark.parametrize(("stored", "restored"), [("plain", "dp"), ("dp", "plain")])
def test_the_state_of_another_kind_of_session_is_refused(stored: str, restored: str) -> None:
    made, other = registry.build(stored).backend, registry.build(restored).backend
    encoding = FixedPoint.fit(clients=5, value_bound=1.0, divisor=5)
    driver = Driver(made, NAMES)
    spec = driver.spec(1, layout=LAYOUT, encoding=encoding, task=TASK)
    state = made.session(spec, driver.party("site-0")).dump()
    with pytest.raises(Refused, match="stored session"):
        other.session(spec, driver.party("site-0"), state=state)
