"""What every backend of this package has in common: helpers, traffic, and which session each party runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

from he.key_setup import HOLDER, HolderSetup, LeaderSetup, PublicKeySetup, SecretKeySetup, ServerSharedSetup, leader
from he.rounds import UPLOAD_PARTS, EncryptedClient, EncryptedServer, SumHolder
from he.scheme import PublicScheme, Scheme
from secagg.errors import Refused
from secagg.frames import HEADER_BYTES
from secagg.identity import SERVER, PartyId
from secagg.protocol import Party, Session, Traffic
from secagg.session import resume
from secagg.settings import Settings
from secagg.spec import RoundSpec


class KeyedParameters(Settings):
    """Parameters of every backend here: who holds the secret key.

    Attributes:
        key_mode: "holder", a party of its own, or "shared" by all clients.
        acknowledge_shared_key: says that the server and one client together may read everything.
    """

    key_mode: Literal["holder", "shared"] = "holder"
    acknowledge_shared_key: bool = False


class EncryptedSum:
    """A backend around a `Scheme`; a subclass adds its name, its guarantees and its own checks of a spec."""

    kind: ClassVar[Literal["sum"]] = "sum"
    name: str
    has_setup = True

    def __init__(self, parameters: KeyedParameters, scheme: Scheme) -> None:
        self.parameters: Mapping[str, Any] = parameters.model_dump()
        self.scheme = scheme
        self.shared = parameters.key_mode == "shared"
        if self.shared and not parameters.acknowledge_shared_key:
            raise Refused(
                f"backend {self.name!r}: key_mode 'shared' gives every client the secret key: the server and any one "
                "client together read every update; set acknowledge_shared_key = true to accept that"
            )

    def helpers(self) -> Sequence[PartyId]:
        return () if self.shared else (HOLDER,)

    def check(self, spec: RoundSpec) -> None:
        if tuple(spec.roster.helpers) != tuple(self.helpers()):
            raise Refused(f"{self.name}: expected the helpers {', '.join(self.helpers()) or 'none'}")
        if spec.encoding.modulus_bits != 32:
            raise Refused(
                f"{self.name}: modulus_bits is {spec.encoding.modulus_bits}, a slot holds 32 bits; set it to 32"
            )

    def traffic(self, spec: RoundSpec) -> Traffic:
        length = spec.encoding.length(spec.layout.size)
        upload = HEADER_BYTES + self.scheme.fresh_bytes(length)
        total = HEADER_BYTES + UPLOAD_PARTS.size + len(spec.roster.clients) * HEADER_BYTES
        total += self.scheme.sum_bytes(length)
        result = HEADER_BYTES + length * spec.encoding.ring.itemsize
        memory = self.scheme.sum_memory(length)
        if self.shared:
            return Traffic(client_upload=upload, client_download=total, server_memory=memory)
        return Traffic(upload, 0, holder_download=total, helpers=total + result, server_memory=memory)

    def session(self, spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        if spec.phase == "setup":
            return self._setup_session(spec, party, state)
        return self._round_session(spec, party, setup, state)

    def _setup_session(self, spec: RoundSpec, party: Party, state: bytes) -> Session:
        if not self.shared:
            scheme = cast("PublicScheme", self.scheme)  # a subclass gives one without public keys to a shared key only
            if party.name == HOLDER:
                return resume(HolderSetup(spec, party, scheme), state)
            return resume(PublicKeySetup(spec, party, scheme), state)
        if party.name == SERVER:
            return resume(ServerSharedSetup(spec, party), state)
        if party.name == leader(spec):
            return resume(LeaderSetup(spec, party, self.scheme), state)
        return resume(SecretKeySetup(spec, party, self.scheme), state)

    def _round_session(self, spec: RoundSpec, party: Party, setup: bytes, state: bytes) -> Session:
        if party.name == SERVER:
            return resume(EncryptedServer(spec, party, self.scheme, setup), state)
        if party.name == HOLDER and not self.shared:
            return resume(SumHolder(spec, party, self.scheme, setup), state)
        return resume(EncryptedClient(spec, party, self.scheme, setup), state)
