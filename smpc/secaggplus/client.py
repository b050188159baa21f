"""The client of `secaggplus`: the steps and the guarantee are written down in `smpc.secaggplus.backend`.

A client never gives up its own secrets. Of each neighbour it gives up one share of one kind, once, and against
an active server only after `threshold` neighbours have signed that they were told the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secagg.errors import Aborted, Refused, Rejected
from secagg.fixedpoint import Integers
from secagg.identity import SERVER, PartyId, agree
from secagg.once import Once
from secagg.protocol import Party, Send
from secagg.ringsum import RingSum
from secagg.sealing import Tampered
from secagg.spec import RoundSpec
from smpc.cohort import Mask, encode_mask, set_bytes
from smpc.masks import SEED_BYTES, MaskStream, apply_masks
from smpc.secaggplus import steps
from smpc.secaggplus.calculator import MAX_DEGREE
from smpc.secaggplus.draw import LINK_BYTES, REVEAL_BYTES, NotDrawn, commitment, undrawn_seed
from smpc.secaggplus.graph import Ring, shuffled
from smpc.secaggplus.keys import ADVERT_BYTES, Advert, envelope_key, seal, unseal
from smpc.secaggplus.parameters import SecAggPlusParameters, attempts
from smpc.secaggplus.role import Role
from smpc.secaggplus.shamir import SHARE_BYTES, split
from smpc.secaggplus.sharing import KEY, SELF, seed_commitment, share_digest


class SecAggPlusClient(Role):
    """Masks its vector so that only the sum can be unmasked, and helps to unmask it."""

    def __init__(self, spec: RoundSpec, party: Party, parameters: SecAggPlusParameters, once: Once) -> None:
        super().__init__(spec, party, parameters)
        self._once = once
        self._own = spec.roster.client_places[party.name]
        self._attempts = attempts(parameters, roster=len(self.names))
        self._reveals_from = 0
        self._chain = b""
        self._mask_key = self._seal_key = self._mask_public = b""
        self._present = self._ring = b""
        self._neighbours: list[int] = []
        self._threshold = 0
        self._seed = b""
        self._incoming: list[bytes] = []
        self._mask_publics: list[bytes] = []
        self._pairs: dict[int, bytes] = {}
        self._sharing = np.zeros(0, bool)
        self._held: dict[int, bytes] = {}
        self._alive = np.zeros(0, bool)
        self._statement = b""
        roster = len(self.names)
        self.open_step(steps.GRAPH, [SERVER], limit=steps.graph_bytes(roster, roster, MAX_DEGREE), awaited=False)
        for attempt in range(self._attempts):
            self.open_step(steps.draw_step(attempt), [SERVER], limit=steps.draw_bytes(roster, roster), awaited=False)

    def begin(self) -> Iterable[Send]:
        mask = X25519PrivateKey.from_private_bytes(self.party.rng(32))
        sealing = X25519PrivateKey.from_private_bytes(self.party.rng(32))
        self._chain = self.party.rng(LINK_BYTES)
        self._mask_key, self._seal_key = mask.private_bytes_raw(), sealing.private_bytes_raw()
        advert = Advert.make(mask, sealing, commitment(self._chain), spec=self.spec.digest, own=self.party.identity)
        self._mask_public = advert.mask
        return [self.send(SERVER, steps.ADVERTISE, advert.to_bytes())]

    @property
    def wants_input(self) -> bool:
        return bool(self._pairs)

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        if step == steps.GRAPH:
            return self._take_graph(sender, bytes(body))
        if step == steps.DELIVER:
            return self._take_shares(sender, bytes(body))
        if step == steps.ALIVE:
            return self._take_alive(sender, body)
        if step == steps.QUORUM:
            return self._take_quorum(sender, bytes(body))
        return self._reveal(sender, (step - steps.draw_step(0)) // 2, bytes(body))

    # The draw.

    def _reveal(self, sender: PartyId, attempt: int, body: bytes) -> Iterable[Send]:
        """Answer a draw: as a drawer with one link, if the commitments shown are fixed with ours among them."""
        head = set_bytes(len(self.names))
        draw = self.draw(self._read_present(sender, body[:head]), attempt)
        drawers = draw.drawers.tolist()
        if len(body) != steps.draw_bytes(len(self.names), len(drawers)):
            raise Rejected(sender, f"draw of {len(body)} bytes for {len(drawers)} drawers")
        commitments = [body[at : at + LINK_BYTES] for at in range(head, len(body), LINK_BYTES)]
        if self._own not in drawers:
            return [self.send(SERVER, steps.reveal_step(attempt))]
        if commitments[drawers.index(self._own)] != commitment(self._chain):
            raise Aborted("the server asks this client into a draw with another commitment than its own")
        if attempt < self._reveals_from:
            # A later draw has made this link known: it would no longer be a secret fixed before the others.
            raise Aborted(f"the server goes back to draw {attempt + 1}")
        self._reveals_from = attempt + 1
        reveal = draw.reveal(self._chain, commitments, self.party.identity)
        return [self.send(SERVER, steps.reveal_step(attempt), reveal)]

    def _read_present(self, sender: PartyId, body: bytes) -> Mask:
        present = self.read_mask(sender, memoryview(body), len(self.names))
        if not present[self._own]:
            raise Aborted("the server counts this client as absent, and asks it all the same")
        self.require_present(present)
        return present

    # Keys and shares.

    def _take_graph(self, sender: PartyId, body: bytes) -> Iterable[Send]:
        """Check the draw and the neighbours' keys, and share our two secrets among them."""
        head = set_bytes(len(self.names))
        present = self._read_present(sender, body[:head])
        around = self.around(present)
        drawers = self.draw(present, body[head]).drawers.tolist() if self.drawn(present) and len(body) > head else []
        if len(body) != steps.graph_bytes(len(self.names), len(drawers), around.degree):
            raise Rejected(sender, f"graph of {len(body)} bytes for degree {around.degree}, {len(drawers)} drawers")
        adverts_at = head + 1 + len(drawers) * REVEAL_BYTES
        seed = self._drawn_seed(present, body[head], drawers, body[head + 1 : adverts_at])
        ring = Ring(shuffled(np.flatnonzero(present), seed), around.degree)
        neighbours = ring.of(self._own).tolist()
        adverts = [
            self._checked_advert(neighbour, body[at : at + ADVERT_BYTES])
            for neighbour, at in zip(neighbours, range(adverts_at, len(body), ADVERT_BYTES), strict=True)
        ]
        # The sets and the order themselves would be most of a client's memory.
        self._present, self._ring = encode_mask(present), ring.digest
        self._neighbours, self._threshold = neighbours, around.threshold
        self._mask_publics = [advert.mask for advert in adverts]
        self._seed = self.party.rng(SEED_BYTES)
        message = self._share(adverts)
        self.open_step(steps.DELIVER, [SERVER], limit=steps.deliver_bytes(around.degree, around.degree), awaited=False)
        return [self.send(SERVER, steps.SHARES, message)]

    def _drawn_seed(self, present: Mask, attempt: int, drawers: list[int], reveals: bytes) -> bytes:
        if not drawers:
            return undrawn_seed(self.spec.digest, present)
        if attempt >= self._attempts:
            raise Aborted(f"the server speaks of draw {attempt + 1} of {self._attempts}")
        parts = [reveals[at : at + REVEAL_BYTES] for at in range(0, len(reveals), REVEAL_BYTES)]
        try:
            return self.draw(present, attempt).seed(parts, [self.peer(self.names[one]) for one in drawers])
        except (NotDrawn, Refused) as error:
            raise Aborted(f"the order of the ring was not drawn: {error}") from None

    def _checked_advert(self, neighbour: int, data: bytes) -> Advert:
        name, advert = self.names[neighbour], Advert.from_bytes(data)
        try:
            if not advert.is_signed_by(self.peer(name), spec=self.spec.digest):
                raise Aborted(f"the server shows keys of {name!r} that it did not sign for this round")
        except Refused as error:
            raise Aborted(f"neighbour {name!r}: {error}") from None
        return advert

    def _share(self, adverts: list[Advert]) -> bytes:
        """Split both secrets, seal the shares. The seal key is erased: the keys of incoming envelopes are kept."""
        spec, mine = self.spec.digest, self.fingerprint(self._own)
        secrets = [self._seed, self._mask_key]
        shares = split(secrets, threshold=self._threshold, count=len(adverts), rng=self.party.rng).astype("<u4")
        sealing = X25519PrivateKey.from_private_bytes(self._seal_key)
        message = [seed_commitment(spec, mine, self._seed)]
        for slot, (neighbour, advert) in enumerate(zip(self._neighbours, adverts, strict=True)):
            theirs = self.fingerprint(neighbour)
            secret = self._agree(sealing, advert.seal, neighbour)
            outgoing = envelope_key(secret, spec=spec, sender=mine, recipient=theirs)
            self._incoming.append(envelope_key(secret, spec=spec, sender=theirs, recipient=mine))
            message.append(seal(outgoing, shares[slot].tobytes(), self.party.rng))
            for kind in (SELF, KEY):
                share = shares[slot, kind].tobytes()
                message.append(share_digest(spec, owner=mine, holder=theirs, kind=kind, share=share))
        self._seal_key = b""
        return b"".join(message)

    def _agree(self, key: X25519PrivateKey, public: bytes, neighbour: int) -> bytes:
        try:
            return agree(key, public)
        except Refused as error:
            raise Aborted(f"the server passes on a bad key of {self.names[neighbour]!r}: {error}") from None

    def _take_shares(self, sender: PartyId, body: bytes) -> Iterable[Send]:
        """Keep the shares of those neighbours who shared, and agree on the masks with them."""
        degree = len(self._neighbours)
        head = set_bytes(degree)
        sharing = self.read_mask(sender, memoryview(body)[:head], degree)
        slots = np.flatnonzero(sharing).tolist()
        if len(body) != steps.deliver_bytes(degree, len(slots)):
            raise Rejected(sender, f"shares of {len(body)} bytes for {len(slots)} neighbours")
        if len(slots) < self._threshold:
            raise Aborted(
                f"{len(slots)} neighbours have shared their keys, {self._threshold} are needed to recover a client"
            )
        key = X25519PrivateKey.from_private_bytes(self._mask_key)
        for slot, at in zip(slots, range(head, len(body), steps.PARCEL_BYTES), strict=True):
            shares = self._opened(slot, body[at : at + steps.PARCEL_BYTES])
            if shares is not None:
                self._held[slot] = shares
            self._pairs[slot] = self._agree(key, self._mask_publics[slot], self._neighbours[slot])
        self._sharing = sharing
        self._mask_key = b""
        self._incoming, self._mask_publics = [], []
        return ()

    def _opened(self, slot: int, parcel: bytes) -> bytes | None:
        """A neighbour's two shares. None if they are not as they should be.

        We mask with it all the same; others hold its shares. But a share that the server would take for altered is not
        kept: whoever released it would be blamed for its owner (M8).
        """
        try:
            plain = unseal(self._incoming[slot], parcel[: steps.ENVELOPE_BYTES])
        except Tampered:
            return None
        spec, mine, owner = self.spec.digest, self.fingerprint(self._own), self.fingerprint(self._neighbours[slot])
        digests = [
            share_digest(spec, owner=owner, holder=mine, kind=SELF, share=plain[:SHARE_BYTES]),
            share_digest(spec, owner=owner, holder=mine, kind=KEY, share=plain[SHARE_BYTES:]),
        ]
        return plain if b"".join(digests) == parcel[steps.ENVELOPE_BYTES :] else None

    # The vector.

    def protect(self, integers: Integers) -> Iterable[Send]:
        # The difference of two vectors under one mask would be open; from the key all masks between pairs follow.
        if not self._once.first(b"masks" + self._mask_public):
            raise Aborted("these masks were used before: the session was restored twice from one state")
        # Drawn now: even two vectors under one seed would not lie under one mask.
        nonce = self.party.rng(steps.NONCE_BYTES)
        masked = integers.view(self.spec.encoding.ring)
        masks: list[tuple[MaskStream, Literal[1, -1]]] = [(self.self_mask(self._seed, self._own, nonce), 1)]
        for slot, secret in self._pairs.items():
            other = self._neighbours[slot]
            masks.append((self.pair_mask(secret, self._own, other), 1 if self._own < other else -1))
        apply_masks(masked, masks)
        self._seed = b""
        self._pairs.clear()
        self.open_step(steps.ALIVE, [SERVER], limit=2 * set_bytes(len(self.names)), awaited=False)
        vector = RingSum(self.spec.encoding, self.length).to_wire(masked.view(self.spec.encoding.dtype))
        return [self.send(SERVER, steps.MASKED, vector, nonce)]

    # Unmasking.

    def _take_alive(self, sender: PartyId, body: memoryview) -> Iterable[Send]:
        """Check who is said to have shared and uploaded; sign it, or under a passive server release at once."""
        width = set_bytes(len(self.names))
        if len(body) != 2 * width:
            raise Rejected(sender, f"client sets of {len(body)} bytes, expected {2 * width}")
        shared = self.read_mask(sender, body[:width], len(self.names))
        alive = self.read_mask(sender, body[width:], len(self.names))
        present = self.read_mask(sender, memoryview(self._present), len(self.names))
        for mask, within, what in ((shared, present, "shared"), (alive, shared, "alive")):
            if strangers := self.members(mask & ~within):
                raise Aborted(f"the server counts {strangers[0]!r} as {what}, who did not come so far")
        if not alive[self._own]:
            raise Aborted("the server counts this client as dropped, and asks it all the same")
        neighbours = np.array(self._neighbours)
        if (shared[neighbours] != self._sharing).any():
            raise Aborted("the server names other neighbours as sharing than those whose shares it delivered")
        self.require_cohort(np.flatnonzero(alive))
        if (left := np.count_nonzero(alive[neighbours])) < self._threshold:
            raise Aborted(f"{left} neighbours are left, {self._threshold} are needed; nothing was revealed")
        self._alive = alive[neighbours]
        if not self.active:
            return self._release()
        self._statement = self.statement(self._ring, shared, alive)
        limit = steps.quorum_bytes(len(self._neighbours), self._threshold)
        self.open_step(steps.QUORUM, [SERVER], limit=limit, awaited=False)
        return [self.send(SERVER, steps.AGREE, self.party.identity.sign(self._statement))]

    def _take_quorum(self, sender: PartyId, body: bytes) -> Iterable[Send]:
        """Release only if `threshold` neighbours were told what this client was told."""
        degree = len(self._neighbours)
        head = set_bytes(degree)
        signing = self.read_mask(sender, memoryview(body)[:head], degree)
        slots = np.flatnonzero(signing).tolist()
        if len(slots) != self._threshold or len(body) != steps.quorum_bytes(degree, self._threshold):
            raise Rejected(sender, f"{len(slots)} signatures in {len(body)} bytes, expected {self._threshold}")
        for slot, at in zip(slots, range(head, len(body), steps.SIGNATURE_BYTES), strict=True):
            name = self.names[self._neighbours[slot]]
            if not self.peer(name).verify(body[at : at + steps.SIGNATURE_BYTES], self._statement):
                raise Aborted(f"{name!r} did not sign the client sets that this client was shown; nothing was revealed")
        return self._release()

    def _release(self) -> Iterable[Send]:
        """One kind of share for each neighbour: of the seed if it is alive, of the key if it is not.

        A copy of this session that is told other survivors would release the other kind (M1): what is released is noted
        where copies find it.
        """
        released = b"released" + self._mask_public
        told = released + encode_mask(self._alive)
        if not self._once.noted(told):
            if not self._once.first(released):
                raise Aborted("shares were released for other survivors: the session was restored twice from one state")
            self._once.first(told)
        held = np.zeros(len(self._neighbours), bool)
        parts = []
        for slot, share in sorted(self._held.items()):
            held[slot] = True
            parts.append(share[:SHARE_BYTES] if self._alive[slot] else share[SHARE_BYTES:])
        self._held.clear()
        return [self.send(SERVER, steps.RELEASE, encode_mask(held), *parts)]

    def store(self) -> dict[str, Any]:
        return {
            "reveals from": self._reveals_from,
            "chain": self._chain,
            "keys": [self._mask_key, self._seal_key, self._mask_public],
            "present": self._present,
            "ring": self._ring,
            "neighbours": self._neighbours,
            "threshold": self._threshold,
            "seed": self._seed,
            "incoming": self._incoming,
            "mask publics": self._mask_publics,
            "pairs": [[slot, secret] for slot, secret in self._pairs.items()],
            "sharing": self._sharing.astype(np.uint8),
            "held": [[slot, share] for slot, share in self._held.items()],
            "alive": self._alive.astype(np.uint8),
            "statement": self._statement,
        }

    def load(self, fields: dict[str, Any]) -> None:
        self._reveals_from, self._chain = fields["reveals from"], fields["chain"]
        self._mask_key, self._seal_key, self._mask_public = fields["keys"]
        self._present, self._ring = fields["present"], fields["ring"]
        self._neighbours, self._threshold = fields["neighbours"], fields["threshold"]
        self._seed, self._incoming = fields["seed"], fields["incoming"]
        self._mask_publics = fields["mask publics"]
        self._pairs = dict(fields["pairs"])
        self._sharing, self._alive = fields["sharing"].astype(bool), fields["alive"].astype(bool)
        self._held = dict(fields["held"])
        self._statement = fields["statement"]
