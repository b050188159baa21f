"""`verified = true`: a round in which the key holder adds the signed ciphertexts itself, and opens only that sum.

    4 UPLOAD   client -> holder, relayed by the server      ciphertexts, sealed to the holder
    6 RESULT   holder -> server                             signed headers of the contributions, the integer sum

There is no step in which the server shows the holder a ciphertext: a probe such as (0, Delta), or one client's
ciphertext in place of the sum, has no place to go. Uploads are sealed to the holder, each under its sender's name, for
two reasons. A colluding client can craft a ciphertext that brings the key out in the sum: a server that has no
ciphertext has no use for it. And a colluder could send another client's ciphertexts as its own, to have that update
counted many times over.

Guarantee: against an active server and clients that send what they like, as long as the holder is honest, nothing of
an honest client's update is learnt but the sum it stands in, of as many clients as the minimum cohort at least. The
holder has the key and every ciphertext: a curious one alone reads every update.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from he.key_setup import HOLDER, setup_fields
from he.residues import Malformed
from he.rounds import RESULT, UPLOAD, EncryptedRound, open_once
from he.scheme import Scheme
from secagg.errors import Rejected
from secagg.fixedpoint import Integers
from secagg.identity import SERVER, PartyId
from secagg.once import Once
from secagg.protocol import Party, SecureSum, Send
from secagg.sealing import ENVELOPE_OVERHEAD, Tampered, seal, unseal
from secagg.spec import RoundSpec


class _VerifiedRound(EncryptedRound):
    """What the roles share: uploads are sealed, each to its round and its sender."""

    @property
    def upload_bytes(self) -> int:
        return super().upload_bytes + ENVELOPE_OVERHEAD

    def envelope_context(self, client: PartyId) -> bytes:
        """What an envelope is bound to. With the sender in it, nobody can send it on as their own contribution."""
        return self.spec.digest + self.spec.roster.fingerprints[client]


class VerifiedClient(_VerifiedRound):
    """Encrypts its integers and seals the ciphertexts to the holder."""

    def __init__(self, spec: RoundSpec, party: Party, scheme: Scheme, setup: bytes) -> None:
        super().__init__(spec, party, scheme)
        self._encryptor = scheme.encryptor(setup_fields(spec, setup, scheme)["key"], clients=len(self.clients))

    @property
    def wants_input(self) -> bool:
        return True

    def protect(self, integers: Integers) -> Iterable[Send]:
        ciphertexts = b"".join(self._encryptor.encrypt(integers))
        context = self.envelope_context(self.party.name)
        sealed = seal(ciphertexts, self.peer(HOLDER).agreement, context=context, rng=self.party.rng)
        return (self.send(HOLDER, UPLOAD, sealed),)


class VerifyingHolder(_VerifiedRound):
    """Adds ciphertexts as they arrive, and opens its own sum, once."""

    def __init__(self, spec: RoundSpec, party: Party, scheme: Scheme, setup: bytes, opened: Once) -> None:
        super().__init__(spec, party, scheme)
        self._opened = opened
        self._decryptor = scheme.decryptor(setup_fields(spec, setup, scheme)["key"], spec, rng=party.rng)
        self._sum = scheme.empty_sum(self.length)
        self.open_step(UPLOAD, self.clients, limit=self.upload_bytes)

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        try:
            self._sum.fold(unseal(body, self.party.identity.agreement_key, context=self.envelope_context(sender)))
        except (Malformed, Tampered) as error:
            raise Rejected(sender, f"ciphertext: {error}") from None
        return ()

    def complete(self, step: int) -> Iterable[Send]:
        signed = self.headers(UPLOAD)
        self.require_cohort(signed)
        open_once(self._opened, self.spec)
        integers = self.decrypt(self._sum.to_bytes(), signed, self._decryptor)
        return [self.send(SERVER, RESULT, self.with_evidence(signed, self.ring_sum().to_wire(integers)))]

    def store(self) -> dict[str, Any]:
        return {"count": self._sum.count, "sum": self._sum.state() if self._sum.count else b""}

    def load(self, fields: dict[str, Any]) -> None:
        if fields["count"]:
            self._sum.restore(fields["sum"], count=fields["count"])


class VerifiedServer(_VerifiedRound):
    """Relays, and takes the holder's sum with the signed headers that show whose contributions are in it."""

    def __init__(self, spec: RoundSpec, party: Party, scheme: Scheme, setup: bytes) -> None:
        super().__init__(spec, party, scheme)
        setup_fields(spec, setup, scheme)
        self._signed: dict[PartyId, bytes] = {}
        self.open_step(RESULT, [HOLDER], limit=self.evidence_limit(self.ring_sum().wire_bytes))

    @property
    def evidence(self) -> Mapping[PartyId, bytes]:
        return self._signed

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        opened = self.ring_sum()
        signed, integers = self.read_evidence(sender, body, opened.wire_bytes)
        if len(signed) < self.spec.minimum_cohort:
            raise Rejected(sender, f"a sum of {len(signed)} clients, the minimum cohort is {self.spec.minimum_cohort}")
        opened.fold(integers)
        self._signed = signed
        self.result = SecureSum.of(opened.signed(), sorted(signed), self.spec.encoding)
        return ()

    def complete(self, step: int) -> Iterable[Send]:
        self.require_result()
        return ()

    def store(self) -> dict[str, Any]:
        return {"signed": [[name, header] for name, header in self._signed.items()]}

    def load(self, fields: dict[str, Any]) -> None:
        self._signed = dict(fields["signed"])
