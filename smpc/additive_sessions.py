"""The three roles of additive sharing: client, aggregator, and the server as aggregator 0.

The protocol, its steps and its guarantee are written down in `smpc.additive`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secagg.errors import Aborted, Refused, Rejected
from secagg.fixedpoint import Integers
from secagg.identity import SERVER, PartyId
from secagg.protocol import Party, SecureSum, Send
from secagg.ringsum import RingSum, WrongLength
from secagg.sealing import ENVELOPE_OVERHEAD, Tampered, seal, unseal
from secagg.session import RoundSession
from secagg.spec import RoundSpec
from smpc.cohort import Malformed, decode_set, encode_set, set_bytes
from smpc.masks import SEED_BYTES, MaskStream, apply_masks

KEY, SEED, HELD, GO, SHARE, COHORT, AGREE, SUM = range(1, 9)


class _AdditiveSession(RoundSession):
    """What the three roles share: the helpers' names, client sets on the wire, the mask of a pair."""

    @cached_property
    def helpers(self) -> tuple[PartyId, ...]:
        return tuple(sorted(self.spec.roster.helpers))

    @property
    def length(self) -> int:
        """Ring elements of a vector on the wire."""
        return self.spec.encoding.length(self.spec.layout.size)

    def pair(self, client: PartyId, helper: PartyId) -> tuple[bytes, bytes, bytes]:
        """The context that a seed is sealed and expanded in: this spec, this client, this aggregator."""
        fingerprints = self.spec.roster.fingerprints
        return self.spec.digest, fingerprints[client], fingerprints[helper]

    def read_set(self, sender: PartyId, body: memoryview) -> frozenset[PartyId]:
        try:
            return decode_set(body, self.spec.roster.client_names)
        except Malformed as error:
            raise Rejected(sender, str(error)) from None

    def require_all(self, step: int, helpers: Iterable[PartyId]) -> None:
        """Raise `Aborted`, naming an aggregator that stayed silent in `step`: every share is needed."""
        silent = sorted(set(helpers) - set(self.heard(step)))
        if silent:
            raise Aborted(f"{silent[0]!r} is silent, and every aggregator is needed; nothing was revealed")


class AdditiveClient(_AdditiveSession):
    """Sends a sealed seed to each aggregator, and the difference to the server."""

    def __init__(self, spec: RoundSpec, party: Party, suite: str) -> None:
        super().__init__(spec, party)
        self._suite = suite
        self._keys: dict[PartyId, bytes] = {}
        self._seeds: dict[PartyId, bytes] = {}
        self._cleared = False
        self.open_step(KEY, self.helpers, limit=32)
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
        if step == KEY:
            self.require_all(KEY, self.helpers)
            return [self._share_seed(helper) for helper in self.helpers]
        return ()

    def protect(self, integers: Integers) -> Iterable[Send]:
        share = integers.view(self.spec.encoding.ring)
        masks = [
            MaskStream(seed, suite=self._suite, context=self.pair(self.party.name, helper))
            for helper, seed in self._seeds.items()
        ]
        apply_masks(share, [(mask, -1) for mask in masks])
        self._seeds.clear()
        ring = RingSum(self.spec.encoding, self.length)
        return (self.send(SERVER, SHARE, ring.to_wire(share.view(self.spec.encoding.dtype))),)

    def store(self) -> dict[str, Any]:
        return {"keys": self._keys, "seeds": self._seeds, "cleared": self._cleared}

    def load(self, fields: dict[str, Any]) -> None:
        self._keys, self._seeds = fields["keys"], fields["seeds"]
        self._cleared = fields["cleared"]

    def _share_seed(self, helper: PartyId) -> Send:
        seed = self.party.rng(SEED_BYTES)
        context = b"".join(self.pair(self.party.name, helper))
        try:
            envelope = seal(seed, self._keys[helper], context=context, rng=self.party.rng)
        except Refused as error:
            raise Aborted(f"{helper!r} sent a bad key: {error}") from None
        self._seeds[helper] = seed
        return self.send(helper, SEED, envelope)


class AdditiveHelper(_AdditiveSession):
    """An aggregator other than the server: holds seeds, expands them for one agreed set, once."""

    def __init__(self, spec: RoundSpec, party: Party, suite: str) -> None:
        super().__init__(spec, party)
        self._suite = suite
        # Erased once the seeds are in: whoever takes this party over later cannot open them again.
        self._key: X25519PrivateKey | None = X25519PrivateKey.from_private_bytes(party.rng(32))
        self._seeds: dict[PartyId, bytes] = {}
        self._cohort: bytes = b""
        self._agreed: dict[PartyId, bytes] = {}
        self._others = tuple(name for name in self.helpers if name != party.name)
        self.open_step(SEED, self.clients, limit=SEED_BYTES + ENVELOPE_OVERHEAD)

    def begin(self) -> Iterable[Send]:
        if self._key is None:
            return []
        public = self._key.public_key().public_bytes_raw()
        return [self.send(client, KEY, public) for client in self.spec.roster.client_names]

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        if step == SEED:
            self._seeds[sender] = self._open_seed(sender, body)
        elif step == COHORT:
            return self._take_cohort(sender, body)
        else:
            if len(body) != 32:
                raise Rejected(sender, f"set digest of {len(body)} bytes, expected 32")
            self._agreed[sender] = bytes(body)
        return ()

    def complete(self, step: int) -> Iterable[Send]:
        if step == SEED:
            self._key = None
            size = set_bytes(len(self.clients))
            self.open_step(COHORT, [SERVER], limit=size, awaited=False)
            self.open_step(AGREE, self._others, limit=32)
            held = encode_set(self._seeds, self.spec.roster.client_names)
            return [self.send(SERVER, HELD, held)]
        if step == AGREE:
            self.require_all(AGREE, self._others)
        if {COHORT, AGREE} <= self._closed:
            return self._sum()
        return ()

    def store(self) -> dict[str, Any]:
        return {
            "key": b"" if self._key is None else self._key.private_bytes_raw(),
            "seeds": self._seeds,
            "cohort": self._cohort,
            "agreed": self._agreed,
        }

    def load(self, fields: dict[str, Any]) -> None:
        self._key = X25519PrivateKey.from_private_bytes(fields["key"]) if fields["key"] else None
        self._seeds, self._cohort, self._agreed = fields["seeds"], fields["cohort"], fields["agreed"]

    def _open_seed(self, client: PartyId, body: memoryview) -> bytes:
        if self._key is None:
            raise Rejected(client, "seeds are closed")
        try:
            seed = unseal(body, self._key, context=b"".join(self.pair(client, self.party.name)))
        except Tampered as error:
            raise Rejected(client, str(error)) from None
        if len(seed) != SEED_BYTES:
            raise Rejected(client, f"seed of {len(seed)} bytes, expected {SEED_BYTES}")
        return seed

    def _take_cohort(self, sender: PartyId, body: memoryview) -> Iterable[Send]:
        cohort = self.read_set(sender, body)
        strangers = sorted(cohort - set(self._seeds))
        if strangers:
            raise Aborted(f"the server counts {strangers[0]!r}, whose seed this aggregator does not hold")
        self.require_cohort(cohort)
        self._cohort = bytes(body)
        digest = hashlib.sha256(self._cohort).digest()
        return [self.send(other, AGREE, digest) for other in self._others]

    def _sum(self) -> Iterable[Send]:
        """Expand the streams of the agreed cohort, add them up, and forget every seed."""
        digest = hashlib.sha256(self._cohort).digest()
        for other, theirs in sorted(self._agreed.items()):
            if theirs != digest:
                raise Aborted(f"{other!r} was shown another client set than this aggregator; nothing was revealed")
        total = np.zeros(self.length, self.spec.encoding.ring)
        masks = [
            MaskStream(self._seeds[client], suite=self._suite, context=self.pair(client, self.party.name))
            for client in sorted(decode_set(self._cohort, self.spec.roster.client_names))
        ]
        apply_masks(total, [(mask, 1) for mask in masks])
        self._seeds.clear()
        ring = RingSum(self.spec.encoding, self.length)
        return [self.send(SERVER, SUM, ring.to_wire(total.view(self.spec.encoding.dtype)))]


class AdditiveServer(_AdditiveSession):
    """Aggregator 0: adds the clients' vectors as they come, then the other aggregators' sums."""

    def __init__(self, spec: RoundSpec, party: Party) -> None:
        super().__init__(spec, party)
        self._sum = RingSum(spec.encoding, self.length)
        self._holding: frozenset[PartyId] = self.clients
        self.open_step(HELD, self.helpers, limit=set_bytes(len(self.clients)))

    @property
    def evidence(self) -> Mapping[PartyId, bytes]:
        return self.headers(SHARE)

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        if step == HELD:
            self._holding &= self.read_set(sender, body)
            return ()
        try:
            self._sum.fold(body)
        except WrongLength as error:
            raise Rejected(sender, str(error)) from None
        return ()

    def complete(self, step: int) -> Iterable[Send]:
        if step == HELD:
            self.require_all(HELD, self.helpers)
            self.require_cohort(self._holding)
            self.open_step(SHARE, self._holding, limit=self._sum.wire_bytes)
            return [self.send(client, GO, b"") for client in sorted(self._holding)]
        if step == SHARE:
            cohort = self.heard(SHARE)
            self.require_cohort(cohort)
            self.open_step(SUM, self.helpers, limit=self._sum.wire_bytes)
            body = encode_set(cohort, self.spec.roster.client_names)
            return [self.send(helper, COHORT, body) for helper in self.helpers]
        self.require_all(SUM, self.helpers)
        self.result = SecureSum.of(self._sum.signed(), self.heard(SHARE), self.spec.encoding)
        return ()

    def store(self) -> dict[str, Any]:
        return {"sum": self._sum.store(), "holding": sorted(self._holding)}

    def load(self, fields: dict[str, Any]) -> None:
        self._sum.load(fields["sum"])
        self._holding = frozenset(fields["holding"])
