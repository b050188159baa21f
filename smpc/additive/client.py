"""The client of `smpc`: deals seeds to the aggregators, and sends the server what is left of its vector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from secagg.errors import Aborted, Refused, Rejected
from secagg.fixedpoint import Integers
from secagg.identity import SERVER, PartyId
from secagg.protocol import Party, Send
from secagg.sealing import seal
from secagg.spec import RoundSpec
from smpc.additive.role import GO, KEY, SEED, SHARE, AdditiveRole
from smpc.masks import SEED_BYTES, MaskStream, apply_masks


class AdditiveClient(AdditiveRole):
    """Draws a seed for each share, seals them to their holders, and sends the server x minus all streams."""

    def __init__(self, spec: RoundSpec, party: Party, *, suite: str, threshold: int) -> None:
        super().__init__(spec, party, threshold)
        self._suite = suite
        self._keys: dict[PartyId, bytes] = {}
        self._seeds: list[bytes] = []
        self._cleared = False
        self.open_step(KEY, self.sharing.helpers, limit=32)
        self.open_step(GO, [SERVER], limit=0, awaited=False)

    @property
    def wants_input(self) -> bool:
        return self._cleared and bool(self._seeds)

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        if step == KEY:
            if len(body) != 32:
                raise Rejected(sender, f"agreement key of {len(body)} bytes, expected 32")
            self._keys[sender] = bytes(body)
        elif not self._seeds:
            raise Rejected(sender, "it asks for the vector before the seeds were shared")
        else:
            self._cleared = True
        return ()

    def complete(self, step: int) -> Iterable[Send]:
        if step != KEY:
            return ()
        self.require_quorum(self._keys)
        self._seeds = [self.party.rng(SEED_BYTES) for _ in self.sharing.holders]
        return [self._deal(helper) for helper in sorted(self._keys)]

    def protect(self, integers: Integers) -> Iterable[Send]:
        rest = integers.view(self.spec.encoding.ring)
        masks = [
            MaskStream(seed, suite=self._suite, context=self.share_context(self.party.name, share))
            for share, seed in enumerate(self._seeds)
        ]
        apply_masks(rest, [(mask, -1) for mask in masks])
        self._seeds.clear()
        return (self.send(SERVER, SHARE, self.ring_sum().to_wire(rest.view(self.spec.encoding.dtype))),)

    def store(self) -> dict[str, Any]:
        return {"keys": self._keys, "seeds": self._seeds, "cleared": self._cleared}

    def load(self, fields: dict[str, Any]) -> None:
        self._keys, self._seeds = fields["keys"], fields["seeds"]
        self._cleared = fields["cleared"]

    def _deal(self, helper: PartyId) -> Send:
        """The seeds of all shares that one aggregator holds, sealed to it."""
        seeds = b"".join(self._seeds[share] for share in self.sharing.held_by(helper))
        try:
            envelope = seal(seeds, self._keys[helper], context=self.pair(self.party.name, helper), rng=self.party.rng)
        except Refused as error:
            raise Aborted(f"{helper!r} sent a bad key: {error}") from None
        return self.send(helper, SEED, envelope)
