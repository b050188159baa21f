"""`smpc`: additive secret sharing over k aggregators, one of which is the server.

A client splits its integers x into k shares that sum to x in the ring: k-1 of them are streams expanded from
32-byte seeds, the last is x minus those streams. The seeds go, sealed, to the k-1 helpers; the one full vector
goes to the server, which is aggregator 0. Every aggregator adds up what it has, and the sums of shares are
shares of the sum.

    1 KEY     aggregator -> client       ephemeral X25519 key, signed
    2 SEED    client -> aggregator       a seed, sealed to that key
    3 HELD    aggregator -> server       whose seeds it holds
    4 GO      server -> client           everybody holds your seed
    5 SHARE   client -> server           x minus all streams
    6 COHORT  server -> aggregator       whose vectors arrived
    7 AGREE   aggregator -> aggregators  digest of that set; nothing is expanded before all agree
    8 SUM     aggregator -> server       the sum of the streams of that set

A client may vanish at any step: the sum is that of the clients in the cohort. A silent aggregator ends the
round with a named abort, since every share is needed.

Guarantee: any k-1 colluding aggregators see uniform shares and learn the sum only (with the server among
them) or nothing (without). All k together see every update. Aggregators are trusted to add correctly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from secagg.errors import Refused
from secagg.frames import HEADER_BYTES
from secagg.guarantees import Guarantees
from secagg.identity import SERVER, PartyId
from secagg.protocol import Party, Session, Traffic
from secagg.sealing import ENVELOPE_OVERHEAD
from secagg.session import resume
from secagg.settings import Settings
from secagg.spec import RoundSpec
from smpc.additive_sessions import AdditiveClient, AdditiveHelper, AdditiveServer
from smpc.cohort import set_bytes
from smpc.masks import SEED_BYTES, Suite


class AdditiveParameters(Settings):
    """Parameters of `smpc`: how many aggregators (the server included), and the cipher of the streams."""

    aggregators: Annotated[int, Field(ge=2, le=16)] = 3
    suite: Suite = "chacha20"


class AdditiveSharing:
    """The backend; see the module's text."""

    kind: ClassVar[Literal["sum"]] = "sum"
    Parameters: ClassVar[type[Settings]] = AdditiveParameters
    name = "smpc"
    has_setup = False
    sum_bits: int | None = None

    def __init__(self, parameters: AdditiveParameters) -> None:
        self.parameters: Mapping[str, Any] = parameters.model_dump()
        self._aggregators = parameters.aggregators
        self._suite = parameters.suite

    @property
    def guarantees(self) -> Guarantees:
        k = self._aggregators
        return Guarantees(
            protection=f"additive secret sharing over {k} aggregators (the server is one), {self._suite} streams",
            adversary="passive",
            collusion=f"any {k - 1} of the {k} aggregators learn no single update",
            alpha=3,
            sees={
                "server": ("one uniform share of every client", "who contributed", "the sum"),
                "aggregators": ("one uniform share of every client", "who contributed"),
                "clients": ("nothing",),
            },
            key_holder=f"nobody alone; all {k} aggregators together could open everything",
            dropouts="a client may vanish at any step, the sum of the others is exact; a silent aggregator "
            "ends the round with a named abort",
            exactness="the integer sum is exact",
            two_specs="aggregators refuse messages of another spec, and a cohort that they do not all agree on",
            limitations=(
                "an aggregator that adds wrongly is not detected",
                "all aggregators together see every update",
                "one malicious client can set the sum",
            ),
        )

    def helpers(self) -> Sequence[PartyId]:
        return tuple(f"aggregator-{number}" for number in range(1, self._aggregators))

    def check(self, spec: RoundSpec) -> None:
        if set(spec.roster.helpers) != set(self.helpers()):
            raise Refused(f"smpc: expected the helpers {', '.join(self.helpers())}")

    def traffic(self, spec: RoundSpec) -> Traffic:
        helpers, clients = len(self.helpers()), len(spec.roster.clients)
        vector = spec.encoding.wire_bytes(spec.layout.size)
        seed = HEADER_BYTES + SEED_BYTES + ENVELOPE_OVERHEAD
        members = HEADER_BYTES + set_bytes(clients)
        agree = HEADER_BYTES + 32
        return Traffic(
            client_upload=helpers * seed + HEADER_BYTES + vector,
            client_download=helpers * (HEADER_BYTES + 32) + HEADER_BYTES,
            helpers=helpers
            * (clients * (HEADER_BYTES + 32 + seed) + 2 * members + 2 * (helpers - 1) * agree + HEADER_BYTES + vector),
            server_memory=spec.encoding.length(spec.layout.size) * spec.encoding.ring.itemsize + vector,
        )

    def session(self, spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        if party.name == SERVER:
            return resume(AdditiveServer(spec, party), state)
        if party.name in spec.roster.helpers:
            return resume(AdditiveHelper(spec, party, self._suite), state)
        return resume(AdditiveClient(spec, party, self._suite), state)
