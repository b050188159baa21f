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
updates are semantically secure under ring-LWE at 128 bits. The decrypted sum is rounded to the integer grid and
exact but for a probability of 2^-40 (`he.noise`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from he.ckks_rounds import UPLOAD_PARTS, CkksClient, CkksHolder, CkksServer
from he.ckks_setup import HOLDER, HolderSetup, LeaderSetup, PublicKeySetup, SecretKeySetup, ServerSharedSetup, leader
from he.noise import require_exact
from he.parameters import COMPACT, KeyMode, preset
from secagg.errors import Refused
from secagg.frames import HEADER_BYTES
from secagg.guarantees import Guarantees
from secagg.identity import SERVER, PartyId
from secagg.protocol import Party, Session, Traffic
from secagg.session import resume
from secagg.settings import Settings
from secagg.spec import RoundSpec

EXPERIMENTAL = "the key holder does not flood the decrypted sum with noise yet: crafted ciphertexts are not withstood"


class CkksParameters(Settings):
    """Parameters of `ckks`: who holds the secret key, and the preset of ring and modulus."""

    key_mode: Literal["holder", "shared"] = "holder"
    acknowledge_shared_key: bool = False
    preset: str = COMPACT.name


class Ckks:
    """The backend; see the module's text."""

    kind: ClassVar[Literal["sum"]] = "sum"
    Parameters: ClassVar[type[Settings]] = CkksParameters
    name = "ckks"
    has_setup = True

    def __init__(self, parameters: CkksParameters) -> None:
        self.parameters: Mapping[str, Any] = parameters.model_dump()
        self._preset = preset(parameters.preset)
        self._shared = parameters.key_mode == "shared"
        self._mode: KeyMode = "symmetric" if self._shared else "public"
        if self._shared and not parameters.acknowledge_shared_key:
            raise Refused(
                "backend 'ckks': key_mode 'shared' gives every client the secret key: the server and any one client "
                "together read every update; set acknowledge_shared_key = true to accept that"
            )

    @property
    def guarantees(self) -> Guarantees:
        ring = f"N={self._preset.degree}, one prime of {self._preset.modulus_bits} bits, 128-bit security"
        common: dict[str, Any] = {
            "protection": f"CKKS homomorphic encryption ({ring}), "
            + ("one secret key shared by all clients" if self._shared else "public key of a key holder"),
            "adversary": "passive",
            "alpha": 3,
            "exactness": "rounded to the integer grid: exact except with probability 2^-40",
            "two_specs": "the key refuses contributions whose signed headers name different specs; a server that "
            "lies about what it added is not detected",
            "experimental": EXPERIMENTAL,
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
                limitations=("one curious client at the server's side ends all secrecy",),
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
                "a server that submits one client's ciphertext as the sum, with everybody's signed headers, reads "
                "that client",
            ),
        )

    def helpers(self) -> Sequence[PartyId]:
        return () if self._shared else (HOLDER,)

    def check(self, spec: RoundSpec) -> None:
        if tuple(spec.roster.helpers) != tuple(self.helpers()):
            raise Refused(f"ckks: expected the helpers {', '.join(self.helpers()) or 'none'}")
        if spec.encoding.modulus_bits != 32:
            raise Refused(f"ckks: modulus_bits is {spec.encoding.modulus_bits}, a slot holds 32 bits; set it to 32")
        require_exact(self._preset, self._mode, clients=len(spec.roster.clients))

    def traffic(self, spec: RoundSpec) -> Traffic:
        length = spec.encoding.length(spec.layout.size)
        upload = HEADER_BYTES + self._preset.fresh_bytes(length, self._mode)
        total = HEADER_BYTES + UPLOAD_PARTS.size + len(spec.roster.clients) * HEADER_BYTES
        total += self._preset.sum_bytes(length)
        result = HEADER_BYTES + length * spec.encoding.ring.itemsize
        memory = self._preset.ciphertexts(length) * 2 * self._preset.degree * 8
        if self._shared:
            return Traffic(client_upload=upload, client_download=total, server_memory=memory)
        return Traffic(upload, 0, holder_download=total, helpers=total + result, server_memory=memory)

    def session(self, spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        make = self._setup_session if spec.phase == "setup" else self._round_session
        return make(spec, party, setup, state)

    def _setup_session(self, spec: RoundSpec, party: Party, setup: bytes, state: bytes) -> Session:
        if not self._shared:
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
            return resume(CkksServer(spec, party, self._preset, self._mode, setup), state)
        if party.name == HOLDER and not self._shared:
            return resume(CkksHolder(spec, party, self._preset, setup), state)
        return resume(CkksClient(spec, party, self._preset, self._mode, setup), state)
