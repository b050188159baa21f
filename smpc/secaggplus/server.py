"""The server of `secaggplus`: passes on keys and shares, adds masked vectors as they come, unmasks the survivors' sum.

It sees masked vectors, sealed envelopes, and at the end one kind of share of each client. The steps and the guarantee
are written down in `smpc.secaggplus.backend`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secagg.errors import Aborted, Refused, Rejected
from secagg.identity import PartyId, agree
from secagg.protocol import Party, SecureSum, Send
from secagg.ringsum import RingSum, WrongLength
from secagg.spec import RoundSpec
from smpc.cohort import Mask, encode_mask, set_bytes
from smpc.masks import MaskStream, apply_masks
from smpc.secaggplus.draw import ATTEMPTS, LINK_BYTES, REVEAL_BYTES, commitment_of, undrawn_seed
from smpc.secaggplus.graph import Ring, shuffled
from smpc.secaggplus.keys import ADVERT_BYTES, Advert
from smpc.secaggplus.parameters import SecAggPlusParameters
from smpc.secaggplus.recovery import Releases
from smpc.secaggplus.role import (
    ADVERTISE,
    AGREE,
    ALIVE,
    DELIVER,
    DIGEST_BYTES,
    ENVELOPE_BYTES,
    GRAPH,
    KEY,
    MASKED,
    NONCE_BYTES,
    QUORUM,
    RELEASE,
    SELF,
    SHARES,
    SIGNATURE_BYTES,
    Role,
    draw_step,
    release_bytes,
    reveal_step,
    seed_commitment,
    share_digest,
    shares_bytes,
)  # fmt: skip
from smpc.secaggplus.shamir import LIMBS, PRIME, SHARE_BYTES

_MASKS_AT_ONCE = 256


class SecAggPlusServer(Role):
    """Runs the round; see the module's text. Tables are by place in the ring and slot (`smpc.secaggplus.recovery`)."""

    def __init__(self, spec: RoundSpec, party: Party, parameters: SecAggPlusParameters) -> None:
        super().__init__(spec, party, parameters)
        self._sum = RingSum(spec.encoding, self.length)
        self._adverts: dict[int, bytes] = {}
        self._attempt = 0
        self._reveals: dict[int, bytes] = {}
        self._present = np.zeros(len(self.names), bool)
        self.open_step(ADVERTISE, self.clients, limit=ADVERT_BYTES)

    @property
    def evidence(self) -> Mapping[PartyId, bytes]:
        return self.headers(MASKED)

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        if step == ADVERTISE:
            self._take_advert(sender, bytes(body))
        elif step == SHARES:
            self._take_shares(sender, body)
        elif step == MASKED:
            self._add(sender, body)
        elif step == AGREE:
            self._take_agreement(sender, bytes(body))
        elif step == RELEASE:
            self._take_release(sender, body)
        else:
            self._take_reveal(sender, bytes(body))
        return ()

    def complete(self, step: int) -> Iterable[Send]:
        # What was sent before has been answered, or its reader is absent: after a restart only the next is sent again.
        self.flushed()
        if step == ADVERTISE:
            self._present[list(self._adverts)] = True
            return self._settle_ring()
        if step == SHARES:
            return self._deliver()
        if step == MASKED:
            return self._announce()
        if step == AGREE:
            return self._pass_on_agreement()
        if step == RELEASE:
            self._unmask()
            return ()
        return self._close_draw()

    # Who is present, and in what order.

    def _take_advert(self, sender: PartyId, body: bytes) -> None:
        if len(body) != ADVERT_BYTES:
            raise Rejected(sender, f"keys of {len(body)} bytes, expected {ADVERT_BYTES}")
        advert = Advert.from_bytes(body)
        try:
            advert.check_points()
        except Refused as error:
            raise Rejected(sender, str(error)) from None
        if not advert.is_signed_by(self.peer(sender), spec=self.spec.digest):
            raise Rejected(sender, "its keys are not signed by it for this round")
        self._adverts[self.index[sender]] = body

    def _settle_ring(self) -> list[Send]:
        self.require_cohort(np.flatnonzero(self._present))
        if not self.drawn(self._present):
            return self._form_ring(undrawn_seed(self.spec.digest, self._present), b"")
        commitments = self._commitments()
        names = [self.names[one] for one in commitments]
        self.open_step(reveal_step(self._attempt), names, limit=REVEAL_BYTES)
        body = encode_mask(self._present) + b"".join(commitments.values())
        return [self.send(name, draw_step(self._attempt), body) for name in names]

    def _commitments(self) -> dict[int, bytes]:
        """The commitments of this draw's drawers, in their order."""
        drawers = self.draw(self._present, self._attempt).drawers.tolist()
        return {one: Advert.from_bytes(self._adverts[one]).commitment for one in drawers}

    def _take_reveal(self, sender: PartyId, body: bytes) -> None:
        one, commitments = self.index[sender], self._commitments()
        own = body[:LINK_BYTES]
        if len(body) != REVEAL_BYTES or commitment_of(own, self._attempt) != commitments[one]:
            raise Rejected(sender, "what it reveals is not what it committed to")
        signed = self.draw(self._present, self._attempt).signed(list(commitments.values()), own)
        if not self.peer(sender).verify(body[LINK_BYTES:], signed):
            raise Rejected(sender, "it did not sign this draw")
        self._reveals[one] = body

    def _close_draw(self) -> list[Send]:
        """Form the ring if all drawers revealed; else draw again without those who did not."""
        draw = self.draw(self._present, self._attempt)
        drawers = draw.drawers.tolist()
        lost = [one for one in drawers if one not in self._reveals]
        if not lost:
            reveals = [self._reveals[one] for one in drawers]
            seed = draw.seed(reveals, [self.peer(self.names[one]) for one in drawers])
            return self._form_ring(seed, b"".join(reveals))
        self._present[lost] = False
        self._reveals.clear()
        self._attempt += 1
        if self._attempt == ATTEMPTS:
            raise Aborted(
                f"{self.names[lost[0]]!r} left the draw of the ring, the last of {ATTEMPTS}; nothing was revealed"
            )
        return self._settle_ring()

    def _form_ring(self, seed: bytes, reveals: bytes) -> list[Send]:
        around = self.around(self._present)
        order = np.flatnonzero(self._present)
        if around.degree < order.size - 1:
            order = shuffled(order, seed)
        self._lay_tables(Ring(order, around.degree), around.threshold)
        head = encode_mask(self._present) + bytes([self._attempt]) + reveals
        adverts = np.frombuffer(b"".join(self._adverts[one] for one in order.tolist()), np.uint8)
        adverts = adverts.reshape(-1, ADVERT_BYTES)
        names = [self.names[one] for one in order.tolist()]
        self.open_step(SHARES, names, limit=shares_bytes(around.degree))
        return [
            self.send(name, GRAPH, head + adverts[self._ring.places[place]].tobytes())
            for place, name in enumerate(names)
        ]

    def _lay_tables(self, ring: Ring, threshold: int) -> None:
        clients, degree = len(ring), ring.degree
        self._ring, self._threshold = ring, threshold
        self._place = {self.names[one]: place for place, one in enumerate(ring.order.tolist())}
        self._shared = np.zeros(clients, bool)
        self._alive = np.zeros(clients, bool)
        self._agreed = np.zeros(clients, bool)
        self._envelopes = np.zeros((clients, degree, ENVELOPE_BYTES), np.uint8)
        self._digests = np.zeros((clients, degree, 2, DIGEST_BYTES), np.uint8)
        self._seed_commitments = np.zeros((clients, 32), np.uint8)
        self._nonces = np.zeros((clients, NONCE_BYTES), np.uint8)
        self._agreements = np.zeros((clients, SIGNATURE_BYTES), np.uint8)
        self._releases = Releases(ring)

    # Shares and vectors.

    def _take_shares(self, sender: PartyId, body: memoryview) -> None:
        degree, place = self._ring.degree, self._place[sender]
        if len(body) != shares_bytes(degree):
            raise Rejected(sender, f"shares of {len(body)} bytes, expected {shares_bytes(degree)}")
        data = np.frombuffer(body, np.uint8)
        digests_at = 32 + degree * ENVELOPE_BYTES
        self._seed_commitments[place] = data[:32]
        self._envelopes[place] = data[32:digests_at].reshape(degree, ENVELOPE_BYTES)
        self._digests[place] = data[digests_at:].reshape(degree, 2, DIGEST_BYTES)
        self._shared[place] = True

    def _deliver(self) -> list[Send]:
        """Hand on the envelopes. Who has too few neighbours left to be recovered is left out before it masks anything."""
        while (lonely := self._shared & (self._ring.count(self._shared) < self._threshold)).any():
            self._shared &= ~lonely
        staying = np.flatnonzero(self._shared)
        if staying.size < self.spec.minimum_cohort:
            raise Aborted(
                f"{staying.size} clients have the {self._threshold} neighbours that recovery takes, the minimum cohort "
                f"is {self.spec.minimum_cohort}; nothing was revealed"
            )
        names = [self._name(place) for place in staying.tolist()]
        self.open_step(MASKED, names, limit=self._sum.wire_bytes + NONCE_BYTES)
        sends = []
        for place, name in zip(staying.tolist(), names, strict=True):
            holders = self._ring.places[place]
            sharing = self._shared[holders]
            envelopes = self._envelopes[holders[sharing], self._ring.mirror[sharing]]
            sends.append(self.send(name, DELIVER, encode_mask(sharing) + envelopes.tobytes()))
        self._envelopes = np.zeros((0, 0, 0), np.uint8)
        return sends

    def _add(self, sender: PartyId, body: memoryview) -> None:
        vector, nonce = body[:-NONCE_BYTES], body[-NONCE_BYTES:]
        try:
            self._sum.fold(vector)
        except WrongLength as error:
            raise Rejected(sender, str(error)) from None
        self._nonces[self._place[sender]] = np.frombuffer(nonce, np.uint8)
        self._alive[self._place[sender]] = True

    # Unmasking.

    def _announce(self) -> list[Send]:
        """Tell the survivors who survived. From here on nobody else is let in."""
        self.require_cohort(np.flatnonzero(self._alive))
        self._require_recoverable(self._ring.count(self._alive))
        body = encode_mask(self._over_roster(self._shared)) + encode_mask(self._over_roster(self._alive))
        names = self._names(self._alive)
        if self.active:
            self.open_step(AGREE, names, limit=SIGNATURE_BYTES)
        else:
            self._expect_releases(names)
        return [self.send(name, ALIVE, body) for name in names]

    def _take_agreement(self, sender: PartyId, body: bytes) -> None:
        statement = self.agreed_digest(self._ring, self._over_roster(self._shared), self._over_roster(self._alive))
        if not self.peer(sender).verify(body, statement):
            raise Rejected(sender, "it did not sign the client sets of this round")
        self._agreements[self._place[sender]] = np.frombuffer(body, np.uint8)
        self._agreed[self._place[sender]] = True

    def _pass_on_agreement(self) -> list[Send]:
        """Show each survivor the signatures of `threshold` neighbours; who has fewer would release nothing."""
        asked = self._agreed & (self._ring.count(self._agreed) >= self._threshold)
        self._require_recoverable(self._ring.count(asked))
        self._expect_releases(self._names(asked))
        sends = []
        for place in np.flatnonzero(asked).tolist():
            neighbours = self._ring.places[place]
            slots = np.flatnonzero(self._agreed[neighbours])[: self._threshold]
            signing = np.zeros(self._ring.degree, bool)
            signing[slots] = True
            body = encode_mask(signing) + self._agreements[neighbours[slots]].tobytes()
            sends.append(self.send(self._name(place), QUORUM, body))
        return sends

    def _expect_releases(self, names: list[PartyId]) -> None:
        self.open_step(RELEASE, names, limit=release_bytes(self._ring.degree, self._ring.degree))

    def _take_release(self, sender: PartyId, body: memoryview) -> None:
        """Keep a client's shares, if each is the one that its owner gave it and of the kind that is due (M8)."""
        degree, place = self._ring.degree, self._place[sender]
        head = set_bytes(degree)
        held = self.read_mask(sender, body[:head], degree)
        slots = np.flatnonzero(held).tolist()
        if len(body) != release_bytes(degree, len(slots)):
            raise Rejected(sender, f"release of {len(body)} bytes for {len(slots)} shares")
        holder = self.fingerprint(int(self._ring.order[place]))
        for number, slot in enumerate(slots):
            owner = int(self._ring.places[place, slot])
            at = head + number * SHARE_BYTES
            digest = share_digest(
                self.spec.digest,
                owner=self.fingerprint(int(self._ring.order[owner])),
                holder=holder,
                kind=SELF if self._alive[owner] else KEY,
                share=bytes(body[at : at + SHARE_BYTES]),
            )
            known = self._digests[owner, self._ring.mirror[slot], SELF if self._alive[owner] else KEY]
            if not self._shared[owner] or digest != known.tobytes():
                raise Rejected(sender, f"its share of {self._name(owner)!r} is not the one that it was given")
        shares = np.frombuffer(body[head:], "<u4").reshape(len(slots), LIMBS)
        if (shares >= PRIME).any():
            raise Rejected(sender, "a share is not a field element")
        self._releases.add(place, held, shares)

    def _unmask(self) -> None:
        """Recover the masks that stand in the sum, take them off, and give the result."""
        self._require_recoverable(self._releases.counts())
        total = self._sum.signed().view(self.spec.encoding.ring)
        batch: list[tuple[MaskStream, Any]] = []
        for mask in self._remaining_masks():
            batch.append(mask)
            if len(batch) == _MASKS_AT_ONCE:
                apply_masks(total, batch)
                batch.clear()
        apply_masks(total, batch)
        contributors = tuple(sorted(self._names(self._alive)))
        self.result = SecureSum.of(total.view(self.spec.encoding.dtype), contributors, self.spec.encoding)

    def _remaining_masks(self) -> Iterable[tuple[MaskStream, int]]:
        """What is left in the sum, with the sign that takes it off: the survivors' own masks, and pairs with the lost."""
        ring = self._ring
        alive = np.flatnonzero(self._alive)
        for place, seed in zip(alive.tolist(), self._releases.secrets(alive, self._threshold), strict=True):
            client = int(ring.order[place])
            committed = self._seed_commitments[place].tobytes()
            if seed is None or seed_commitment(self.spec.digest, self.fingerprint(client), seed) != committed:
                raise self._wrong(place)
            yield self.self_mask(seed, client, self._nonces[place].tobytes()), -1
        lost = np.flatnonzero(self._lost())
        for place, private in zip(lost.tolist(), self._releases.secrets(lost, self._threshold), strict=True):
            client = int(ring.order[place])
            key = None if private is None else X25519PrivateKey.from_private_bytes(private)
            if key is None or key.public_key().public_bytes_raw() != Advert.from_bytes(self._adverts[client]).mask:
                raise self._wrong(place)
            for neighbour in ring.places[place][self._alive[ring.places[place]]].tolist():
                other = int(ring.order[neighbour])
                secret = agree(key, Advert.from_bytes(self._adverts[other]).mask)
                yield self.pair_mask(secret, client, other), -1 if other < client else 1

    def _wrong(self, place: int) -> Aborted:
        return Aborted(f"the shares that {self._name(place)!r} gave its neighbours do not make up its secret")

    def _lost(self) -> Mask:
        """Who shared and vanished, and left masks in the vectors of survivors."""
        lost: Mask = self._shared & ~self._alive & (self._ring.count(self._alive) > 0)
        return lost

    def _require_recoverable(self, counts: Any) -> None:
        """Raise `Aborted` unless everybody whose mask is in the sum has `threshold` neighbours left (M7)."""
        short = np.flatnonzero((self._alive | self._lost()) & (counts < self._threshold))
        if short.size:
            raise Aborted(
                f"{counts[short[0]]} neighbours of {self._name(int(short[0]))!r} are left, {self._threshold} are "
                "needed to recover its mask; nothing was revealed"
            )

    def _name(self, place: int) -> PartyId:
        return self.names[int(self._ring.order[place])]

    def _names(self, mask: Mask) -> list[PartyId]:
        return [self._name(place) for place in np.flatnonzero(mask).tolist()]

    def _over_roster(self, mask: Mask) -> Mask:
        """A mask over places as one over the roster."""
        over = np.zeros(len(self.names), bool)
        over[self._ring.order[mask]] = True
        return over

    def store(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "sum": self._sum.store(),
            "adverts": [[one, advert] for one, advert in self._adverts.items()],
            "attempt": self._attempt,
            "reveals": [[one, reveal] for one, reveal in self._reveals.items()],
            "present": self._present.astype(np.uint8),
            "tables": None,
        }
        if hasattr(self, "_ring"):
            fields["tables"] = {
                "ring": [self._ring.order, self._ring.degree, self._threshold],
                "masks": [mask.astype(np.uint8) for mask in (self._shared, self._alive, self._agreed)],
                "bytes": [
                    self._envelopes, self._digests, self._seed_commitments, self._nonces, self._agreements
                ],
                "releases": self._releases.store(),
            }  # fmt: skip
        return fields

    def load(self, fields: dict[str, Any]) -> None:
        self._sum.load(fields["sum"])
        self._adverts = {one: advert for one, advert in fields["adverts"]}
        self._attempt = fields["attempt"]
        self._reveals = {one: reveal for one, reveal in fields["reveals"]}
        self._present = fields["present"].astype(bool)
        tables = fields["tables"]
        if tables is not None:
            order, degree, threshold = tables["ring"]
            self._lay_tables(Ring(order.copy(), degree), threshold)
            self._shared, self._alive, self._agreed = (mask.astype(bool) for mask in tables["masks"])
            (
                self._envelopes, self._digests, self._seed_commitments, self._nonces, self._agreements
            ) = (table.copy() for table in tables["bytes"])  # fmt: skip
            self._releases.load(tables["releases"])
