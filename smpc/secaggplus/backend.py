"""`secaggplus`: pairwise masks that cancel in the sum, and neighbours who recover what a vanished client leaves.

Bell et al. 2020 (IACR ePrint 2020/704) over a graph of neighbours; in a complete graph it is Bonawitz et al. 2017
(IACR ePrint 2017/281). A client adds to its vector a mask for each pair with a neighbour, which the neighbour
subtracts, and a mask of its own. Each client shares among its neighbours, any `threshold` of whom recover them, the
key of its pair masks and the seed of its own mask. In the end the neighbours release of a survivor the seed, of a lost
client the key, of nobody both.

     1 ADVERTISE  client -> server   two X25519 keys of the round and a commitment, signed
    16 DRAW       server -> client   who is present, the drawers' commitments       (active, sparse graph only)
    17 REVEAL     client -> server   a drawer's secret, signed with all that        (two more steps for each new draw)
     2 GRAPH      server -> client   who is present, the reveals, the neighbours' keys
     3 SHARES     client -> server   shares sealed to the neighbours, a digest of each, a commitment to the seed
     4 DELIVER    server -> client   the neighbours' shares
     5 MASKED     client -> server   the masked vector, fresh randomness of the own mask
     6 ALIVE      server -> client   who shared, who uploaded
     7 AGREE      client -> server   signature on the ring and these sets                           (active only)
     8 QUORUM     server -> client   the signatures of `threshold` neighbours                       (active only)
     9 RELEASE    client -> server   one share of each neighbour: of the seed if alive, of the key if not

A client may vanish at any step. Before SHARES it is just not in the round; after it, it is recovered. The round ends
with the exact sum of those whose vector arrived, or with a named abort if somebody has too few neighbours left.

Guarantee, as long as at most the stated share of clients colludes with the server, except with probability 2^-40
(`smpc.secaggplus.calculator`): a passive server learns the sum of all survivors and nothing else. Every sum that an
active server can open holds two honest clients at least; in a complete graph it opens one sum, of `threshold` + 1
clients or more, and learns nothing else. Against it that takes a quorum of the roster, so that there is one graph, the
draw, the signatures, and clients that know their neighbours' identities. Vectors are not checked: one client can set
the sum, and the server can announce another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from secagg.errors import Refused
from secagg.frames import HEADER_BYTES
from secagg.guarantees import Guarantees
from secagg.identity import SERVER, PartyId
from secagg.once import Once
from secagg.protocol import Party, Session, Traffic
from secagg.session import resume
from secagg.settings import Settings
from secagg.spec import RoundSpec
from smpc.cohort import set_bytes
from smpc.secaggplus import steps
from smpc.secaggplus.calculator import share_of
from smpc.secaggplus.client import SecAggPlusClient
from smpc.secaggplus.draw import drawer_count
from smpc.secaggplus.keys import ADVERT_BYTES
from smpc.secaggplus.parameters import SecAggPlusParameters, attained, attempts, neighbourhood
from smpc.secaggplus.server import SecAggPlusServer
from smpc.secaggplus.shamir import SHARE_BYTES


class SecAggPlus:
    """The backend; see the module's text.

    `once` remembers which masks its clients have used and for which survivors they released shares, in memory. A site
    that may restart gives it a folder.
    """

    kind: ClassVar[Literal["sum"]] = "sum"
    Parameters: ClassVar[type[Settings]] = SecAggPlusParameters
    name = "secaggplus"
    has_setup = False
    sum_bits: int | None = None

    def __init__(self, parameters: SecAggPlusParameters) -> None:
        self.parameters: Mapping[str, Any] = parameters.model_dump()
        self.once = Once()
        self._parameters = parameters

    @property
    def guarantees(self) -> Guarantees:
        active = self._parameters.threat == "active"
        share = f"{self._parameters.corruption * 100:g} % of the clients"
        return Guarantees(
            protection=f"pairwise masks between neighbours and a mask of one's own, {self._parameters.suite} streams",
            adversary=self._parameters.threat,
            collusion=f"the server and up to {share} (rounded up) learn no single update"
            + (", whatever they send" if active else ", if the server follows the protocol"),
            alpha=3,
            sees={
                "server": ("a masked vector of every client", "who took part and who vanished when", "the sum"),
                "clients": ("who took part and whose vector arrived",),
            },
            key_holder="nobody; the neighbours of a client together could open its update, and release one half each",
            dropouts="a client may vanish at any step, the sum of those whose vector arrived is exact; if too few "
            "neighbours of anybody are left, the round ends with a named abort",
            exactness="the integer sum is exact",
            two_specs="masks of two specs do not cancel, and clients refuse keys that are signed for another spec",
            limitations=(
                "a sum of few clients says much of each: only its size is promised",
                "one malicious client can set the sum, or spoil it",
                "a server that announces a wrong sum is not detected",
                *(
                    (
                        "an active server may choose who counts as dropped, down to threshold + 1 clients; in a sparse "
                        "graph (over 64 clients) disjoint sums of two honest clients at least are not excluded",
                    )
                    if active
                    else ("a server that shows clients different survivors learns single updates",)
                ),
            ),
        )

    def helpers(self) -> Sequence[PartyId]:
        return ()

    def check(self, spec: RoundSpec) -> None:
        if spec.roster.helpers:
            raise Refused("secaggplus: the roster names helpers, and this backend has none")
        clients = len(spec.roster.clients)
        neighbourhood(self._parameters, roster=clients, present=clients)

    def attained(self, clients: int) -> str:
        """Degree, threshold and what they give `clients` clients, in one line."""
        return attained(self._parameters, clients)

    def traffic(self, spec: RoundSpec) -> Traffic:
        """All clients present, and one draw where the graph is sparse, from those who do not draw."""
        clients = len(spec.roster.clients)
        around = neighbourhood(self._parameters, roster=clients, present=clients)
        k, t = around.degree, around.threshold
        vector = spec.encoding.wire_bytes(spec.layout.size)
        up = [ADVERT_BYTES, steps.shares_bytes(k), vector + steps.NONCE_BYTES, steps.release_bytes(k, k)]
        down = [steps.graph_bytes(clients, 0, k), steps.deliver_bytes(k, k), 2 * set_bytes(clients)]
        if self._parameters.threat == "active":
            if attempts(self._parameters, roster=clients):
                drawers = drawer_count(clients, share_of(self._parameters.corruption, clients))
                up.append(0)
                down.append(steps.draw_bytes(clients, drawers))
                down[0] = steps.graph_bytes(clients, drawers, k)
            up.append(steps.SIGNATURE_BYTES)
            down.append(steps.quorum_bytes(k, t))
        return Traffic(
            client_upload=sum(up) + len(up) * HEADER_BYTES,
            client_download=sum(down) + len(down) * HEADER_BYTES,
            server_memory=2 * vector + clients * k * (steps.PARCEL_BYTES + SHARE_BYTES),
        )

    def session(self, spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        if party.name == SERVER:
            return resume(SecAggPlusServer(spec, party, self._parameters), state)
        return resume(SecAggPlusClient(spec, party, self._parameters, self.once), state)
