"""The in-memory driver: every role of a backend, with its own keys, in one process, over real bytes.

It is the executable specification of a run - propose, admit, set up, contribute, sum - and what tests, `bench`
and the `local` engine pump. `intercept` sees each letter on its way and may drop, repeat, alter or hold it.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from secagg.admission import Policy, admit, open_proposal, propose
from secagg.cores import cpu_s
from secagg.errors import Aborted, InvalidUpdate, Refused, Rejected
from secagg.fixedpoint import FixedPoint
from secagg.frames import MAX_BODY_BYTES
from secagg.identity import SERVER, Directory, Identity, PartyId
from secagg.participation import Participation
from secagg.protocol import Backend, Party, Rng, SecureSum, Send, Session
from secagg.spec import MIN_COHORT, Roster, RoundSpec
from secagg.vectors import Layout

Phase = Literal["setup", "round"]


@dataclass(frozen=True)
class Letter:
    """A frame, or the server's signed proposal, on its way from one party to another."""

    sender: PartyId
    to: PartyId
    frame: bytes | memoryview = field(repr=False)
    kind: Literal["frame", "proposal"] = "frame"


@dataclass
class Meter:
    """What one party spent in a round: seconds of CPU (workers included) and wall, bytes sent and received.

    `protect` counts the calls before this party knows the sum, `reveal` the call that made it known.
    """

    protect_cpu_s: float = 0.0
    protect_wall_s: float = 0.0
    reveal_cpu_s: float = 0.0
    reveal_wall_s: float = 0.0
    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of a round: the sum, and everything worth writing down about it.

    `dropped` says of clients, and of helpers that the round could spare, why they left.
    """

    spec: RoundSpec
    result: SecureSum
    dropped: Mapping[PartyId, str]
    rejected: tuple[Rejected, ...]
    meters: Mapping[PartyId, Meter]
    evidence: Mapping[PartyId, bytes]
    wall_s: float


Contribution = tuple[NDArray[np.float32], int]
Source = Callable[[PartyId], Contribution | None]


def deliver(letter: Letter) -> Iterable[Letter]:
    """The honest wire."""
    return (letter,)


class Driver:
    """Runs set-up once and then any number of rounds of one backend among named clients.

    Args:
        backend: what protects the sum.
        clients: their names.
        policy: every client's policy.
        identities: keys that parties already have; the others draw fresh ones.
        participation: what clients remember of the sums that they were part of; who is not in it remembers nothing.
        intercept: sees each letter; returns the letters to deliver in its place.
    """

    def __init__(
        self,
        backend: Backend,
        clients: Sequence[PartyId],
        *,
        policy: Policy | None = None,
        minimum_cohort: int = MIN_COHORT,
        identities: Mapping[PartyId, Identity] | None = None,
        participation: Mapping[PartyId, Participation] | None = None,
        rng: Rng = secrets.token_bytes,
        intercept: Callable[[Letter], Iterable[Letter]] = deliver,
    ) -> None:
        if len(clients) < minimum_cohort:
            raise Refused(f"{len(clients)} clients take part, the minimum cohort is {minimum_cohort}")
        self.backend = backend
        self.clients = tuple(clients)
        self.policy = policy or Policy()
        self.minimum_cohort = minimum_cohort
        self.intercept = intercept
        self.participation = dict(participation or {})
        self.run = secrets.token_bytes(16).hex()
        names = [SERVER, *backend.helpers(), *clients]
        if len(set(names)) != len(names):
            raise Refused("two parties have the same name")
        given = identities or {}
        self.identities = {name: given.get(name) or Identity.generate() for name in names}
        self.directory = Directory({name: identity.public for name, identity in self.identities.items()})
        self._rng = rng
        self._setup: dict[PartyId, bytes] = {}
        self._agreed = b""

    def party(self, name: PartyId) -> Party:
        """The party `name` as its own process would hold it."""
        return Party(name, self.identities[name], self.directory, self._rng)

    def spec(
        self,
        number: int,
        *,
        layout: Layout,
        encoding: FixedPoint,
        task: str,
        clients: Sequence[PartyId] | None = None,
        phase: Phase = "round",
    ) -> RoundSpec:
        """The spec of a round among `clients` (default: all)."""

        def marks(names: Iterable[PartyId]) -> dict[PartyId, str]:
            return {name: self.identities[name].public.fingerprint.hex() for name in names}

        spec = RoundSpec(
            run=self.run,
            round=number,
            phase=phase,
            backend=self.backend.name,
            parameters=dict(self.backend.parameters),
            roster=Roster(
                server=marks([SERVER])[SERVER],
                clients=marks(clients if clients is not None else self.clients),
                helpers=marks(self.backend.helpers()),
            ),
            uploads_to=self.backend.guarantees.uploads_to,
            minimum_cohort=self.minimum_cohort,
            layout=layout,
            encoding=encoding,
            task=task,
            setup=self._agreed.hex() if phase == "round" else "",
        )
        self.backend.check(spec)
        if (upload := self.backend.traffic(spec).client_upload) > MAX_BODY_BYTES:
            raise Refused(f"an upload of {layout.size} parameters takes {upload} bytes, a frame holds {MAX_BODY_BYTES}")
        return spec

    def set_up(self, *, layout: Layout, encoding: FixedPoint) -> None:
        """Run the backend's set-up phase, if it has one, and keep what each party must remember."""
        if not self.backend.has_setup:
            return
        spec = self.spec(0, layout=layout, encoding=encoding, task="0" * 64, phase="setup")
        exchange = _Exchange(self, spec)
        exchange.run(lambda name: None)
        held = {name: session.agreed for name, session in exchange.sessions.items()}
        # A client that left is not counted on; those who stay must hold the same keys, byte for byte.
        agreed = {value for value in held.values() if value}
        if len(agreed) != 1 or any(not held.get(name) for name in (SERVER, *self.backend.helpers())):
            raise Aborted(f"set-up ended without all parties holding the same public keys{exchange.reasons()}")
        self._agreed = agreed.pop()
        self._setup = {name: session.dump() for name, session in exchange.sessions.items() if held[name]}

    def round(
        self,
        spec: RoundSpec,
        source: Source,
        *,
        tasks: Mapping[PartyId, str] | None = None,
        models: Mapping[PartyId, str] | None = None,
    ) -> Outcome:
        """Run one round. `source(client)` gives its update and weight, or None where the client vanishes.

        A client whose source raises `Aborted` leaves the round, with that reason.

        It is called when the protocol wants the vector, one client after the other: only one is held at a time.
        `tasks` are the digests of the task as each client received it; by default they received what `spec` says.
        `models` are digests of the model alone, which clients with a `participation` remember; by default the tasks.
        """
        if spec.phase != "round":
            raise Refused("a round needs the spec of a round, not of a set-up")
        exchange = _Exchange(self, spec, tasks=tasks, models=models, setup=self._setup)
        started = time.perf_counter()
        exchange.run(source)
        wall = time.perf_counter() - started - exchange.source_s
        return exchange.outcome(wall)


class _Exchange:
    """One set-up or round: sessions, the letters between them, and the meters."""

    def __init__(
        self,
        driver: Driver,
        spec: RoundSpec,
        *,
        tasks: Mapping[PartyId, str] | None = None,
        models: Mapping[PartyId, str] | None = None,
        setup: Mapping[PartyId, bytes] | None = None,
    ) -> None:
        self.spec = spec
        self.sessions: dict[PartyId, Session] = {}
        self.meters = {name: Meter() for name in spec.roster.fingerprints}
        self.dropped: dict[PartyId, str] = {}
        self.rejected: list[Rejected] = []
        self.source_s = 0.0
        self._driver = driver
        self._tasks = tasks or {}
        self._models = models or self._tasks
        self._admitted: dict[PartyId, RoundSpec] = {}
        self._setup = setup or {}

    def run(self, source: Source) -> None:
        self._admit()
        helpers = list(self.spec.roster.helpers)
        clients = list(self.spec.roster.clients)
        for name in [*helpers, SERVER, *clients]:
            self._call(name, lambda session: session.start())
            self._contribute_if_ready(name, source)
        while True:
            while sum(self._contribute_if_ready(name, source) for name in clients):
                pass
            silent = self._awaited([*clients, *helpers, SERVER])
            if silent is None:
                break
            name, absent = silent
            self._call(name, lambda session, absent=absent: session.close(absent))  # type: ignore[misc]

    def _awaited(self, names: Sequence[PartyId]) -> tuple[PartyId, frozenset[PartyId]] | None:
        """Nothing is on its way any more: who must be told that somebody is silent, and who that is.

        First one that waits for parties who wait for nobody themselves: there the silence began.
        """
        waiting = {n: self.sessions[n].waiting for n in names if n in self.sessions and self.sessions[n].waiting}
        for name, awaited in waiting.items():
            if not awaited & set(waiting):
                return name, awaited
        return next(iter(waiting.items()), None)

    def outcome(self, wall_s: float) -> Outcome:
        where = self._driver.backend.guarantees.result_at
        names = [SERVER] if where == "server" else list(self.spec.roster.clients)
        results = [(n, s.result) for n in names if (s := self.sessions.get(n)) is not None]
        found = [(name, result) for name, result in results if result is not None]
        if any(not np.array_equal(result.totals, found[0][1].totals) for _, result in found[1:]):
            raise Aborted("clients opened different sums: somebody altered what the server sent on")
        if not found:
            raise Aborted(f"no sum came of the round{self.reasons()}")
        silent = set(self.spec.roster.clients) - set(found[0][1].contributors) - set(self.dropped)
        return Outcome(
            spec=self.spec,
            result=found[0][1],
            dropped={**self.dropped, **dict.fromkeys(sorted(silent), "its upload never came, or was rejected")},
            rejected=tuple(self.rejected),
            meters=self.meters,
            evidence=self.sessions[SERVER].evidence,
            wall_s=wall_s,
        )

    def _admit(self) -> None:
        """The server proposes; every party opens the proposal and decides by its own policy."""
        proposal = propose(self.spec, self._driver.identities[SERVER])
        self._join(SERVER, self.spec)
        for name in [*self.spec.roster.helpers, *self.spec.roster.clients]:
            for letter in self._driver.intercept(Letter(SERVER, name, proposal, "proposal")):
                if letter.kind == "frame":
                    self._carry(self._deliver(letter))
                else:
                    self._show(letter.to, bytes(letter.frame))
            if name not in self.sessions and name not in self.dropped:
                self._leave(name, "never got the proposal")

    def _show(self, name: PartyId, proposal: bytes) -> None:
        """A party reads the proposal and joins, or leaves with its reason."""
        self.meters[SERVER].sent_bytes += len(proposal)
        self.meters[name].received_bytes += len(proposal)
        try:
            spec = open_proposal(proposal, self._driver.directory)
            # A helper is shown no model: it has no digest of its own to hold against the spec's.
            task = self._tasks.get(name, self.spec.task) if name in spec.roster.clients else spec.task
            admit(spec, self._driver.policy, self._driver.directory, task=task, backend=self._driver.backend)
            if (past := self._past(name)) is not None:
                past.check(spec, self._model(name))
            self._join(name, spec)
            self.dropped.pop(name, None)
        except (Aborted, Refused) as error:
            self._leave(name, error)

    def _join(self, name: PartyId, spec: RoundSpec) -> None:
        driver = self._driver
        self._admitted[name] = spec
        setup = self._setup.get(name, b"")
        self.sessions[name] = driver.backend.session(spec, driver.party(name), setup=setup)

    def _contribute_if_ready(self, name: PartyId, source: Source) -> bool:
        """Let a client contribute if its protocol wants the vector now; whether it did, or vanished."""
        session = self.sessions.get(name)
        if session is None or not session.ready:
            return False
        started = time.perf_counter()
        try:
            contribution = source(name)
            self.source_s += time.perf_counter() - started
            if contribution is None:
                self._leave(name, "vanished before its upload")
                return True
            vector, weight = contribution
            if (past := self._past(name)) is not None:
                past.enter(self._admitted[name], self._model(name))
            self._call(name, lambda session: session.contribute(vector, weight))
            if name in self.sessions:
                self.sessions[name].flushed()  # delivered: only one upload is in memory at a time
        except InvalidUpdate as error:
            raise InvalidUpdate(f"client {name!r}: {error}") from None
        except Aborted as error:
            self._leave(name, error)
        return True

    def _past(self, name: PartyId) -> Participation | None:
        return self._driver.participation.get(name) if self.spec.phase == "round" else None

    def _model(self, name: PartyId) -> str:
        return self._models.get(name, self.spec.task)

    def _leave(self, name: PartyId, why: object) -> None:
        """Without the server there is no round; what the loss of anybody else means is for the others to say."""
        if name == SERVER:
            raise Aborted(f"{name}: {why}{self.reasons()}")
        self.dropped[name] = str(why)
        self.sessions.pop(name, None)

    def reasons(self) -> str:
        """Why parties left: the first three, as they may name the cause of what came after."""
        left = [f"{name}: {why}" for name, why in sorted(self.dropped.items())]
        return f" ({'; '.join(left[:3])}{'; ...' if left[3:] else ''})" if left else ""

    def _call(self, name: PartyId, action: Callable[[Session], Iterable[Send]]) -> None:
        """Let `name` act, and deliver what it sends."""
        self._carry(self._metered(name, action))

    def _carry(self, letters: Iterator[Letter]) -> None:
        """Deliver letters and the answers to them, depth first: one message is in memory at a time."""
        stack = [letters]
        while stack:
            letter = next(stack[-1], None)
            if letter is None:
                stack.pop()
                continue
            arriving = self._driver.intercept(letter)
            stack.append(itertools.chain.from_iterable(map(self._deliver, arriving)))

    def _deliver(self, letter: Letter) -> Iterator[Letter]:
        if letter.sender in self.meters:
            self.meters[letter.sender].sent_bytes += len(letter.frame)
        if letter.to not in self.sessions:
            return
        self.meters[letter.to].received_bytes += len(letter.frame)
        yield from self._metered(letter.to, lambda session: session.receive(letter.sender, letter.frame))

    def _metered(self, name: PartyId, action: Callable[[Session], Iterable[Send]]) -> Iterator[Letter]:
        session = self.sessions.get(name)
        if session is None:
            return
        try:
            with _Clock(self.meters[name], session):
                sends = iter(action(session))
            while True:
                with _Clock(self.meters[name], session):
                    send = next(sends, None)
                if send is None:
                    return
                yield Letter(name, send.to, send.frame)
        except Rejected as error:
            self.rejected.append(error)
        except Aborted as error:
            self._leave(name, error)


class _Clock:
    """Adds the time of one call to a party's meter."""

    def __init__(self, meter: Meter, session: Session) -> None:
        self._meter = meter
        self._session = session

    def __enter__(self) -> None:
        self._known = self._session.result is not None
        self._wall, self._cpu = time.perf_counter(), cpu_s()

    def __exit__(self, *exception: object) -> None:
        cpu, wall = cpu_s() - self._cpu, time.perf_counter() - self._wall
        if self._session.result is not None and not self._known:
            self._meter.reveal_cpu_s += cpu
            self._meter.reveal_wall_s += wall
        else:
            self._meter.protect_cpu_s += cpu
            self._meter.protect_wall_s += wall
