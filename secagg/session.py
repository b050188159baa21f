"""The state machine that every role shares: what may come from whom, when, and what is turned away.

A role (client, server, helper) subclasses `RoundSession` and says three things: which steps are open and to
whom (`open_step`), what an accepted message does (`handle`), and what happens once a step has everybody or is
closed without them (`complete`). Authentication, order, duplicates, limits, and storing and restoring are here,
once, for all protocols.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from secagg import record
from secagg.errors import Aborted, Refused, Rejected
from secagg.fixedpoint import Integers
from secagg.frames import Header, Malformed, split
from secagg.identity import SERVER, PartyId, PublicIdentity
from secagg.protocol import Party, SecureSum, Send
from secagg.sealing import NONCE_BYTES, Channel, Tampered
from secagg.spec import RoundSpec


@dataclass
class OpenStep:
    """A step that still takes messages: from whom, how long a body may be (bytes), and whether we wait for it."""

    expected: set[PartyId]
    limit: int
    awaited: bool = True


class RoundSession:
    """Base of all sessions; see `secagg.protocol.Session` for the interface it implements."""

    def __init__(self, spec: RoundSpec, party: Party) -> None:
        self.spec = spec
        self.party = party
        self.result: SecureSum | None = None
        self._left = ""
        self._started = self._contributed = self._restored = False
        self._outbox: list[Send] = []
        self._open: dict[int, OpenStep] = {}
        self._closed: set[int] = set()
        self._headers: dict[tuple[PartyId, int, int], bytes] = {}
        self._replies: dict[tuple[PartyId, int, int], list[Send]] = {}
        self._channels: dict[PartyId, Channel] = {}
        own = spec.roster.fingerprints.get(party.name)
        if own != party.identity.public.fingerprint:
            raise Refused(f"party {party.name!r} is not in the roster under its own identity")

    # What a role defines.

    def begin(self) -> Iterable[Send]:
        """The first messages of this role."""
        return ()

    @property
    def wants_input(self) -> bool:
        """A client's role: whether the protocol has come to the point where the vector is due."""
        return False

    def protect(self, integers: Integers) -> Iterable[Send]:
        """A client's role: protect a checked encoding, which it may overwrite, and send it. Called once."""
        raise Refused(f"party {self.party.name!r} has no update to contribute")

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        """Take an authenticated message of an open step. Raise `Rejected` before changing anything."""
        raise Rejected(sender, f"step {step} has no meaning here")

    def complete(self, step: int) -> Iterable[Send]:
        """Everybody expected in `step` has answered, or has been declared absent.

        A list is kept for a restart. A generator, for frames too large to keep, is not: `remake` makes them anew.
        """
        return ()

    def remake(self) -> Iterable[Send]:
        """After a restart: the frames that were too large to keep, if they may not have left."""
        return ()

    def store(self) -> dict[str, Any]:
        """The role's own state as record fields. It may hold secrets: keep it as you keep keys."""
        return {}

    def load(self, fields: dict[str, Any]) -> None:
        """Restore what `store` gave."""

    # The interface that engines use.

    @property
    def ready(self) -> bool:
        return self.wants_input and not self._contributed and not self._left

    @property
    def waiting(self) -> frozenset[PartyId]:
        return frozenset().union(*(step.expected for step in self._open.values() if step.awaited))

    @property
    def agreed(self) -> bytes:
        return b""

    @property
    def evidence(self) -> Mapping[PartyId, bytes]:
        return {}

    def start(self) -> Iterable[Send]:
        with self._final():
            first = [] if self._started else list(self.begin())
            self._started = True
            # After a restart also what may not have left when the state was stored; receivers know it by its bytes.
            again = [*self._outbox, *self.remake()] if self._restored else []
            return (*again, *self._keep(first))

    def contribute(self, vector: NDArray[np.float32], weight: int = 1) -> Iterable[Send]:
        self.spec.layout.check(vector)
        return self.contribute_integers(self.spec.encoding.encode(vector, weight, rng=self.party.rng).integers)

    def contribute_integers(self, integers: Integers) -> Iterable[Send]:
        with self._final():
            if self.spec.phase != "round":
                raise Refused("set-up takes no update")
            if not self.ready:
                raise Refused("this client has already contributed, or the protocol has not come to that point")
            self.spec.encoding.check_integers(integers, self.spec.layout.size)
            sends = self._keep(list(self.protect(integers)))
            self._contributed = True
            return sends

    def flushed(self) -> None:
        self._outbox.clear()

    def receive(self, sender: PartyId, frame: bytes | memoryview) -> Iterable[Send]:
        with self._final():
            return self._receive(sender, frame)

    def _receive(self, sender: PartyId, frame: bytes | memoryview) -> Iterable[Send]:
        header, body = self._envelope(sender, frame)
        key = (sender, header.step, header.part)
        earlier = self._headers.get(key)
        if earlier is None:
            self._check_order(sender, header)
        self._authenticate(sender, header, body)
        if earlier is not None:
            if earlier != header.to_bytes():
                raise Rejected(sender, f"equivocation: a second, different message in step {header.step}")
            return tuple(self._replies.get(key, ()))
        answers = self.handle(header.step, sender, body)
        self._headers[key] = header.to_bytes()
        self._open[header.step].expected.discard(sender)
        if self.party.name == SERVER:
            return self._then(answers, self._advance())
        # Anybody but the server is asked: what was answered once is answered again from here.
        self._replies[key] = [*self._keep(list(answers)), *self._advance()]
        return tuple(self._replies[key])

    def close(self, absent: Collection[PartyId]) -> Iterable[Send]:
        missing = self.waiting - set(absent)
        if missing:
            raise Refused(f"the step is not over: {min(missing)!r} is neither heard nor declared absent")
        unknown = set(absent) - set(self.spec.roster.fingerprints)
        if unknown:
            raise Refused(f"{min(unknown)!r} is declared absent and not in the roster")
        with self._final():
            for step in self._open.values():
                if step.awaited:
                    step.expected -= set(absent)
            return self._advance()

    def dump(self) -> bytes:
        return record.encode(
            {
                "spec": self.spec.digest,
                "party": self.party.name,
                "left": self._left,
                "started": self._started,
                "contributed": self._contributed,
                "outbox": [[send.to, send.frame] for send in self._outbox],
                "open": [[step, sorted(o.expected), o.limit, o.awaited] for step, o in sorted(self._open.items())],
                "closed": sorted(self._closed),
                "accepted": [[*key, header] for key, header in sorted(self._headers.items())],
                "replies": [
                    [*key, [[send.to, send.frame] for send in sends]] for key, sends in sorted(self._replies.items())
                ],
                "result": None if self.result is None else self.result.to_fields(),
                "role": self.store(),
            }
        )

    def restore(self, state: bytes) -> None:
        """Take up where `dump` left off, in this or another process. Raises `Refused` for another's state."""
        try:
            self._restore(record.decode(state))
        except (record.Malformed, KeyError, TypeError, ValueError) as error:
            raise Refused(f"stored session: not the state of such a session: {error}") from None

    def _restore(self, fields: dict[str, Any]) -> None:
        if fields["spec"] != self.spec.digest or fields["party"] != self.party.name:
            raise Refused("stored session: it belongs to another round or another party")
        self._left = fields["left"]
        self._started, self._contributed = fields["started"], fields["contributed"]
        self._outbox = [Send(to, frame) for to, frame in fields["outbox"]]
        self._restored = True
        self._open = {step: OpenStep(set(names), *more) for step, names, *more in fields["open"]}
        self._closed = set(fields["closed"])
        for sender, step, part, header in fields["accepted"]:
            self._headers[sender, step, part] = header
        for sender, step, part, sends in fields["replies"]:
            self._replies[sender, step, part] = [Send(to, frame) for to, frame in sends]
        if fields["result"] is not None:
            self.result = SecureSum.from_fields(fields["result"], self.spec.encoding)
        self.load(fields["role"])

    @contextlib.contextmanager
    def _final(self) -> Iterator[None]:
        """Who has left a round stays out of it: another request cannot talk the party back in."""
        if self._left:
            raise Aborted(self._left)
        try:
            yield
        except Aborted as error:
            self._left = str(error)
            raise

    # What roles use.

    @property
    def clients(self) -> frozenset[PartyId]:
        return self.spec.roster.client_set

    def open_step(self, step: int, senders: Iterable[PartyId], *, limit: int, awaited: bool = True) -> None:
        """From now on, one message of `step` is taken from each of `senders`, with at most `limit` bytes.

        A step that is not `awaited` is a request that may come or not: nobody is declared absent in it.
        """
        self._open[step] = OpenStep(set(senders), limit, awaited)

    def heard(self, step: int) -> tuple[PartyId, ...]:
        """Whose message of `step` was accepted, sorted by name."""
        return tuple(sorted({sender for sender, number, _ in self._headers if number == step}))

    def headers(self, step: int) -> dict[PartyId, bytes]:
        """The signed headers of the accepted messages of `step`: evidence that a third party can check."""
        return {s: self._headers[s, n, p] for s, n, p in sorted(self._headers) if n == step}

    def peer(self, name: PartyId) -> PublicIdentity:
        """The identity of `name`, as this site knows it *and* as the spec states it (T1, T2)."""
        identity = self.party.directory[name]
        if identity.fingerprint != self.spec.roster.fingerprints[name]:
            raise Aborted(f"the spec gives {name!r} another identity than this site knows")
        return identity

    def send(self, to: PartyId, step: int, *body: bytes | memoryview) -> Send:
        """Frame, tag and sign a body, given in one piece or in several."""
        identity = self.party.identity
        nonce = self.party.rng(NONCE_BYTES)
        header = Header(
            step=step,
            part=0,
            length=sum(map(len, body)),
            spec=self.spec.digest,
            sender=identity.public.fingerprint,
            recipient=self.peer(to).fingerprint,
            nonce=nonce,
            tag=self._channel(to).tag(nonce, *body),
        )
        signed = header.sign_with(identity.sign(header.signed_bytes()))
        return Send(to, b"".join([signed.to_bytes(), *body]))

    def require_cohort(self, contributors: Sized) -> None:
        """Raise `Aborted` unless enough clients stand in the sum (T9)."""
        if len(contributors) < self.spec.minimum_cohort:
            raise Aborted(
                f"{len(contributors)} clients contributed, the minimum cohort is {self.spec.minimum_cohort}; "
                "nothing was revealed"
            )

    # The guards, in the order in which a message meets them.

    def _envelope(self, sender: PartyId, frame: bytes | memoryview) -> tuple[Header, memoryview]:
        """Cheap checks on the outside of a message; the body is not looked at."""
        fingerprint = self.spec.roster.fingerprints.get(sender)
        if fingerprint is None:
            raise Rejected(sender, "not in the roster of this round")
        try:
            header, body = split(frame, limit=self._limit(sender, frame))
        except Malformed as error:
            raise Rejected(sender, str(error)) from None
        if header.spec != self.spec.digest:
            raise Rejected(sender, "it belongs to another round, or to another spec of this round")
        if header.sender != fingerprint:
            raise Rejected(sender, "the frame names another sender")
        if header.recipient != self.party.identity.public.fingerprint:
            raise Rejected(sender, "the frame is addressed to somebody else")
        return header, body

    def _limit(self, sender: PartyId, frame: bytes | memoryview) -> int:
        """How long the body of this frame may be: what its open step allows, or what was accepted before."""
        header = Header.from_bytes(frame)
        earlier = self._headers.get((sender, header.step, header.part))
        if earlier is not None:
            return Header.from_bytes(earlier).length
        step = self._open.get(header.step)
        return header.length if step is None else step.limit

    def _check_order(self, sender: PartyId, header: Header) -> None:
        step = self._open.get(header.step)
        if header.step in self._closed:
            raise Rejected(sender, f"step {header.step} is closed; too late")
        if step is None:
            raise Rejected(sender, f"step {header.step} is out of order")
        if sender not in step.expected:
            raise Rejected(sender, f"no message of step {header.step} is expected from it")

    def _authenticate(self, sender: PartyId, header: Header, body: memoryview) -> None:
        try:
            identity = self.peer(sender)
        except Refused as error:
            raise Rejected(sender, str(error)) from None
        if not identity.verify(header.signature, header.signed_bytes()):
            raise Rejected(sender, "the header is not signed by it")
        try:
            self._channel(sender).check(header.nonce, header.tag, body)
        except Tampered as error:
            raise Rejected(sender, str(error)) from None

    def _channel(self, name: PartyId) -> Channel:
        if name not in self._channels:
            self._channels[name] = Channel(self.party.identity, self.peer(name), self.spec.digest)
        return self._channels[name]

    def _advance(self) -> Iterable[Send]:
        """Complete every open step that expects nobody any more."""
        sends: list[Iterable[Send]] = []
        while done := [step for step, o in sorted(self._open.items()) if not o.expected]:
            for step in done:
                del self._open[step]
                self._closed.add(step)
                following = self.complete(step)
                sends.append(self._keep(following) if isinstance(following, list) else following)
        return self._then(*sends)

    def _keep(self, sends: list[Send]) -> tuple[Send, ...]:
        """Remember frames until `flushed` says that they have left."""
        self._outbox += sends
        return tuple(sends)

    @staticmethod
    def _then(*parts: Iterable[Send]) -> Iterator[Send]:
        for part in parts:
            yield from part


Role = TypeVar("Role", bound=RoundSession)


def resume(session: Role, state: bytes) -> Role:
    """Restore a fresh session where there is a stored `state`."""
    if state:
        session.restore(state)
    return session
