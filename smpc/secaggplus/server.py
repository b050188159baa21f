"""The server of `secaggplus`: passes on keys and shares, adds masked vectors as they come, unmasks the survivors' sum.

It sees masked vectors, sealed envelopes, and at the end one kind of share of each client. The steps and the guarantee
are written down in `smpc.secaggplus.backend`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secagg.errors import Aborted, Refused, Rejected
from secagg.identity import PartyId, agree
from secagg.protocol import Party, SecureSum, Send
from secagg.ringsum import RingSum, WrongLength
from secagg.spec import RoundSpec
from smpc.cohort import Mask, encode_mask, set_bytes
from smpc.masks import MaskStream, apply_masks
from smpc.secaggplus import steps
from smpc.secaggplus.draw import ATTEMPTS, LINK_BYTES, REVEAL_BYTES, commitment_of, undrawn_seed
from smpc.secaggplus.graph import Indices, Ring, shuffled
from smpc.secaggplus.keys import ADVERT_BYTES, Advert
from smpc.secaggplus.parameters import SecAggPlusParameters
from smpc.secaggplus.role import Role
from smpc.secaggplus.shamir import LIMBS
from smpc.secaggplus.sharing import COMMITMENT_BYTES, KEY, SELF, seed_commitment, share_digest
from smpc.secaggplus.tables import Tables

Sign = Literal[1, -1]
_MASKS_AT_ONCE = 256


class SecAggPlusServer(Role):
    """Runs the round; see the module's text."""

    def __init__(self, spec: RoundSpec, party: Party, parameters: SecAggPlusParameters) -> None:
        super().__init__(spec, party, parameters)
        self._sum = RingSum(spec.encoding, self.length)
        self._adverts: dict[int, bytes] = {}
        self._present = np.zeros(len(self.names), bool)
        self._attempt = 0
        self._reveals: dict[int, bytes] = {}
        self._answered: set[int] = set()
        self._formed: Tables | None = None
        self._statement = b""
        self.open_step(steps.ADVERTISE, self.clients, limit=ADVERT_BYTES)

    @property
    def evidence(self) -> Mapping[PartyId, bytes]:
        return self.headers(steps.MASKED)

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        if step == steps.ADVERTISE:
            self._take_advert(sender, bytes(body))
        elif step == steps.SHARES:
            self._take_shares(sender, body)
        elif step == steps.MASKED:
            self._add(sender, body)
        elif step == steps.AGREE:
            self._take_agreement(sender, bytes(body))
        elif step == steps.RELEASE:
            self._take_release(sender, body)
        else:
            self._take_reveal(sender, bytes(body))
        return ()

    def complete(self, step: int) -> Iterable[Send]:
        # What was sent before is answered, or its reader absent: only what follows need be sent again after a restart.
        self.flushed()
        if step == steps.ADVERTISE:
            self._present[list(self._adverts)] = True
            return self._settle_ring()
        if step == steps.SHARES:
            return self._deliver()
        if step == steps.MASKED:
            return self._announce()
        if step == steps.AGREE:
            return self._pass_on_agreement()
        if step == steps.RELEASE:
            return self._unmask()
        return self._close_draw()

    # Who is present, and in what order.

    def _take_advert(self, sender: PartyId, body: bytes) -> None:
        if len(body) != ADVERT_BYTES:
            raise Rejected(sender, f"keys of {len(body)} bytes, expected {ADVERT_BYTES}")
        advert = Advert.from_bytes(body)
        try:
            # Here, so that the bad key of one client does not end the round of its neighbours (M12).
            advert.check_points()
        except Refused as error:
            raise Rejected(sender, str(error)) from None
        if not advert.is_signed_by(self.peer(sender), spec=self.spec.digest):
            raise Rejected(sender, "its keys are not signed by it for this round")
        self._adverts[self.spec.roster.client_places[sender]] = body

    def _settle_ring(self) -> list[Send]:
        self.require_present(self._present)
        if not self.drawn(self._present):
            return self._form_ring(undrawn_seed(self.spec.digest, self._present), b"")
        commitments = self._commitments()
        names = [self.names[one] for one in np.flatnonzero(self._present).tolist()]
        self.open_step(steps.reveal_step(self._attempt), names, limit=REVEAL_BYTES)
        body = encode_mask(self._present) + b"".join(commitments.values())
        return [self.send(name, steps.draw_step(self._attempt), body) for name in names]

    def _commitments(self) -> dict[int, bytes]:
        """The commitments of this draw's drawers, in their order."""
        drawers = self.draw(self._present, self._attempt).drawers.tolist()
        return {one: Advert.from_bytes(self._adverts[one]).commitment for one in drawers}

    def _take_reveal(self, sender: PartyId, body: bytes) -> None:
        one, commitments = self.spec.roster.client_places[sender], self._commitments()
        if one not in commitments:
            if body:
                raise Rejected(sender, f"a secret of {len(body)} bytes, and it is no drawer")
            self._answered.add(one)
            return
        own = body[:LINK_BYTES]
        if len(body) != REVEAL_BYTES or commitment_of(own, self._attempt) != commitments[one]:
            raise Rejected(sender, "what it reveals is not what it committed to")
        signed = self.draw(self._present, self._attempt).signed(list(commitments.values()), own)
        if not self.peer(sender).verify(body[LINK_BYTES:], signed):
            raise Rejected(sender, "it did not sign this draw")
        self._reveals[one] = body
        self._answered.add(one)

    def _close_draw(self) -> list[Send]:
        """Form the ring if all drawers revealed; else draw again among those who answered."""
        draw = self.draw(self._present, self._attempt)
        drawers = draw.drawers.tolist()
        lost = [one for one in drawers if one not in self._reveals]
        if not lost:
            reveals = [self._reveals[one] for one in drawers]
            seed = draw.seed(reveals, [self.peer(self.names[one]) for one in drawers])
            return self._form_ring(seed, b"".join(reveals))
        self._present[:] = False
        self._present[list(self._answered)] = True
        self._reveals.clear()
        self._answered.clear()
        self._attempt += 1
        if self._attempt == ATTEMPTS:
            raise Aborted(
                f"{self.names[lost[0]]!r} left the draw of the ring, the last of {ATTEMPTS}; nothing was revealed"
            )
        return self._settle_ring()

    def _form_ring(self, seed: bytes, reveals: bytes) -> list[Send]:
        around = self.around(self._present)
        order = shuffled(np.flatnonzero(self._present), seed)
        tables = self._formed = Tables(Ring(order, around.degree), around.threshold)
        head = encode_mask(self._present) + bytes([self._attempt]) + reveals
        adverts = np.frombuffer(b"".join(self._adverts[one] for one in order.tolist()), np.uint8)
        adverts = adverts.reshape(-1, ADVERT_BYTES)
        names = [self.names[one] for one in order.tolist()]
        self.open_step(steps.SHARES, names, limit=steps.shares_bytes(around.degree))
        return [
            self.send(name, steps.GRAPH, head + adverts[neighbours].tobytes())
            for name, neighbours in zip(names, tables.ring.places, strict=True)
        ]

    # Shares and vectors.

    def _take_shares(self, sender: PartyId, body: memoryview) -> None:
        tables, place = self._tables, self._place(sender)
        degree = tables.ring.degree
        if len(body) != steps.shares_bytes(degree):
            raise Rejected(sender, f"shares of {len(body)} bytes, expected {steps.shares_bytes(degree)}")
        data = np.frombuffer(body, np.uint8)
        tables.seed_commitments[place] = data[:COMMITMENT_BYTES]
        tables.parcels[place] = data[COMMITMENT_BYTES:].reshape(degree, steps.PARCEL_BYTES)
        tables.shared[place] = True

    def _deliver(self) -> list[Send]:
        """Hand on the parcels. Whom too few neighbours could recover is left out, before it has masked anything."""
        tables = self._tables
        tables.drop_lonely()
        if (staying := np.count_nonzero(tables.shared)) < self.spec.minimum_cohort:
            raise Aborted(
                f"{staying} clients have the {tables.threshold} neighbours that recovery takes, the minimum cohort is "
                f"{self.spec.minimum_cohort}; nothing was revealed"
            )
        self.open_step(steps.MASKED, self._names(tables.shared), limit=self._sum.wire_bytes + steps.NONCE_BYTES)
        sends = []
        for place in np.flatnonzero(tables.shared).tolist():
            sharing, parcels = tables.parcels_to(place)
            sends.append(self.send(self._name(place), steps.DELIVER, encode_mask(sharing) + parcels))
        tables.forget_parcels()
        return sends

    def _add(self, sender: PartyId, body: memoryview) -> None:
        tables, place = self._tables, self._place(sender)
        try:
            self._sum.fold(body[: -steps.NONCE_BYTES])
        except WrongLength as error:
            raise Rejected(sender, str(error)) from None
        tables.nonces[place] = np.frombuffer(body[-steps.NONCE_BYTES :], np.uint8)
        tables.alive[place] = True

    # Unmasking.

    def _announce(self) -> list[Send]:
        """Tell the survivors who survived. From here on nobody else is let in (M13)."""
        tables = self._tables
        self.require_cohort(np.flatnonzero(tables.alive))
        self._require_recoverable(tables.neighbours_among(tables.alive))
        names = self._names(tables.alive)
        if self.active:
            self.open_step(steps.AGREE, names, limit=steps.SIGNATURE_BYTES)
        else:
            self._expect_releases(names)
        shared, alive = (tables.over(len(self.names), mask) for mask in (tables.shared, tables.alive))
        self._statement = self.statement(tables.ring.digest, shared, alive)
        return [self.send(name, steps.ALIVE, encode_mask(shared) + encode_mask(alive)) for name in names]

    def _take_agreement(self, sender: PartyId, body: bytes) -> None:
        tables, place = self._tables, self._place(sender)
        if not self.peer(sender).verify(body, self._statement):
            raise Rejected(sender, "it did not sign the client sets of this round")
        tables.signatures[place] = np.frombuffer(body, np.uint8)
        tables.agreed[place] = True

    def _pass_on_agreement(self) -> list[Send]:
        """Show each survivor the signatures of `threshold` neighbours; who has fewer would release nothing."""
        tables = self._tables
        self._require_recoverable(tables.neighbours_among(tables.agreed))
        asked = tables.agreed & (tables.neighbours_among(tables.agreed) >= tables.threshold)
        self._require_recoverable(tables.neighbours_among(asked))
        self._expect_releases(self._names(asked))
        sends = []
        for place in np.flatnonzero(asked).tolist():
            neighbours = tables.ring.places[place]
            slots = np.flatnonzero(tables.agreed[neighbours])[: tables.threshold]
            signing = np.zeros(tables.ring.degree, bool)
            signing[slots] = True
            signatures = tables.signatures[neighbours[slots]].tobytes()
            sends.append(self.send(self._name(place), steps.QUORUM, encode_mask(signing) + signatures))
        return sends

    def _expect_releases(self, names: list[PartyId]) -> None:
        degree = self._tables.ring.degree
        self.open_step(steps.RELEASE, names, limit=steps.release_bytes(degree, degree))

    def _take_release(self, sender: PartyId, body: memoryview) -> None:
        """Keep a client's shares, if each is the one that its owner gave it, and of the kind that is due (M8)."""
        tables, place = self._tables, self._place(sender)
        head = set_bytes(tables.ring.degree)
        held = self.read_mask(sender, body[:head], tables.ring.degree)
        slots = np.flatnonzero(held)
        if len(body) != steps.release_bytes(tables.ring.degree, slots.size):
            raise Rejected(sender, f"release of {len(body)} bytes for {slots.size} shares")
        shares = np.frombuffer(body[head:], "<u4").reshape(slots.size, LIMBS)
        owners = tables.ring.places[place][slots]
        kinds = np.where(tables.alive[owners], SELF, KEY)
        expected = tables.digests[owners, tables.ring.mirror[slots], kinds]
        holder = self.spec.roster.fingerprints[sender]
        for owner, kind, share, digest in zip(owners.tolist(), kinds.tolist(), shares, expected, strict=True):
            name = self._name(owner)
            given = share_digest(
                self.spec.digest,
                owner=self.spec.roster.fingerprints[name],
                holder=holder,
                kind=kind,
                share=share.tobytes(),
            )
            if given != digest.tobytes():
                raise Rejected(sender, f"its share of {name!r} is not the one that it was given")
        tables.held[place] = held
        tables.released[place, slots] = shares

    def _unmask(self) -> Iterable[Send]:
        """Recover the masks that stand in the sum, take them off, and give the result."""
        self._require_recoverable(self._tables.released_of(), "shares of {} were released")
        masks = itertools.chain(self._own_masks(), self._pair_masks())
        if (total := self._sum.store()) is not None:  # a cohort's vectors have come: it is not
            while batch := list(itertools.islice(masks, _MASKS_AT_ONCE)):
                apply_masks(total, batch)
        contributors = sorted(self._names(self._tables.alive))
        self.result = SecureSum.of(self._sum.signed(), contributors, self.spec.encoding)
        return []

    def _own_masks(self) -> Iterator[tuple[MaskStream, Sign]]:
        """The survivors' own masks, to be taken off."""
        tables = self._tables
        for place, seed in tables.secrets(tables.alive):
            client = int(tables.ring.order[place])
            committed = tables.seed_commitments[place].tobytes()
            if seed is None or seed_commitment(self.spec.digest, self.fingerprint(client), seed) != committed:
                raise self._not_what_was_shared(place)
            yield self.self_mask(seed, client, tables.nonces[place].tobytes()), -1

    def _pair_masks(self) -> Iterator[tuple[MaskStream, Sign]]:
        """The masks that survivors have with the lost, with the sign that takes them off."""
        tables = self._tables
        for place, private in tables.secrets(tables.lost()):
            client = int(tables.ring.order[place])
            key = None if private is None else X25519PrivateKey.from_private_bytes(private)
            if key is None or key.public_key().public_bytes_raw() != Advert.from_bytes(self._adverts[client]).mask:
                raise self._not_what_was_shared(place)
            neighbours = tables.ring.places[place]
            for other in tables.ring.order[neighbours[tables.alive[neighbours]]].tolist():
                secret = agree(key, Advert.from_bytes(self._adverts[other]).mask)
                yield self.pair_mask(secret, client, other), -1 if other < client else 1

    def _not_what_was_shared(self, place: int) -> Aborted:
        return Aborted(f"the shares that {self._name(place)!r} gave its neighbours do not make up its secret")

    def _require_recoverable(self, counts: Indices, what: str = "neighbours of {} are left") -> None:
        """Raise `Aborted` unless everybody whose masks are in the sum counts `threshold` at least (M7)."""
        tables = self._tables
        short = np.flatnonzero((tables.alive | tables.lost()) & (counts < tables.threshold))
        if short.size:
            counted = what.format(repr(self._name(int(short[0]))))
            needed = f"{tables.threshold} are needed to recover its masks"
            raise Aborted(f"{counts[short[0]]} {counted}, {needed}; nothing was revealed")

    # Places and names.

    @property
    def _tables(self) -> Tables:
        if self._formed is None:
            raise Refused("no ring is formed yet")
        return self._formed

    def _place(self, client: PartyId) -> int:
        return self._tables.place_of[self.spec.roster.client_places[client]]

    def _name(self, place: int) -> PartyId:
        return self.names[int(self._tables.ring.order[place])]

    def _names(self, mask: Mask) -> list[PartyId]:
        return [self._name(place) for place in np.flatnonzero(mask).tolist()]

    def store(self) -> dict[str, Any]:
        return {
            "sum": self._sum.store(),
            "adverts": [[one, advert] for one, advert in self._adverts.items()],
            "present": self._present.astype(np.uint8),
            "attempt": self._attempt,
            "reveals": [[one, reveal] for one, reveal in self._reveals.items()],
            "answered": sorted(self._answered),
            "statement": self._statement,
            "tables": None if self._formed is None else self._formed.store(),
        }

    def load(self, fields: dict[str, Any]) -> None:
        self._sum.load(fields["sum"])
        self._adverts = dict(fields["adverts"])
        self._present = fields["present"].astype(bool)
        self._attempt = fields["attempt"]
        self._reveals = dict(fields["reveals"])
        self._answered = set(fields["answered"])
        self._statement = fields["statement"]
        self._formed = None if fields["tables"] is None else Tables.load(fields["tables"])
