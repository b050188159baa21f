"""`plain`: the unprotected control. The same frames, encoding and sum as every backend, and no secrecy at all.

The server sees every single update. It exists so that cost, utility and leakage of a protection can be
compared with none, on the same inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from secagg.errors import Refused, Rejected
from secagg.fixedpoint import Integers
from secagg.frames import HEADER_BYTES
from secagg.guarantees import Guarantees
from secagg.identity import SERVER, PartyId
from secagg.protocol import Party, SecureSum, Send, Session, Traffic
from secagg.ringsum import RingSum, WrongLength
from secagg.session import RoundSession, resume
from secagg.settings import Settings
from secagg.spec import RoundSpec

UPLOAD = 1


class PlainParameters(Settings):
    """`plain` has no parameters."""


class Plain:
    """The backend; see the module's text."""

    kind: ClassVar[Literal["sum"]] = "sum"
    Parameters: ClassVar[type[Settings]] = PlainParameters
    name = "plain"
    has_setup = False
    sum_bits: int | None = None

    def __init__(self, parameters: PlainParameters) -> None:
        self.parameters: Mapping[str, Any] = parameters.model_dump()

    @property
    def guarantees(self) -> Guarantees:
        return Guarantees(
            protection="none: the unprotected control",
            adversary="none",
            collusion="nobody: the server alone sees every update",
            alpha=1,
            sees={"server": ("every single update and weight", "the sum"), "clients": ("nothing",)},
            key_holder="nobody; nothing is encrypted between client and server",
            dropouts="a silent client is left out; the sum of the others is exact",
            exactness="the integer sum is exact",
            two_specs="every update is seen anyway; frames of another spec are rejected",
            sum_only=False,
            limitations=("the server sees every update",),
        )

    def helpers(self) -> Sequence[PartyId]:
        return ()

    def check(self, spec: RoundSpec) -> None:
        if spec.roster.helpers:
            raise Refused("plain: the roster names helpers, and this backend has none")

    def traffic(self, spec: RoundSpec) -> Traffic:
        vector = spec.encoding.wire_bytes(spec.layout.size)
        total = spec.encoding.length(spec.layout.size) * spec.encoding.ring.itemsize
        return Traffic(client_upload=HEADER_BYTES + vector, client_download=0, server_memory=total + vector)

    def session(self, spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        role = PlainServer if party.name == SERVER else PlainClient
        return resume(role(spec, party), state)


class PlainClient(RoundSession):
    """Sends its encoding as it is."""

    @property
    def wants_input(self) -> bool:
        return True

    def protect(self, integers: Integers) -> Iterable[Send]:
        ring = RingSum(self.spec.encoding, len(integers))
        return (self.send(SERVER, UPLOAD, ring.to_wire(integers)),)


class PlainServer(RoundSession):
    """Adds what arrives."""

    def __init__(self, spec: RoundSpec, party: Party) -> None:
        super().__init__(spec, party)
        self._sum = RingSum(spec.encoding, spec.encoding.length(spec.layout.size))
        self.open_step(UPLOAD, self.clients, limit=self._sum.wire_bytes)

    @property
    def evidence(self) -> Mapping[PartyId, bytes]:
        return self.headers(UPLOAD)

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        try:
            self._sum.fold(body)
        except WrongLength as error:
            raise Rejected(sender, str(error)) from None
        return ()

    def complete(self, step: int) -> Iterable[Send]:
        contributors = self.heard(UPLOAD)
        self.require_cohort(contributors)
        self.result = SecureSum.of(self._sum.signed(), contributors, self.spec.encoding)
        return ()

    def store(self) -> dict[str, Any]:
        return {"sum": self._sum.store()}

    def load(self, fields: dict[str, Any]) -> None:
        self._sum.load(fields["sum"])
