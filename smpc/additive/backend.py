"""`smpc`: secret sharing over k aggregators, one of which is the server; `threshold` of them are needed for the sum.

A client splits its integers x into shares that sum to x in the ring: all but one are streams expanded from 32-byte
seeds, the last is x minus those streams. The seeds go, sealed, to the k-1 helpers; the one full vector goes to the
server, which is aggregator 0. Every aggregator adds up what it has, and the sums of shares are shares of the sum.

By default all k are needed, and each helper has a share of its own. With a smaller `threshold` t a share is held by
k-t+1 helpers (`smpc.additive.replication`), so that k-t of them may be lost, and what they add up can be compared.

     1 KEY      aggregator -> client       ephemeral X25519 key, signed
     2 SEED     client -> aggregator       its seeds, sealed to that key
     3 HELD     aggregator -> server       whose seeds it holds, and with t < k a mark of each seed
     4 GO       server -> client           everybody holds your seeds, and the same ones
     5 SHARE    client -> server           x minus all streams
     6 COHORT   server -> aggregator       whose vectors arrived
     7 AGREE    aggregator -> aggregators  digest of that set; nothing is expanded before t-1 agree, and none disagrees
     9 CHECK    aggregator -> server       SHA-256 of the sum of each share that it holds          (t < k only)
    10 ASK      server -> aggregator       which sums to send: each is asked of one holder         (t < k only)
     8 SUM      aggregator -> server       the sums asked for; with t = k the sum of its streams
    11 MISSING  server -> aggregator       which sums did not come, to all who hold them           (t < k only)
    12 SPARE    aggregator -> server       these sums                                              (t < k only)

A client may vanish at any step: the sum is that of the clients in the cohort. k-t helpers may be silent at any step,
and the round ends with the same sum; one more ends it with a named abort.

Guarantee, against aggregators that follow the protocol and pool what they see: any t-1 of them learn the sum only (with
the server among them) or nothing (without), and so do all k-1 helpers together. The server and t-1 helpers see every
update.

What else holds, and what does not:

- The server opens one set of clients if any two groups of t-1 helpers have an honest member in common, who takes part
  in one set only: with honest helpers if 2(t-1) > k-1, as for t = k. Otherwise a server that departs from the protocol
  can tell two groups that the rest are silent, have each open another set, and take the difference.
- An altered sum of a share is found if another live helper that holds the share reports honestly: two digests that
  differ end the round, with both helpers named, before any sum is sent; a sum that is not the one announced is
  rejected and asked of the others. With t = k, or k-t helpers lost, a share may have one holder, which is trusted.
  The server is, for its own part.
- A client whose seeds differ from holder to holder is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from secagg.errors import Refused
from secagg.frames import HEADER_BYTES, MAX_BODY_BYTES
from secagg.guarantees import Guarantees
from secagg.identity import SERVER, PartyId
from secagg.protocol import Party, Session, Traffic
from secagg.sealing import ENVELOPE_OVERHEAD
from secagg.session import resume
from secagg.settings import Settings
from secagg.spec import RoundSpec
from smpc.additive.client import AdditiveClient
from smpc.additive.helper import AdditiveHelper
from smpc.additive.replication import Replication, check_threshold
from smpc.additive.role import DIGEST_BYTES, MARK_BYTES
from smpc.additive.server import AdditiveServer
from smpc.cohort import set_bytes
from smpc.masks import SEED_BYTES, Suite


class AdditiveParameters(Settings):
    """Parameters of `smpc`.

    Attributes:
        aggregators: how many there are, the server included.
        threshold: how many of them are needed for the sum, the server included; all, if not given.
        suite: the cipher of the streams.
    """

    aggregators: Annotated[int, Field(ge=2, le=16)] = 3
    threshold: int | None = None
    suite: Suite = "chacha20"


class AdditiveSharing:
    """The backend; see the module's text. Raises `Refused` for a threshold that takes more than 64 shares."""

    kind: ClassVar[Literal["sum"]] = "sum"
    Parameters: ClassVar[type[Settings]] = AdditiveParameters
    name = "smpc"
    has_setup = False
    sum_bits: int | None = None

    def __init__(self, parameters: AdditiveParameters) -> None:
        self._aggregators = parameters.aggregators
        self._threshold = parameters.aggregators if parameters.threshold is None else parameters.threshold
        self._suite = parameters.suite
        check_threshold(self._aggregators, self._threshold)
        self.parameters: Mapping[str, Any] = parameters.model_dump() | {"threshold": self._threshold}
        self._sharing = Replication(self.helpers(), self._threshold)

    @property
    def guarantees(self) -> Guarantees:
        k, t = self._aggregators, self._threshold
        each = self._sharing.each
        dealt = "one uniform share" if each == 1 else f"{each} uniform shares"
        return Guarantees(
            protection=self._protection(),
            adversary="passive",
            collusion=f"any {t - 1} of the {k} aggregators learn no single update"
            + (f", nor do all {k - 1} without the server" if t < k else ""),
            alpha=3,
            sees={
                "server": ("one uniform share of every client", "who contributed", "the sum"),
                "aggregators": (f"{dealt} of every client", "who contributed"),
                "clients": ("nothing",),
            },
            key_holder="nobody alone; "
            + (f"all {k} aggregators" if t == k else f"the server and {t - 1} of the {k - 1} other aggregators")
            + " together could open everything",
            dropouts="a client may vanish at any step, the sum of the others is exact; "
            + (
                "a silent aggregator ends the round with a named abort"
                if t == k
                else f"so may {k - t} of the {k - 1} aggregators beside the server; one more ends the round "
                "with a named abort"
            ),
            exactness="the integer sum is exact",
            two_specs="aggregators refuse messages of another spec, and leave where another was shown another cohort",
            limitations=(*self._limitations(), "one malicious client can set the sum"),
        )

    def _protection(self) -> str:
        k, t = self._aggregators, self._threshold
        if t == k:
            return f"additive secret sharing over {k} aggregators (the server is one), {self._suite} streams"
        needed = f"the server and {t - 1} of the {k - 1} others are needed"
        return f"replicated secret sharing over {k} aggregators ({needed}), {self._suite} streams"

    def _limitations(self) -> Sequence[str]:
        k, t = self._aggregators, self._threshold
        if t == k:
            return "an aggregator that adds wrongly is not detected", "all aggregators together see every update"
        found = (
            "an aggregator that adds wrongly is detected only where another that is not lost holds the same share "
            "and adds rightly; the server's own adding is not checked",
            f"the server and {t - 1} of the other aggregators together see every update",
        )
        if 2 * (t - 1) > k - 1:
            return found
        return (
            *found,
            "a server that departs from the protocol and declares live aggregators absent can have two sets of "
            "clients opened, and learn their difference",
        )

    def helpers(self) -> Sequence[PartyId]:
        return tuple(f"aggregator-{number}" for number in range(1, self._aggregators))

    def check(self, spec: RoundSpec) -> None:
        if set(spec.roster.helpers) != set(self.helpers()):
            raise Refused(f"smpc: expected the helpers {', '.join(self.helpers())}")
        shares = self._sharing.each
        if (most := shares * spec.encoding.wire_bytes(spec.layout.size)) > MAX_BODY_BYTES:
            raise Refused(
                f"smpc: the {shares} shares that an aggregator holds take {most} bytes, a frame has {MAX_BODY_BYTES}"
            )

    def traffic(self, spec: RoundSpec) -> Traffic:
        helpers, clients = len(self.helpers()), len(spec.roster.clients)
        each = self._sharing.each
        vector = spec.encoding.wire_bytes(spec.layout.size)
        seeds = HEADER_BYTES + each * SEED_BYTES + ENVELOPE_OVERHEAD
        members = HEADER_BYTES + set_bytes(clients)
        agree = HEADER_BYTES + 32
        sums, most = helpers * (HEADER_BYTES + vector), 1
        if self._sharing.replicated:
            shares, assigned = len(self._sharing.holders), self._sharing.assign(self.helpers())
            checks = helpers * (clients * each * MARK_BYTES + HEADER_BYTES + each * DIGEST_BYTES)
            asks = len(assigned) * HEADER_BYTES + shares
            sums = checks + asks + len(assigned) * HEADER_BYTES + shares * vector
            most = max(map(len, assigned.values()))
        return Traffic(
            client_upload=helpers * seeds + HEADER_BYTES + vector,
            client_download=helpers * (HEADER_BYTES + 32) + HEADER_BYTES,
            helpers=helpers * (clients * (HEADER_BYTES + 32 + seeds) + 2 * members + 2 * (helpers - 1) * agree) + sums,
            server_memory=spec.encoding.length(spec.layout.size) * spec.encoding.ring.itemsize + most * vector,
        )

    def session(self, spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        if party.name == SERVER:
            return resume(AdditiveServer(spec, party, threshold=self._threshold), state)
        role = AdditiveHelper if party.name in spec.roster.helpers else AdditiveClient
        return resume(role(spec, party, suite=self._suite, threshold=self._threshold), state)
