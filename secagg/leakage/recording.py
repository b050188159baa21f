"""A recorded round: what every party gets, draws and contributes.

The round is run by the in-memory driver with the backend's own sessions. Around each of them stands a recorder that
keeps the party's randomness and a client's integers; the wire keeps the frames. What curious parties make of it
afterwards is in `secagg.leakage.replay`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from secagg import registry
from secagg.admission import propose
from secagg.driver import Driver, Letter, Outcome
from secagg.errors import Refused
from secagg.fixedpoint import Integers
from secagg.guarantees import Guarantees
from secagg.identity import SERVER, PartyId
from secagg.layered import Layered, fit_encoding
from secagg.protocol import Backend, Party, Rng, SecureSum, Send, Session, Traffic
from secagg.spec import RoundSpec, task_digest
from secagg.vectors import Layout

Vectors = Mapping[PartyId, NDArray[np.float32]]
Weights = Mapping[PartyId, int]


@dataclass(frozen=True)
class Recording:
    """One round, and all that its parties have of it.

    Attributes:
        spec: the round, as all but the clients in `shown` were proposed it.
        outcome: what the round released.
        clean: each client's integers before any noise, encoded to the nearest, under the layers' clipping.
        integers: what each client's session was given to protect, noise included.
        letters: every frame of the round in the order in which it was sent.
        uploaded_at: where in `letters` each client's upload begins.
        parties: what each party was given, and the session that it ended with.
        build: makes the sum backend anew, with no memory of this round.
    """

    spec: RoundSpec
    outcome: Outcome
    clean: Mapping[PartyId, Integers] = field(repr=False)
    integers: Mapping[PartyId, Integers] = field(repr=False)
    letters: Sequence[Letter] = field(repr=False)
    uploaded_at: Mapping[PartyId, int] = field(repr=False)
    parties: Mapping[PartyId, Kept] = field(repr=False)
    build: Callable[[], Backend] = field(repr=False)

    @property
    def clients(self) -> tuple[PartyId, ...]:
        """Who gave an update, sorted by name; `outcome` says whose is in the sum."""
        return tuple(sorted(self.integers))

    @property
    def helpers(self) -> tuple[PartyId, ...]:
        return tuple(self.spec.roster.helpers)

    def seen_by(self, members: Collection[PartyId]) -> list[Letter]:
        """The frames that reached or left a member; the server relays them all."""
        return [one for one in self.letters if SERVER in members or {one.sender, one.to} & set(members)]


def record(
    name: str,
    vectors: Vectors,
    *,
    parameters: Mapping[str, Any] | None = None,
    weights: Weights | None = None,
    value_bound: float | None = None,
    absent: Collection[PartyId] = (),
    shown: Mapping[PartyId, bytes] | None = None,
    rng: Rng = secrets.token_bytes,
) -> Recording:
    """Run set-up and one round of the backend `name` and keep everything.

    Args:
        vectors: each client's update, finite float32 of shape `(size,)`; at least 3 clients.
        weights: whole numbers from 1; all 1 if not given, and under a backend with uniform weights.
        value_bound: the encoding's; by default the largest magnitude in `vectors`.
        absent: clients who vanish before their upload.
        shown: clients to whom a malicious server shows another model, by its bytes, with a spec to it (T7).
        rng: where all parties draw their randomness; anything but the default is for simulations that repeat.

    Raises:
        Refused: the backend, its parameters or the vectors' shapes are bad, or there are too few clients.
        Aborted: no sum came of the round: too few clients are left, for instance.
    """
    model, bound = _layout_of(vectors)
    composed = registry.build(name, parameters)
    layers, layout = composed.layers, composed.layout(model)
    if layout.size > model.size:
        # A layer's own coordinates come behind the model's, and it fills them in.
        vectors = {client: np.pad(vector, (0, layout.size - model.size)) for client, vector in vectors.items()}
    recorder = _Recorder(_sum_of(composed.backend))
    backend: Backend = Layered(layers, recorder) if layers else recorder
    uniform = backend.guarantees.uniform_weights
    weights = dict.fromkeys(vectors, 1) if weights is None or uniform else weights
    encoding = fit_encoding(
        backend,
        clients=len(vectors),
        value_bound=value_bound or bound,
        size=layout.size,
        max_weight=max(weights.values()),
        divisor=len(vectors) if uniform else None,
    )
    letters: list[Letter] = []
    rounds: list[RoundSpec] = []
    tasks = {client: task_digest(model) for client, model in (shown or {}).items()}

    def keep(letter: Letter) -> Iterable[Letter]:
        if rounds and letter.kind == "proposal" and letter.to in tasks:
            other = driver.spec(1, layout=layout, encoding=encoding, task=tasks[letter.to])
            return (replace(letter, frame=propose(other, driver.identities[SERVER])),)
        if letter.kind == "frame":
            recorder.note(letter, at=len(letters))
            letters.append(replace(letter, frame=bytes(letter.frame)))
        return (letter,)

    driver = Driver(backend, sorted(vectors), rng=rng, intercept=keep)
    driver.set_up(layout=layout, encoding=encoding)
    recorder.clear()
    letters.clear()
    spec = driver.spec(1, layout=layout, encoding=encoding, task=task_digest(b"the model that is proposed"))
    rounds.append(spec)
    source = {client: (vectors[client], weights[client]) for client in vectors if client not in absent}
    outcome = driver.round(spec, source.get, tasks=tasks)
    given = [name for name, kept in sorted(recorder.kept.items()) if kept.contributed]

    def clean(client: PartyId) -> Integers:
        vector = vectors[client]
        for layer in layers:
            vector = layer.before(vector, encoding)
        return encoding.encode(vector, weights[client]).integers

    return Recording(
        spec=spec,
        outcome=outcome,
        clean={client: clean(client) for client in given},
        integers={client: recorder.kept[client].integers for client in given},
        letters=letters,
        uploaded_at=recorder.uploaded_at,
        parties=recorder.kept,
        build=lambda: _sum_of(registry.build(name, parameters).backend),
    )


def _sum_of(backend: Backend) -> Backend:
    """What adds, without the layers around it."""
    return backend.inner if isinstance(backend, Layered) else backend


def _layout_of(vectors: Vectors) -> tuple[Layout, float]:
    """The flat layout of the vectors, and their largest magnitude. Raises `Refused`, naming the client."""
    sizes = {vector.shape for vector in vectors.values()}
    if len(sizes) != 1 or len(next(iter(sizes))) != 1:
        raise Refused(f"vectors of the shapes {sorted(sizes)}, expected one shape (size,) for all clients")
    for client, vector in vectors.items():
        if vector.dtype != np.float32 or not np.isfinite(vector).all():
            raise Refused(f"vector of {client!r}: expected finite float32, got {vector.dtype}")
    bound = max(float(np.abs(vector).max()) for vector in vectors.values())
    return Layout.flat(next(iter(sizes))[0]), bound or 1.0


class Tape:
    """A source of randomness that keeps what it gave, or gives again what it kept."""

    def __init__(self, source: Rng, kept: Sequence[bytes] = ()) -> None:
        self.drawn: list[bytes] = []
        self._source, self._kept = source, list(kept)

    def __call__(self, count: int) -> bytes:
        # A member that turns another way than in the round draws other lengths, and then draws afresh.
        known = self._kept.pop(0) if self._kept and len(self._kept[0]) == count else self._source(count)
        self.drawn.append(known)
        return known


class _Recorder:
    """A backend that makes the sessions of another, and keeps what each is given."""

    kind: ClassVar[Literal["sum"]] = "sum"

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.name, self.parameters = inner.name, inner.parameters
        self.has_setup, self.sum_bits = inner.has_setup, inner.sum_bits
        self.kept: dict[PartyId, Kept] = {}
        self.uploaded_at: dict[PartyId, int] = {}

    @property
    def guarantees(self) -> Guarantees:
        return self.inner.guarantees

    def helpers(self) -> Sequence[PartyId]:
        return self.inner.helpers()

    def check(self, spec: RoundSpec) -> None:
        self.inner.check(spec)

    def traffic(self, spec: RoundSpec) -> Traffic:
        return self.inner.traffic(spec)

    def session(self, spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        tape = Tape(party.rng)
        taped = replace(party, rng=tape)
        kept = Kept(self.inner.session(spec, taped, setup=setup, state=state), party, setup, tape)
        self.kept[party.name] = kept
        return kept

    def note(self, letter: Letter, *, at: int) -> None:
        """A letter leaves: if its sender has contributed, its upload has begun."""
        kept = self.kept.get(letter.sender)
        if kept is not None and kept.contributed:
            self.uploaded_at.setdefault(letter.sender, at)

    def clear(self) -> None:
        """Set-up is over."""
        self.kept.clear()
        self.uploaded_at.clear()


class Kept:
    """A session as it is, with what its party was given."""

    def __init__(self, session: Session, party: Party, setup: bytes, tape: Tape) -> None:
        self.session, self.party, self.setup, self.tape = session, party, setup, tape
        self.spec = session.spec
        self.contributed = False
        self.integers: Integers = np.zeros(0, np.int32)

    @property
    def ready(self) -> bool:
        return self.session.ready

    @property
    def waiting(self) -> frozenset[PartyId]:
        return self.session.waiting

    @property
    def result(self) -> SecureSum | None:
        return self.session.result

    @property
    def agreed(self) -> bytes:
        return self.session.agreed

    @property
    def evidence(self) -> Mapping[PartyId, bytes]:
        return self.session.evidence

    def start(self) -> Iterable[Send]:
        return self.session.start()

    def receive(self, sender: PartyId, frame: bytes | memoryview) -> Iterable[Send]:
        return self.session.receive(sender, frame)

    def close(self, absent: Collection[PartyId]) -> Iterable[Send]:
        return self.session.close(absent)

    def contribute(self, vector: NDArray[np.float32], weight: int = 1) -> Iterable[Send]:
        self.spec.layout.check(vector)
        return self.contribute_integers(self.spec.encoding.encode(vector, weight, rng=self.party.rng).integers)

    def contribute_integers(self, integers: Integers) -> Iterable[Send]:
        self.integers, self.contributed = integers.copy(), True
        return self.session.contribute_integers(integers)

    def flushed(self) -> None:
        self.session.flushed()

    def dump(self) -> bytes:
        return self.session.dump()
