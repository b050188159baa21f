"""What every backend of this package has in common: helpers, traffic, and which session each party runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, cast

from he.guarantees import Mode
from he.key_setup import HOLDER, HolderSetup, LeaderSetup, PublicKeySetup, SecretKeySetup, ServerSharedSetup, leader
from he.rounds import EncryptedClient, EncryptedServer, SumHolder, evidence_bytes
from he.scheme import PublicScheme, Scheme
from he.verified import VerifiedClient, VerifiedServer, VerifyingHolder
from secagg.errors import Refused
from secagg.frames import HEADER_BYTES
from secagg.identity import SERVER, PartyId
from secagg.once import Once
from secagg.protocol import Party, Session, Traffic
from secagg.sealing import ENVELOPE_OVERHEAD
from secagg.session import RoundSession, resume
from secagg.settings import Settings
from secagg.spec import RoundSpec


class KeyedParameters(Settings):
    """Parameters of every backend here: who holds the secret key, and who adds.

    Attributes:
        key_mode: "holder", a party of its own, or "shared" by all clients.
        acknowledge_shared_key: says that the server and one client together may read everything.
        verified: the holder receives every signed ciphertext and adds them itself (`he.verified`).
    """

    key_mode: Literal["holder", "shared"] = "holder"
    acknowledge_shared_key: bool = False
    verified: bool = False


class EncryptedSum:
    """A backend around a `Scheme`; a subclass adds its name, its guarantees and its own checks of a spec.

    `opened` remembers which rounds its key holder has opened, in memory. A holder that may restart gives it a folder.
    """

    kind: ClassVar[Literal["sum"]] = "sum"
    name: str
    has_setup = True

    def __init__(self, parameters: KeyedParameters, scheme: Scheme) -> None:
        self.parameters: Mapping[str, Any] = parameters.model_dump()
        self.scheme = scheme
        self.opened = Once()
        self.mode: Mode = "verified" if parameters.verified else parameters.key_mode
        self.shared = parameters.key_mode == "shared"
        if self.shared and parameters.verified:
            raise Refused(f"backend {self.name!r}: verified = true needs a key holder; set key_mode = 'holder'")
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
        clients = len(spec.roster.clients)
        upload = HEADER_BYTES + self.scheme.fresh_bytes(length)
        vector = length * spec.encoding.ring.itemsize
        result = HEADER_BYTES + vector
        if self.mode == "verified":
            upload += ENVELOPE_OVERHEAD
            helpers = clients * upload + evidence_bytes(clients) + result
            return Traffic(upload, 0, holder_download=clients * upload, helpers=helpers, server_memory=vector)
        total = HEADER_BYTES + evidence_bytes(clients) + self.scheme.sum_bytes(length)
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
        verified = self.mode == "verified"
        role: Callable[..., RoundSession] = VerifiedClient if verified else EncryptedClient
        if party.name == SERVER:
            role = VerifiedServer if verified else EncryptedServer
        elif party.name == HOLDER and not self.shared:
            role = partial(VerifyingHolder if verified else SumHolder, opened=self.opened)
        return resume(role(spec, party, self.scheme, setup), state)
