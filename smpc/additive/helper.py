"""An aggregator of `smpc` other than the server: holds seeds, expands them for one agreed set of clients, once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secagg.errors import Aborted, Rejected
from secagg.identity import SERVER, PartyId
from secagg.protocol import Party, Send
from secagg.sealing import ENVELOPE_OVERHEAD, Tampered, derive, unseal
from secagg.spec import RoundSpec
from smpc.additive.role import (
    AGREE,
    ASK,
    CHECK,
    COHORT,
    DIGEST_BYTES,
    HELD,
    KEY,
    MARK_BYTES,
    MISSING,
    SEED,
    SPARE,
    SUM,
    AdditiveRole,
)  # fmt: skip
from smpc.cohort import decode_set, encode_set, set_bytes
from smpc.masks import SEED_BYTES, MaskStream, apply_masks


class AdditiveHelper(AdditiveRole):
    """Opens the seeds dealt to it, agrees with the others on one set of clients, and adds up that set's streams."""

    def __init__(self, spec: RoundSpec, party: Party, *, suite: str, threshold: int) -> None:
        super().__init__(spec, party, threshold)
        self._suite = suite
        # Erased once the seeds are in: whoever takes this party over later cannot open them again.
        self._key: X25519PrivateKey | None = X25519PrivateKey.from_private_bytes(party.rng(32))
        self._shares = self.sharing.held_by(party.name)
        self._seeds: dict[PartyId, bytes] = {}
        self._cohort: bytes = b""
        self._agreed: dict[PartyId, bytes] = {}
        self._sums: dict[int, bytes | memoryview] = {}
        self._others = tuple(name for name in self.sharing.helpers if name != party.name)
        self.open_step(SEED, self.clients, limit=len(self._shares) * SEED_BYTES + ENVELOPE_OVERHEAD)

    def begin(self) -> Iterable[Send]:
        if self._key is None:
            return []
        public = self._key.public_key().public_bytes_raw()
        return [self.send(client, KEY, public) for client in self.spec.roster.client_names]

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        if step == SEED:
            self._seeds[sender] = self._open_seeds(sender, body)
        elif step == COHORT:
            return self._take_cohort(sender, body)
        elif step == AGREE:
            if len(body) != DIGEST_BYTES:
                raise Rejected(sender, f"set digest of {len(body)} bytes, expected {DIGEST_BYTES}")
            self._agreed[sender] = bytes(body)
        else:
            return self._release(sender, body, SUM if step == ASK else SPARE)
        return ()

    def complete(self, step: int) -> Iterable[Send]:
        if step == SEED:
            self._key = None
            self.open_step(COHORT, [SERVER], limit=set_bytes(len(self.clients)), awaited=False)
            # The others may be told the set before this one is; it waits for them once it is told, too.
            self.open_step(AGREE, self._others, limit=DIGEST_BYTES, awaited=False)
            held = encode_set(self._seeds, self.spec.roster.client_names)
            return [self.send(SERVER, HELD, held, self._marks())]
        if step not in (COHORT, AGREE) or not {COHORT, AGREE} <= self._closed:
            return ()
        dissenters = self._dissenters()
        if dissenters and step == COHORT:
            # The digest that this aggregator has just answered must still leave, so that the others leave too.
            return ()
        if dissenters:
            raise Aborted(f"{dissenters[0]!r} was shown another client set than this aggregator; nothing was revealed")
        self.require_quorum({self.party.name, *self._agreed})
        return self._add_up()

    def store(self) -> dict[str, Any]:
        return {
            "key": b"" if self._key is None else self._key.private_bytes_raw(),
            "seeds": self._seeds,
            "cohort": self._cohort,
            "agreed": self._agreed,
            "sums": self._sums,
        }

    def load(self, fields: dict[str, Any]) -> None:
        self._key = X25519PrivateKey.from_private_bytes(fields["key"]) if fields["key"] else None
        self._seeds, self._cohort, self._agreed = fields["seeds"], fields["cohort"], fields["agreed"]
        self._sums = {int(share): total for share, total in fields["sums"].items()}

    def _open_seeds(self, client: PartyId, body: memoryview) -> bytes:
        if self._key is None:
            raise Rejected(client, "seeds are closed")
        try:
            seeds = unseal(body, self._key, context=self.pair(client, self.party.name))
        except Tampered as error:
            raise Rejected(client, str(error)) from None
        if len(seeds) != len(self._shares) * SEED_BYTES:
            raise Rejected(client, f"seeds of {len(seeds)} bytes, expected {len(self._shares) * SEED_BYTES}")
        return seeds

    def _seed(self, client: PartyId, share: int) -> bytes:
        at = self._shares.index(share) * SEED_BYTES
        return self._seeds[client][at : at + SEED_BYTES]

    def _marks(self) -> bytes:
        """A mark of every seed that somebody else holds too: the server leaves out who dealt two of them unequal seeds.

        A client could otherwise end the round at will, and it would look like an aggregator's fault.
        """
        if not self.sharing.replicated:
            return b""
        return b"".join(
            derive(self._seed(client, share), "seed-mark", *self.share_context(client, share), length=MARK_BYTES)
            for client in sorted(self._seeds)
            for share in self._shares
        )

    def _take_cohort(self, sender: PartyId, body: memoryview) -> Iterable[Send]:
        cohort = self.read_set(sender, body)
        strangers = sorted(cohort - set(self._seeds))
        if strangers:
            raise Aborted(f"the server counts {strangers[0]!r}, whose seed this aggregator does not hold")
        self.require_cohort(cohort)
        self._cohort = bytes(body)
        if pending := set(self._others) - set(self._agreed):
            self.open_step(AGREE, pending, limit=DIGEST_BYTES)
        digest = hashlib.sha256(self._cohort).digest()
        return [self.send(other, AGREE, digest) for other in self._others]

    def _dissenters(self) -> list[PartyId]:
        digest = hashlib.sha256(self._cohort).digest()
        return sorted(other for other, theirs in self._agreed.items() if theirs != digest)

    def _add_up(self) -> Iterable[Send]:
        """Expand the streams of the agreed cohort, add them up for each share, and forget every seed."""
        cohort = sorted(decode_set(self._cohort, self.spec.roster.client_names))
        sums = {share: self._sum_of(share, cohort) for share in self._shares}
        self._seeds.clear()
        if not self.sharing.replicated:
            return [self.send(SERVER, SUM, *sums.values())]
        self._sums.update(sums)
        for step in (ASK, MISSING):
            self.open_step(step, [SERVER], limit=len(self._shares), awaited=False)
        return [self.send(SERVER, CHECK, *(hashlib.sha256(total).digest() for total in sums.values()))]

    def _sum_of(self, share: int, cohort: Iterable[PartyId]) -> memoryview:
        """The sum of one share over the cohort, as it stands on the wire."""
        ring = self.ring_sum()
        total = np.zeros(self.spec.encoding.length(self.spec.layout.size), self.spec.encoding.ring)
        masks = [
            MaskStream(self._seed(client, share), suite=self._suite, context=self.share_context(client, share))
            for client in cohort
        ]
        apply_masks(total, [(mask, 1) for mask in masks])
        return ring.to_wire(total.view(self.spec.encoding.dtype))

    def _release(self, sender: PartyId, body: memoryview, answer: int) -> Iterable[Send]:
        """Send the sums of the shares that the server asks for: one byte each, ascending."""
        asked = list(body)
        if not asked or asked != sorted(set(asked)) or not set(asked) <= set(self._sums):
            raise Rejected(sender, f"it asks for shares {asked}, of which this aggregator has {sorted(self._sums)}")
        return [self.send(SERVER, answer, *(self._sums.pop(share) for share in asked))]
