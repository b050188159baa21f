"""A three-step toy backend that needs everything the interface offers: relays, a dropout, recovery, restore.

    1 HELLO    client -> server           I am here
    2 ALIVE    server -> client           who is here, in a circle
    3 SEED     client -> next client      a mask seed (relayed; the toy does not seal it)
    4 MASKED   client -> server           x + mask(to the next) - mask(from the one before)
    5 LOST     server -> client           who vanished after the circle was formed
    6 SEEDS    client -> server           the seeds shared with those

It is a test of `secagg.protocol`, not a protocol to use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from secagg.errors import Rejected
from secagg.fixedpoint import Integers
from secagg.guarantees import Guarantees
from secagg.identity import SERVER, PartyId
from secagg.protocol import Party, SecureSum, Send, Session, Traffic
from secagg.ringsum import RingSum
from secagg.session import RoundSession, resume
from secagg.settings import Settings
from secagg.spec import RoundSpec

HELLO, ALIVE, SEED, MASKED, LOST, SEEDS = range(1, 7)


class RelayParameters(Settings):
    """Nothing to set."""


class Relay:
    """The backend."""

    kind: ClassVar[Literal["sum"]] = "sum"
    Parameters: ClassVar[type[Settings]] = RelayParameters
    name = "relay"
    has_setup = False
    sum_bits: int | None = None

    def __init__(self, parameters: RelayParameters) -> None:
        self.parameters: Mapping[str, Any] = {}

    guarantees = Guarantees(
        protection="a toy",
        adversary="none",
        collusion="none",
        alpha=1,
        sees={},
        key_holder="nobody",
        dropouts="recovered",
        exactness="exact",
        two_specs="masks do not cancel",
    )

    def helpers(self) -> Sequence[PartyId]:
        return ()

    def check(self, spec: RoundSpec) -> None: ...

    def traffic(self, spec: RoundSpec) -> Traffic:
        return Traffic(0, 0)

    def session(self, spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        role = RelayServer if party.name == SERVER else RelayClient
        return resume(role(spec, party), state)


def _mask(spec: RoundSpec, seed: bytes, length: int) -> np.ndarray[Any, Any]:
    stream = hashlib.shake_256(seed + spec.digest).digest(4 * length)
    return np.frombuffer(stream, np.uint32)


class RelayClient(RoundSession):
    """Masks with a seed it drew and a seed it was sent."""

    def __init__(self, spec: RoundSpec, party: Party) -> None:
        super().__init__(spec, party)
        self._mine = self._theirs = b""
        self._next: PartyId = ""
        self._before: PartyId = ""
        self.open_step(ALIVE, [SERVER], limit=4096, awaited=False)
        self.open_step(SEED, self.clients - {party.name}, limit=32, awaited=False)

    @property
    def wants_input(self) -> bool:
        return bool(self._theirs)

    def begin(self) -> Iterable[Send]:
        return [self.send(SERVER, HELLO, b"")]

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        if step == ALIVE:
            circle = json.loads(bytes(body))
            place = circle.index(self.party.name)
            self._next, self._before = circle[(place + 1) % len(circle)], circle[place - 1]
            self._mine = self.party.rng(32)
            self.open_step(LOST, [SERVER], limit=4096, awaited=False)
            return [self.send(self._next, SEED, self._mine)]
        if step == SEED:
            if self._before and sender != self._before:
                raise Rejected(sender, "not the client before this one")
            self._theirs = bytes(body)
            return []
        lost = json.loads(bytes(body))
        shared = {name: seed for name, seed in ((self._next, self._mine), (self._before, self._theirs)) if name in lost}
        return [self.send(SERVER, SEEDS, json.dumps({name: seed.hex() for name, seed in shared.items()}).encode())]

    def protect(self, integers: Integers) -> Iterable[Send]:
        masked = integers.view(np.uint32) + _mask(self.spec, self._mine, len(integers))
        masked -= _mask(self.spec, self._theirs, len(integers))
        return [self.send(SERVER, MASKED, masked.tobytes())]

    def store(self) -> dict[str, Any]:
        return {"seeds": [self._mine, self._theirs], "circle": [self._next, self._before]}

    def load(self, fields: dict[str, Any]) -> None:
        (self._mine, self._theirs), (self._next, self._before) = fields["seeds"], fields["circle"]


class RelayServer(RoundSession):
    """Forms the circle, adds, and asks for the seeds that a lost client left uncancelled."""

    def __init__(self, spec: RoundSpec, party: Party) -> None:
        super().__init__(spec, party)
        self._sum = RingSum(spec.encoding, spec.encoding.length(spec.layout.size))
        self.open_step(HELLO, self.clients, limit=0)

    @property
    def evidence(self) -> Mapping[PartyId, bytes]:
        return self.headers(MASKED)

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        if step == MASKED:
            self._sum.fold(body)
        elif step == SEEDS:
            circle = self.heard(HELLO)
            after = circle[(circle.index(sender) + 1) % len(circle)]
            for name, seed in json.loads(bytes(body)).items():
                mask = _mask(self.spec, bytes.fromhex(seed), self.spec.encoding.length(self.spec.layout.size))
                # The sender added the mask it sent on, and took off the one it was sent.
                self._sum.fold_ring(-mask if name == after else mask)
        return ()

    def complete(self, step: int) -> Iterable[Send]:
        circle = self.heard(HELLO)
        if step == HELLO:
            self.require_cohort(circle)
            self.open_step(MASKED, circle, limit=self._sum.wire_bytes)
            return [self.send(name, ALIVE, json.dumps(circle).encode()) for name in circle]
        contributors = self.heard(MASKED)
        if step == MASKED and set(circle) - set(contributors):
            self.open_step(SEEDS, contributors, limit=4096)
            lost = json.dumps(sorted(set(circle) - set(contributors))).encode()
            return [self.send(name, LOST, lost) for name in contributors]
        self.require_cohort(contributors)
        self.result = SecureSum.of(self._sum.signed(), contributors, self.spec.encoding)
        return ()

    def store(self) -> dict[str, Any]:
        return {"sum": self._sum.store()}

    def load(self, fields: dict[str, Any]) -> None:
        self._sum.load(fields["sum"])
