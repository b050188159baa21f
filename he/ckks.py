"""`ckks`: clients encrypt their integers, the server adds ciphertexts, and only a key opens the sum.

Two key roles. In `key_mode = "holder"` (default) a party of its own makes the keys; clients encrypt under its
public key, and it decrypts a sum only when enough clients have signed contributions to it under one spec. In
`key_mode = "shared"` the first client makes one secret key and seals it to the others: half the bytes and no
helper, but the server and any *one* client together open everything, so it must be acknowledged.

    set-up  1 PUBLIC_KEY  holder -> clients, server       or 2 SECRET_KEY  first client -> clients, sealed
                                                             3 KEY_ID      first client -> server
    round   4 UPLOAD      client -> server                ciphertexts
            5 SUM         server -> holder (or clients)   signed headers of the contributions, and their sum
            6 RESULT      holder -> server                the integer sum

Guarantee: against a passive server that does not collude with the key holder (shared: with no client), the
updates are semantically secure under ring-LWE at 128 bits. What the holder opens is flooded with noise before
anything else is done to it, for at most `query_budget` rounds under one key (`he.flooding`), and then rounded: the
sum is exact but for a probability of 2^-40. Under a shared key a client opens sums for itself, without flooding and
rounded (`he.noise`); those are not for publication.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from he.ckks_rounds import UPLOAD_PARTS, CkksClient, CkksHolder, CkksServer
from he.ckks_setup import HOLDER, HolderSetup, LeaderSetup, PublicKeySetup, SecretKeySetup, ServerSharedSetup, leader
from he.flooding import MIN_BITS, Flooding, QueryBudget, flooding
from he.noise import require_exact
from he.parameters import COMPACT, PRESETS, Parameters, preset
from he.rings import RINGS, ROOMY, RingParameters, ring
from secagg.errors import Refused
from secagg.frames import HEADER_BYTES
from secagg.guarantees import Guarantees
from secagg.identity import SERVER, PartyId
from secagg.protocol import Party, Session, Traffic
from secagg.session import resume
from secagg.settings import Settings
from secagg.spec import RoundSpec


class CkksParameters(Settings):
    """Parameters of `ckks`.

    Attributes:
        key_mode: who holds the secret key.
        acknowledge_shared_key: has to be true for `key_mode = "shared"`.
        preset: ring and modulus; "" is `n8192-q96` with a holder and `n4096-q56` under a shared key.
        flooding_bits: s of `he.flooding`, of use with a holder only.
        query_budget: how many rounds a holder's key opens.
    """

    key_mode: Literal["holder", "shared"] = "holder"
    acknowledge_shared_key: bool = False
    preset: str = ""
    flooding_bits: Annotated[int, Field(ge=MIN_BITS, le=128)] = MIN_BITS
    query_budget: Annotated[int, Field(ge=1, le=1 << 20)] = 1000


class Ckks:
    """The backend; see the module's text."""

    kind: ClassVar[Literal["sum"]] = "sum"
    Parameters: ClassVar[type[Settings]] = CkksParameters
    name = "ckks"
    has_setup = True

    def __init__(self, parameters: CkksParameters) -> None:
        self._shared = parameters.key_mode == "shared"
        self._preset: Parameters | RingParameters
        if self._shared:
            self._preset = preset(parameters.preset or COMPACT.name)
        else:
            self._preset = flooded_preset(parameters.preset or ROOMY.name)
        self._bits = parameters.flooding_bits
        self._budget = QueryBudget(parameters.query_budget)
        self.parameters: Mapping[str, Any] = parameters.model_dump() | {"preset": self._preset.name}
        if self._shared and not parameters.acknowledge_shared_key:
            raise Refused(
                "backend 'ckks': key_mode 'shared' gives every client the secret key: the server and any one client "
                "together read every update; set acknowledge_shared_key = true to accept that"
            )

    @property
    def guarantees(self) -> Guarantees:
        ring = f"N={self._preset.degree}, {self._preset.modulus_bits} bits of modulus, 128-bit security"
        common: dict[str, Any] = {
            "protection": f"CKKS homomorphic encryption ({ring}), "
            + ("one secret key shared by all clients" if self._shared else "public key of a key holder"),
            "adversary": "passive",
            "alpha": 3,
            "exactness": "rounded to the integer grid: the integer sum, exact except with probability 2^-40"
            + ("" if self._shared else f", flooded beforehand with noise of {self._bits} statistical bits"),
            "two_specs": "the key refuses contributions whose signed headers name different specs; a server that "
            "lies about what it added is not detected",
        }
        if self._shared:
            return Guarantees(
                **common,
                collusion="none: the server and any one client together read every update",
                sees={
                    "server": ("one ciphertext of every client", "who contributed"),
                    "clients": ("the secret key", "the sum", "who contributed"),
                },
                key_holder="every client",
                dropouts="a silent client is left out; the sum of the others is exact",
                result_at="clients",
                limitations=(
                    "one curious client at the server's side ends all secrecy",
                    "clients open sums without flooding: to publish one, or more of it than is rounded, needs flooding",
                    "crafted ciphertexts",
                ),
            )
        return Guarantees(
            **common,
            collusion="clients may collude with the server; the key holder may not",
            sees={
                "server": ("one ciphertext of every client", "who contributed", "the sum"),
                "holder": ("the sum", "who contributed"),
                "clients": ("nothing",),
            },
            key_holder="the key holder, a party of its own",
            dropouts="a silent client is left out; a silent key holder ends the round with a named abort",
            limitations=(
                "the server and the key holder together read every update",
                "the holder cannot tell what was added: a server that departs from the protocol has it open one client",
                "noise hides the errors of honestly made ciphertexts, not what crafted ones are made to err by",
                f"a key opens {self._budget.rounds} rounds; a holder put back to an earlier state can be made to open "
                "two sums in one of them",
            ),
        )

    def helpers(self) -> Sequence[PartyId]:
        return () if self._shared else (HOLDER,)

    def check(self, spec: RoundSpec) -> None:
        if tuple(spec.roster.helpers) != tuple(self.helpers()):
            raise Refused(f"ckks: expected the helpers {', '.join(self.helpers()) or 'none'}")
        if spec.encoding.modulus_bits != 32:
            raise Refused(f"ckks: modulus_bits is {spec.encoding.modulus_bits}, a slot holds 32 bits; set it to 32")
        if isinstance(self._preset, Parameters):
            require_exact(self._preset, "symmetric", clients=len(spec.roster.clients))
            return
        self._noise(spec, self._preset)
        if spec.phase == "round":
            self._budget.check(spec.round)

    def _noise(self, spec: RoundSpec, parameters: RingParameters) -> Flooding:
        """What the holder adds in this round. For every client of the roster, though fewer may have contributed."""
        return flooding(
            parameters,
            clients=len(spec.roster.clients),
            length=spec.encoding.length(spec.layout.size),
            rounds=self._budget.rounds,
            bits=self._bits,
        )

    def traffic(self, spec: RoundSpec) -> Traffic:
        length = spec.encoding.length(spec.layout.size)
        upload = HEADER_BYTES + self._preset.fresh_bytes(length, "symmetric" if self._shared else "public")
        total = HEADER_BYTES + UPLOAD_PARTS.size + len(spec.roster.clients) * HEADER_BYTES
        total += self._preset.sum_bytes(length)
        result = HEADER_BYTES + length * spec.encoding.ring.itemsize
        memory = self._preset.ciphertexts(length) * 2 * self._preset.degree * (8 if self._shared else 16)
        if self._shared:
            return Traffic(client_upload=upload, client_download=total, server_memory=memory)
        return Traffic(upload, 0, holder_download=total, helpers=total + result, server_memory=memory)

    def session(self, spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        make = self._setup_session if spec.phase == "setup" else self._round_session
        return make(spec, party, setup, state)

    def _setup_session(self, spec: RoundSpec, party: Party, setup: bytes, state: bytes) -> Session:
        if isinstance(self._preset, RingParameters):
            if party.name == HOLDER:
                return resume(HolderSetup(spec, party, self._preset), state)
            return resume(PublicKeySetup(spec, party, self._preset), state)
        if party.name == SERVER:
            return resume(ServerSharedSetup(spec, party), state)
        if party.name == leader(spec):
            return resume(LeaderSetup(spec, party, self._preset), state)
        return resume(SecretKeySetup(spec, party, self._preset), state)

    def _round_session(self, spec: RoundSpec, party: Party, setup: bytes, state: bytes) -> Session:
        if party.name == SERVER:
            return resume(CkksServer(spec, party, self._preset, setup), state)
        if party.name == HOLDER and isinstance(self._preset, RingParameters):
            noise = self._noise(spec, self._preset)
            holder = CkksHolder(spec, party, self._preset, setup, noise=noise, budget=self._budget)
            return resume(holder, state)
        return resume(CkksClient(spec, party, self._preset, setup), state)


def flooded_preset(name: str) -> RingParameters:
    """A preset for a key holder. Raises `Refused` for one without room for flooding, or an unknown one."""
    if name in PRESETS:
        raise Refused(
            f"backend 'ckks': preset {name!r} has no room for flooding and is for key_mode 'shared' alone; "
            f"with a key holder, use one of {', '.join(RINGS)}"
        )
    return ring(name)
