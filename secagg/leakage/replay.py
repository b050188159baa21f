"""What a coalition can do with a recorded round in its own time: run its members' sessions again.

With the same keys and the same randomness, on the frames that the others sent, they leave some client's upload out.
Nobody who is not in the coalition is asked anything, unless the replay is `live`: that is a server that departs from
the protocol when the round is over, and comes back with another set of survivors (T10).

The minimum cohort is a check in a party's own code, which a curious party deletes: in a replay it is one. All other
checks stand, so that what a replay finds is a lower bound of what the coalition could compute.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from secagg.driver import Letter
from secagg.errors import Aborted, Refused, Rejected
from secagg.identity import SERVER, PartyId
from secagg.leakage.recording import Recording, Tape
from secagg.protocol import SecureSum, Send, Session
from secagg.spec import RoundSpec


@dataclass(frozen=True)
class Replayed:
    """What came of a replay: the sums that members opened, all letters that members sent, and who refused what."""

    sums: tuple[SecureSum, ...]
    letters: tuple[Letter, ...] = field(repr=False)
    refusals: tuple[str, ...]


def replay(
    recording: Recording,
    members: Collection[PartyId],
    *,
    without: Collection[PartyId] = (),
    live: bool = False,
) -> Replayed:
    """Run the members' sessions again as if the clients in `without` had vanished before their uploads.

    With `live` the parties outside are asked as well, with the sessions in which they stood at the end of the round.
    Otherwise, they say what they said in the round and no more.

    Raises:
        Refused: a member is no party of this round.
    """
    parties = recording.parties
    if unknown := sorted(set(members) - set(parties)):
        raise Refused(f"{unknown[0]!r} is no party of this round (parties: {', '.join(sorted(parties))})")
    outsiders = {name: kept.session for name, kept in parties.items() if live and name not in members}
    return _Replay(recording, set(members), set(without), outsiders).run()


class _Replay:
    """The members' sessions, made anew, and the letters on their way to them."""

    def __init__(
        self,
        recording: Recording,
        members: set[PartyId],
        without: set[PartyId],
        outsiders: Mapping[PartyId, Session],
    ) -> None:
        self._recording, self._members = recording, members
        self._outsiders = dict(outsiders)
        self._refusals: list[str] = []
        self._sent: list[Letter] = []
        ends = dict.fromkeys(recording.parties, len(recording.letters))
        if without:
            # What outsiders said after the last upload was about another set of clients.
            ends = dict.fromkeys(ends, max(recording.uploaded_at.values()) + 1)
            ends.update({client: recording.uploaded_at[client] for client in without})
        self._pending = [
            letter
            for at, letter in enumerate(recording.letters)
            if letter.to in members and letter.sender not in members and at < ends[letter.sender]
        ]
        backend = recording.build()
        self._sessions: dict[PartyId, Session] = {}
        for name in members:
            kept = recording.parties[name]
            party = replace(kept.party, rng=Tape(kept.party.rng, kept.tape.drawn))
            self._sessions[name] = backend.session(_unguarded(kept.spec), party, setup=kept.setup)

    def run(self) -> Replayed:
        clients = self._recording.spec.roster.client_set
        self._order = sorted(self._members, key=lambda name: (name in clients, name == SERVER, name))
        for name in self._order:
            self._act(name, lambda session: session.start())
        while self._contribute() or self._deliver_pending() or self._close():
            pass
        results = [session.result for session in self._sessions.values()]
        return Replayed(
            tuple(result for result in results if result is not None), tuple(self._sent), tuple(self._refusals)
        )

    def _contribute(self) -> bool:
        for name, session in self._sessions.items():
            if session.ready and name in self._recording.integers:
                integers = self._recording.integers[name].copy()
                self._act(name, lambda session: session.contribute_integers(integers))  # noqa: B023 - called at once
                return True
        return False

    def _deliver_pending(self) -> bool:
        """Hand over the first letter that is taken; one that comes too early is tried again later."""
        for place, letter in enumerate(self._pending):
            if letter.to in self._sessions and self._deliver(letter):
                del self._pending[place]
                return True
        return False

    def _close(self) -> bool:
        """Nothing more comes: somebody is told that the others are silent."""
        waiting = {name: self._sessions[name].waiting for name in self._order if name in self._sessions}
        waiting = {name: awaited for name, awaited in waiting.items() if awaited}
        if not waiting:
            return False
        name = next((n for n, awaited in waiting.items() if not awaited & set(waiting)), next(iter(waiting)))
        self._act(name, lambda session: session.close(waiting[name]))
        return True

    def _act(self, name: PartyId, action: Callable[[Session], Iterable[Send]]) -> bool:
        """Let a member or an outsider act and deliver what it sends; whether it did."""
        sessions = self._sessions if name in self._members else self._outsiders
        if name not in sessions:
            return False
        try:
            sends = list(action(sessions[name]))
        except Rejected as error:
            self._note(name, error.why)
            return False
        except (Aborted, Refused) as error:
            self._note(name, str(error))
            sessions.pop(name)
            return True
        for send in sends:
            letter = Letter(name, send.to, bytes(send.frame))
            if name in self._members:
                self._sent.append(letter)
            if not self._deliver(letter) and send.to in self._members:
                self._pending.append(letter)
        return True

    def _deliver(self, letter: Letter) -> bool:
        return self._act(letter.to, lambda session: session.receive(letter.sender, letter.frame))

    def _note(self, name: PartyId, why: str) -> None:
        if name in self._outsiders:
            self._refusals.append(f"{name}: {why}")


def _unguarded(spec: RoundSpec) -> RoundSpec:
    """The same round, digest included, for sessions whose owner has deleted the check of the minimum cohort."""
    digest = spec.digest
    copy = spec.model_copy(update={"minimum_cohort": 1})
    copy.__dict__["digest"] = digest
    return copy
