"""The server of `smpc`, which is aggregator 0: adds the clients' vectors as they come, then the sums of the shares."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from secagg.errors import Aborted, Rejected
from secagg.identity import PartyId
from secagg.protocol import Party, SecureSum, Send
from secagg.ringsum import WrongLength
from secagg.spec import RoundSpec
from smpc.additive.role import (
    ASK,
    CHECK,
    COHORT,
    DIGEST_BYTES,
    GO,
    HELD,
    MARK_BYTES,
    MISSING,
    SHARE,
    SPARE,
    SUM,
    AdditiveRole,
)  # fmt: skip
from smpc.cohort import encode_set, set_bytes


class AdditiveServer(AdditiveRole):
    """Says which clients are in, holds the aggregators' sums against each other, and adds each share once."""

    def __init__(self, spec: RoundSpec, party: Party, *, threshold: int) -> None:
        super().__init__(spec, party, threshold)
        self._sum = self.ring_sum()
        self._held: dict[PartyId, bytes] = {}
        self._live: list[PartyId] = list(self.sharing.helpers)
        self._digests: dict[PartyId, bytes] = {}
        self._asked: dict[PartyId, list[int]] = {}
        self._added: list[int] = []
        limit = set_bytes(len(self.clients)) + len(self.clients) * self._marks_bytes()
        self.open_step(HELD, self.sharing.helpers, limit=limit)

    @property
    def evidence(self) -> Mapping[PartyId, bytes]:
        return self.headers(SHARE)

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        if step == HELD:
            self._read_held(sender, body)
            self._held[sender] = bytes(body)
        elif step == CHECK:
            expected = self.sharing.each * DIGEST_BYTES
            if len(body) != expected:
                raise Rejected(sender, f"digests of {len(body)} bytes, expected {expected}")
            self._digests[sender] = bytes(body)
        elif step == SHARE or not self.sharing.replicated:
            self._fold(sender, body)
        else:
            self._fold_shares(sender, body)
        return ()

    def complete(self, step: int) -> Iterable[Send]:
        if step == HELD:
            return self._invite()
        if step == SHARE:
            cohort = self.heard(SHARE)
            self.require_cohort(cohort)
            if self.sharing.replicated:
                self.open_step(CHECK, self._live, limit=self.sharing.each * DIGEST_BYTES)
            else:
                self.open_step(SUM, self._live, limit=self._sum.wire_bytes)
            body = encode_set(cohort, self.spec.roster.client_names)
            return [self.send(helper, COHORT, body) for helper in self._live]
        if step == CHECK:
            self._live = list(self.heard(CHECK))
            self.require_quorum(self._live)
            self._compare()
            return self._ask(ASK, SUM, self.sharing.assign(self._live))
        if not self.sharing.replicated:
            self.require_quorum(self.heard(SUM))
        elif len(self._added) < len(self.sharing.holders):
            return self._ask_others(step)
        self.result = SecureSum.of(self._sum.signed(), self.heard(SHARE), self.spec.encoding)
        return ()

    def store(self) -> dict[str, Any]:
        return {
            "sum": self._sum.store(),
            "held": self._held,
            "live": self._live,
            "digests": self._digests,
            "asked": self._asked,
            "added": self._added,
        }

    def load(self, fields: dict[str, Any]) -> None:
        self._sum.load(fields["sum"])
        self._held, self._live = fields["held"], fields["live"]
        self._digests, self._asked, self._added = fields["digests"], fields["asked"], fields["added"]

    def _marks_bytes(self) -> int:
        """Bytes of the marks of one client's seeds at one aggregator."""
        return self.sharing.each * MARK_BYTES if self.sharing.replicated else 0

    def _read_held(self, sender: PartyId, body: memoryview) -> tuple[frozenset[PartyId], memoryview]:
        """The clients whose seeds an aggregator holds, and the marks of these seeds."""
        size = set_bytes(len(self.clients))
        members = self.read_set(sender, body[:size])
        if len(body) - size != len(members) * self._marks_bytes():
            raise Rejected(sender, f"marks of {len(body) - size} bytes, expected {len(members) * self._marks_bytes()}")
        return members, body[size:]

    def _invite(self) -> Iterable[Send]:
        """Ask those clients for their vector whose seeds are with all aggregators that count, and the same with all."""
        held = {name: self._read_held(name, memoryview(body)) for name, body in self._held.items()}
        # Whom the clients did not hear in time is of no more use than one that is silent.
        useful = [name for name, (members, _) in held.items() if len(members) >= self.spec.minimum_cohort]
        self._live = sorted(useful if len(useful) >= self.sharing.needed else held)
        self.require_quorum(self._live)
        unequal = self._unequal(held)
        invited = self.clients.intersection(*(held[name][0] for name in self._live)) - set(unequal)
        if unequal and len(invited) < self.spec.minimum_cohort:
            client, (one, other) = min(unequal.items())
            raise Aborted(f"{one!r} and {other!r} hold different seeds of {client!r}; nothing was revealed")
        self.require_cohort(invited)
        self._held.clear()
        self.open_step(SHARE, invited, limit=self._sum.wire_bytes)
        return [self.send(client, GO, b"") for client in sorted(invited)]

    def _unequal(
        self, held: Mapping[PartyId, tuple[frozenset[PartyId], memoryview]]
    ) -> Mapping[PartyId, tuple[PartyId, PartyId]]:
        """The clients of whose seeds two aggregators have different marks, and which two."""
        marks: dict[tuple[PartyId, int], tuple[PartyId, bytes]] = {}
        unequal: dict[PartyId, tuple[PartyId, PartyId]] = {}
        for helper in self._live if self.sharing.replicated else ():
            members, body = held[helper]
            seeds = [(client, share) for client in sorted(members) for share in self.sharing.held_by(helper)]
            for place, (client, share) in enumerate(seeds):
                mark = bytes(body[place * MARK_BYTES : (place + 1) * MARK_BYTES])
                other, theirs = marks.setdefault((client, share), (helper, mark))
                if theirs != mark:
                    unequal[client] = other, helper
        return unequal

    def _digest(self, helper: PartyId, share: int) -> bytes:
        """What a helper says is SHA-256 of a share's sum."""
        at = self.sharing.held_by(helper).index(share) * DIGEST_BYTES
        return self._digests[helper][at : at + DIGEST_BYTES]

    def _compare(self) -> None:
        """Raise `Aborted`, naming two aggregators, if they do not hold the same sum of a share (S3)."""
        for share, holders in enumerate(self.sharing.holders):
            first, *others = (name for name in holders if name in self._digests)
            for other in others:
                if self._digest(first, share) != self._digest(other, share):
                    raise Aborted(f"{first!r} and {other!r} hold different sums of share {share}; nothing was revealed")

    def _ask(self, request: int, answer: int, shares: Mapping[PartyId, Sequence[int]]) -> Iterable[Send]:
        """Ask helpers for the sums of these shares."""
        self._asked = {helper: list(numbers) for helper, numbers in sorted(shares.items())}
        limit = max(map(len, self._asked.values())) * self._sum.wire_bytes
        self.open_step(answer, self._asked, limit=limit)
        return [self.send(helper, request, bytes(numbers)) for helper, numbers in self._asked.items()]

    def _ask_others(self, step: int) -> Iterable[Send]:
        """Somebody who was to send a share did not: ask all who are left for all that they hold of what is missing."""
        silent = set(self._asked) - set(self.heard(step))
        self._live = [helper for helper in self._live if helper not in silent]
        self.require_quorum(self._live)
        missing = set(range(len(self.sharing.holders))) - set(self._added)
        # At least one who is left holds each missing share, and after this step none is missing or too few are left.
        asked = {helper: sorted(missing.intersection(self.sharing.held_by(helper))) for helper in self._live}
        return self._ask(MISSING, SPARE, {helper: shares for helper, shares in asked.items() if shares})

    def _fold(self, sender: PartyId, vector: memoryview) -> None:
        try:
            self._sum.fold(vector)
        except WrongLength as error:
            raise Rejected(sender, str(error)) from None

    def _fold_shares(self, sender: PartyId, body: memoryview) -> None:
        """Add the sums that `sender` was asked for, a share once, if they are what it gave digests of (S3)."""
        size, asked = self._sum.wire_bytes, self._asked[sender]
        if len(body) != len(asked) * size:
            raise Rejected(sender, f"sums of {len(body)} bytes, expected {len(asked)} of {size}")
        vectors = {share: body[place * size : (place + 1) * size] for place, share in enumerate(asked)}
        for share, vector in vectors.items():
            if hashlib.sha256(vector).digest() != self._digest(sender, share):
                raise Rejected(sender, f"its sum of share {share} is not the one whose digest it sent")
        # Each is marked as it is added: one that cannot be added after all leaves the state whole.
        for share, vector in vectors.items():
            if share not in self._added:
                self._fold(sender, vector)
                self._added.append(share)
