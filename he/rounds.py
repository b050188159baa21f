"""A round of an encrypted sum that the server adds: client, server and key holder. The steps are in `he.ckks.backend`.

A ciphertext has exactly one valid length for a spec, its residues are checked in numpy, and what SEAL reads is
rebuilt locally (`he.sums`): no byte that a peer chose reaches SEAL's parser as a header.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from he.key_setup import HOLDER, setup_fields
from he.residues import Malformed
from he.scheme import Decryptor, Scheme
from secagg import frames
from secagg.errors import Aborted, Refused, Rejected
from secagg.fixedpoint import Integers
from secagg.frames import HEADER_BYTES
from secagg.identity import SERVER, PartyId
from secagg.once import Once
from secagg.protocol import Party, SecureSum, Send
from secagg.ringsum import RingSum, WrongLength
from secagg.session import RoundSession
from secagg.spec import RoundSpec

UPLOAD, SUM, RESULT = 4, 5, 6
UPLOAD_PARTS = struct.Struct(">I")  # in front of a sum: how many signed headers come before it


class EncryptedRound(RoundSession):
    """What the roles share: the length of vectors, and how evidence stands in front of a sum on the wire."""

    def __init__(self, spec: RoundSpec, party: Party, scheme: Scheme) -> None:
        super().__init__(spec, party)
        self.scheme = scheme

    @property
    def length(self) -> int:
        return self.spec.encoding.length(self.spec.layout.size)

    @property
    def upload_bytes(self) -> int:
        """The exact length of an upload's body."""
        return self.scheme.fresh_bytes(self.length)

    def ring_sum(self) -> RingSum:
        """An empty sum of integers, of the round's encoding and length."""
        return RingSum(self.spec.encoding, self.length)

    def decrypt(self, ciphertexts: bytes | memoryview, contributors: Collection[PartyId], key: Decryptor) -> Integers:
        """The integer sum, at most one attempt in a session (C5).

        Raises:
            Aborted: the ciphertexts are no honest sum. There is no second attempt.
        """
        try:
            totals = key.decrypt(ciphertexts, length=self.length, clients=len(contributors))
        except (Malformed, Refused) as error:
            raise Aborted(f"{error}; nothing was revealed") from None
        return totals.astype(self.spec.encoding.dtype)

    def with_evidence(self, signed: Mapping[PartyId, bytes], content: bytes | memoryview) -> bytes:
        """The contributors' signed headers, and `content` behind them."""
        return b"".join([UPLOAD_PARTS.pack(len(signed)), *signed.values(), content])

    def evidence_limit(self, content_bytes: int) -> int:
        """The longest body that `with_evidence` makes of so much content."""
        return evidence_bytes(len(self.clients)) + content_bytes

    def read_evidence(
        self, sender: PartyId, body: memoryview, content_bytes: int
    ) -> tuple[dict[PartyId, bytes], memoryview]:
        """The clients' signed headers in front of `content_bytes` of content, by client, and the content.

        Raises:
            Rejected: the body cannot be read, or a header is not that of an upload to this round by a client of its
                own. Nothing of the content was looked at.
        """
        count = UPLOAD_PARTS.unpack_from(body)[0] if len(body) >= UPLOAD_PARTS.size else 0
        start = evidence_bytes(count)
        if count > len(self.clients) or len(body) != start + content_bytes:
            raise Rejected(sender, f"a sum of {len(body)} bytes with {count} signed headers has a wrong length")
        names = {self.spec.roster.fingerprints[name]: name for name in self.clients}
        contributors: dict[PartyId, bytes] = {}
        for place in range(UPLOAD_PARTS.size, start, HEADER_BYTES):
            try:
                header = frames.Header.from_bytes(body[place : place + HEADER_BYTES])
            except frames.Malformed as error:
                raise Rejected(sender, f"evidence: {error}") from None
            client = names.get(header.sender)
            if client is None or client in contributors:
                raise Rejected(sender, "evidence: a header of no client of this round, or a client counted twice")
            if (header.spec, header.step, header.recipient, header.length) != (
                self.spec.digest,
                UPLOAD,
                self.spec.roster.fingerprints[self.spec.uploads_to],
                self.upload_bytes,
            ):
                raise Rejected(sender, f"evidence: {client!r} signed another spec, step, recipient or length")
            if not self.peer(client).verify(header.signature, header.signed_bytes()):
                raise Rejected(sender, f"evidence: the header is not signed by {client!r}")
            contributors[client] = header.to_bytes()
        return contributors, body[start:]

    def require_result(self) -> None:
        """At the server. Raises `Aborted` unless the holder has answered."""
        if self.result is None:
            raise Aborted(f"{HOLDER!r} is silent, and only it can open the sum; nothing was revealed")


class _SumOpener(EncryptedRound):
    """Whoever has a key: the server shows it a sum, behind the contributors' signed headers."""

    def before_opening(self) -> None:
        """Raise `Aborted` if nothing may be opened any more. Clients that share a key are bound by no such rule."""

    @property
    def sum_limit(self) -> int:
        """The longest body of a SUM."""
        return self.evidence_limit(self.scheme.sum_bytes(self.length))

    def open_sum(self, sender: PartyId, body: memoryview, key: Decryptor) -> tuple[Integers, list[PartyId]]:
        """Check the evidence of a sum, then decrypt it: the sum, and whose it is, sorted.

        Raises:
            Rejected: as `read_evidence`.
            Aborted: as `decrypt`, or too few clients signed.
        """
        signed, ciphertexts = self.read_evidence(sender, body, self.scheme.sum_bytes(self.length))
        self.require_cohort(signed)
        self.before_opening()
        return self.decrypt(ciphertexts, signed, key), sorted(signed)


class EncryptedClient(_SumOpener):
    """Encrypts its integers; under a shared key it opens the sum as well."""

    def __init__(self, spec: RoundSpec, party: Party, scheme: Scheme, setup: bytes) -> None:
        super().__init__(spec, party, scheme)
        key = setup_fields(spec, setup, scheme)["key"]
        self._encryptor = scheme.encryptor(key, clients=len(self.clients))
        self._decryptor: Decryptor | None = None
        if scheme.key_mode == "public":
            return
        self._decryptor = scheme.decryptor(key, spec, rng=party.rng)
        self.open_step(SUM, [SERVER], limit=self.sum_limit, awaited=False)

    @property
    def wants_input(self) -> bool:
        return True

    def protect(self, integers: Integers) -> Iterable[Send]:
        return (self.send(SERVER, UPLOAD, *self._encryptor.encrypt(integers)),)

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        if self._decryptor is not None:
            self.result = SecureSum.of(*self.open_sum(sender, body, self._decryptor), self.spec.encoding)
        return ()


class EncryptedServer(EncryptedRound):
    """Adds ciphertexts as they arrive, and has the sum opened by whoever holds the key."""

    def __init__(self, spec: RoundSpec, party: Party, scheme: Scheme, setup: bytes) -> None:
        super().__init__(spec, party, scheme)
        setup_fields(spec, setup, scheme)
        self._has_holder = scheme.key_mode == "public"
        self._sum = scheme.empty_sum(self.length)
        self.open_step(UPLOAD, self.clients, limit=self.upload_bytes)

    @property
    def evidence(self) -> Mapping[PartyId, bytes]:
        return self.headers(UPLOAD)

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        if step == RESULT:
            self._take_result(sender, body)
            return ()
        try:
            self._sum.fold(body)
        except Malformed as error:
            raise Rejected(sender, f"ciphertext: {error}") from None
        return ()

    def complete(self, step: int) -> Iterable[Send]:
        if step == RESULT:
            self.require_result()
            return ()
        self.require_cohort(self.headers(UPLOAD))
        if not self._has_holder:
            return self._sums()
        self.open_step(RESULT, [HOLDER], limit=self.ring_sum().wire_bytes)
        return [self.send(HOLDER, SUM, self._signed_sum())]

    def remake(self) -> Iterable[Send]:
        """Under a shared key the sum goes to every client: too much to keep, and made anew after a restart."""
        return () if self._has_holder or UPLOAD not in self._closed else self._sums()

    def store(self) -> dict[str, Any]:
        return {"count": self._sum.count, "sum": self._sum.state() if self._sum.count else b""}

    def load(self, fields: dict[str, Any]) -> None:
        if fields["count"]:
            self._sum.restore(fields["sum"], count=fields["count"])

    def _sums(self) -> Iterator[Send]:
        body = self._signed_sum()
        return (self.send(client, SUM, body) for client in sorted(self.headers(UPLOAD)))

    def _signed_sum(self) -> bytes:
        """The contributors' signed headers, and the sum of their ciphertexts."""
        return self.with_evidence(self.headers(UPLOAD), self._sum.to_bytes())

    def _take_result(self, sender: PartyId, body: memoryview) -> None:
        opened = self.ring_sum()
        try:
            opened.fold(body)
        except WrongLength as error:
            raise Rejected(sender, str(error)) from None
        self.result = SecureSum.of(opened.signed(), self.heard(UPLOAD), self.spec.encoding)


class SumHolder(_SumOpener):
    """Opens one sum in a round, when enough clients have signed contributions to it under this spec."""

    def __init__(self, spec: RoundSpec, party: Party, scheme: Scheme, setup: bytes, opened: Once) -> None:
        super().__init__(spec, party, scheme)
        self._opened = opened
        self._decryptor = scheme.decryptor(setup_fields(spec, setup, scheme)["key"], spec, rng=party.rng)
        self.open_step(SUM, [SERVER], limit=self.sum_limit, awaited=False)

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        integers, _ = self.open_sum(sender, body, self._decryptor)
        return [self.send(SERVER, RESULT, self.ring_sum().to_wire(integers))]

    def before_opening(self) -> None:
        open_once(self._opened, self.spec)


def open_once(opened: Once, spec: RoundSpec) -> None:
    """One opening under a key for each number of a round, whatever the spec, the sum and the session (C6).

    Two sums of one round that differ by one client would show its update, and a server has the frames for both.

    Raises:
        Aborted: this number was opened before, or that it is opened now cannot be noted.
    """
    if not opened.first(f"opened {spec.setup} {spec.round}".encode()):
        raise Aborted(f"a sum of round {spec.round} was opened under this key before; nothing was revealed")


def evidence_bytes(count: int) -> int:
    """Bytes of `count` signed headers in front of a sum."""
    return UPLOAD_PARTS.size + count * HEADER_BYTES
