"""What each party reads of the clients' updates under a backend, and each set of colluding parties: computed.

Nothing here is taken from what a backend says about itself. A round is recorded (`secagg.leakage.recording`) and then
given to a coalition. Integers that lie open in a frame that it saw or wrote are read there (`secagg.leakage.openings`).
Sums are those that its own sessions end with, in the round and when it runs them again without one client's upload
(`secagg.leakage.replay`); clients have the released sum too. From a sum it takes what its own clients put in, and a
smaller sum from a larger one: where one client is left, that is its update.

What is found is a lower bound: with code of its own a coalition might do better. (Of `secaggplus` it finds that more
colluders than its threshold open everybody; that as many as the threshold would do, it does not find.) Every vector
that a view gives was held against the clients' inputs: `error` says how far it is from them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secagg.driver import Letter
from secagg.errors import Refused
from secagg.fixedpoint import FixedPoint
from secagg.identity import SERVER, PartyId
from secagg.leakage.openings import Coordinates, open_coordinates
from secagg.leakage.recording import Recording
from secagg.leakage.replay import Replayed, replay

EVERYBODY = "everybody"
Floats = NDArray[np.float64]
Sums = NDArray[np.int64]


@dataclass(frozen=True)
class View:
    """One vector that a party can compute, or `vector` None: nothing but bytes that tell it nothing.

    Attributes:
        party: who reads.
        colluders: the other members of its coalition, who pool what they have.
        vector: the sum over `over` of weight times update, float64 of shape `(size,)`, in the updates' own unit;
            NaN where a coordinate is not read.
        over: the clients in that sum. Colluding clients' own updates are taken out.
        weight: the sum of their weights, or None where it is not read; 1 each under a public divisor.
        noised: whether the vector carries noise: it is not the sum of the clients' encodings.
        error: the largest absolute difference from the same sum of the clients' own clipped encodings.
    """

    party: PartyId
    colluders: tuple[PartyId, ...]
    vector: Floats | None = field(repr=False)
    over: tuple[PartyId, ...] = ()
    weight: int | None = None
    noised: bool = False
    error: float = 0.0

    @property
    def share(self) -> float:
        """The share of coordinates that are read, 0 to 1."""
        return 0.0 if self.vector is None else float(np.isfinite(self.vector).mean())

    @property
    def single(self) -> bool:
        """Whether this is one client's own update, in part at least."""
        return len(self.over) == 1

    def mean(self) -> Floats:
        """The weighted mean update over `over`. Raises `Refused` where there is none to read."""
        if self.vector is None or not self.weight:
            raise Refused(f"view of {self.party!r}: no mean, since the vector or the sum of the weights is not read")
        return self.vector / self.weight

    def __str__(self) -> str:
        if self.vector is None:
            return "nothing"
        what = f"the update of {self.over[0]}" if self.single else f"the sum of {len(self.over)}"
        part = "" if self.share == 1 else f", {100 * self.share:.3g} % of its coordinates"
        return f"{what}{part}{', with noise' if self.noised else ''}"


def views(recording: Recording, party: PartyId, colluders: Collection[PartyId] = ()) -> tuple[View, ...]:
    """What `party` and its `colluders` read of the other clients: every single update that they can compute, in part
    or whole; else those in part, and the sum of the rest. One view without a vector where there is nothing.

    `party` may be `EVERYBODY`: whoever is shown the released sum, such as every client by the next global model.

    Raises:
        Refused: somebody is no party of this round.
    """
    if party == EVERYBODY:
        return (released(recording),)
    reading = _Reading(recording, {party, *colluders})
    reading.replay()
    return reading.views(party, colluders)


def malicious_server(recording: Recording, colluders: Collection[PartyId] = ()) -> tuple[tuple[View, ...], list[str]]:
    """What a server reads that asks honest parties, after the round, for a second sum without one client (T10).

    Returns its views, and what honest parties answered where they refused.
    """
    reading = _Reading(recording, {SERVER, *colluders})
    reading.replay(live=True)
    return reading.views("malicious server", colluders), sorted(reading.refusals)


def released(recording: Recording) -> View:
    """The sum that the round released, as everybody comes to see it."""
    return _view(recording, EVERYBODY, (), _released(recording), recording.outcome.result.contributors)


def coalitions(recording: Recording) -> list[tuple[PartyId, tuple[PartyId, ...]]]:
    """The coalitions worth a row in a report: a party, and who colludes with it.

    Everybody, one client, the server and one helper, each alone; all clients but one; the server with one client and
    with all but one; the server with all helpers but one, and with all; the helpers together; one helper with all
    clients but one.
    """
    clients, helpers = recording.clients, recording.helpers
    rows = [(EVERYBODY, ()), (clients[0], ()), (clients[1], clients[2:]), (SERVER, ())]
    rows += [(SERVER, clients[-1:]), (SERVER, clients[1:])]
    if helpers:
        rows += [(helpers[0], ()), (helpers[0], clients[1:]), (SERVER, helpers)]
    if len(helpers) > 1:
        rows += [(helpers[0], helpers[1:]), (SERVER, helpers[1:])]
    return rows


def _released(recording: Recording) -> Sums:
    """The released totals, and the weight behind them."""
    result = recording.outcome.result
    weight = result.weight if recording.spec.encoding.weighted else len(result.contributors)
    return np.append(result.totals.astype(np.int64), weight)


class _Reading:
    """What one coalition comes to know: sums of integers, by who is in them, and single coordinates in the clear.

    Integers are int64 with the weight, or the number of clients under a public divisor, as the last coordinate.
    """

    def __init__(self, recording: Recording, members: set[PartyId]) -> None:
        self.refusals: set[str] = set()
        self._recording, self._members = recording, members
        self._weighted = recording.spec.encoding.weighted
        self._own = [client for client in recording.clients if client in members]
        self._honest = [client for client in recording.clients if client not in members]
        self._sums: dict[frozenset[PartyId], Sums] = {frozenset(): np.zeros(recording.spec.layout.size + 1, np.int64)}
        self._seen = recording.seen_by(members)
        self._open = {client: self._in_frames([client], self._seen) for client in self._honest}
        for client, found in self._open.items():
            if found.all():
                self._learn([client], self._total([client]))

    def replay(self, *, live: bool = False) -> None:
        """Run the members' sessions again, once as they were and once without each honest client's upload."""
        for without in [[], *([client] for client in self._honest)]:
            again = replay(self._recording, self._members, without=without, live=live and bool(without))
            self._take(again, without)
        if self._own and len(self._sums) == 1:
            # The released sum comes to every client with the next model.
            self._learn(self._recording.outcome.result.contributors, _released(self._recording))

    def views(self, party: PartyId, colluders: Collection[PartyId]) -> tuple[View, ...]:
        """The members' best: see `views`."""
        others = tuple(sorted(colluders))
        singles, rest = self._separated()
        result = [_view(self._recording, party, others, totals, (client,)) for client, totals in singles.items()]
        for client, found in self._open.items():
            if client not in singles and found.any():
                result.append(_view(self._recording, party, others, self._total([client]), (client,), found))
        if rest is not None:
            result.append(_view(self._recording, party, others, rest[1], rest[0]))
        return tuple(result) or (View(party, others, None),)

    def _take(self, replayed: Replayed, without: Collection[PartyId]) -> None:
        self.refusals.update(replayed.refusals)
        for result in replayed.sums:
            last = result.weight if self._weighted else len(result.contributors)
            totals = np.append(result.totals.astype(np.int64), last)
            # Half of the shares, or an answer that was for another set, makes a session end with anything at all.
            if (np.abs(totals - self._total(result.contributors)) <= len(result.contributors)).all():
                self._learn(result.contributors, totals)
        # Whoever opens a sum for another party has it, whether its session keeps it or only writes it down.
        left = [client for client in self._recording.outcome.result.contributors if client not in without]
        if self._in_frames(left, [*replayed.letters, *(() if without else self._seen)]).all():
            self._learn(left, self._total(left))

    def _learn(self, contributors: Collection[PartyId], totals: Sums) -> None:
        """A sum is known: and so is the part of it that is not the members' own."""
        own = [client for client in self._own if client in contributors]
        self._sums[frozenset(contributors) - set(own)] = totals - (self._total(own) if own else 0)

    def _separated(self) -> tuple[dict[PartyId, Sums], tuple[tuple[PartyId, ...], Sums] | None]:
        """Single updates, by taking smaller sums from larger ones; and the largest sum of those that are left."""
        singles = {
            next(iter(large - small)): self._sums[large] - self._sums[small]
            for large in self._sums
            for small in self._sums
            if small < large and len(large - small) == 1
        }
        rest = {names - set(singles): names for names in self._sums if len(names - set(singles)) > 1}
        if not rest:
            return singles, None
        most = max(rest, key=len)
        taken = sum((singles[client] for client in rest[most] - most), start=np.int64(0))
        return singles, (tuple(sorted(most)), self._sums[rest[most]] - taken)

    def _in_frames(self, clients: Collection[PartyId], letters: Iterable[Letter]) -> Coordinates:
        """Which coordinates of the sum of these clients lie open in some frame."""
        ring = self._recording.spec.encoding.ring
        stored = sum(self._recording.integers[client].view(ring) for client in clients)
        integers = np.asarray(stored, ring).view(self._recording.spec.encoding.dtype)
        found = np.zeros(integers.size, bool)
        for letter in letters:
            if len(clients) > 1 or letter.sender in clients:
                found |= open_coordinates(letter.frame, integers, self._recording.spec.encoding)
        return found if self._weighted else np.append(found, found.all())

    def _total(self, clients: Collection[PartyId]) -> Sums:
        """What was put in by these clients, noise included."""
        total = sum(self._recording.integers[client].astype(np.int64) for client in clients)
        return np.asarray(total if self._weighted else np.append(total, len(clients)), np.int64)


def _view(
    recording: Recording,
    party: PartyId,
    colluders: tuple[PartyId, ...],
    totals: Sums,
    over: tuple[PartyId, ...],
    found: Coordinates | None = None,
) -> View:
    """A view of integers that were read, held against what the clients meant to send."""
    encoding, size = recording.spec.encoding, recording.spec.layout.size
    found = np.ones(size + 1, bool) if found is None else found
    clean = sum(recording.clean[client].astype(np.int64)[:size] for client in over)
    steps = np.abs(totals[:size] - clean)[found[:size]]
    return View(
        party=party,
        colluders=colluders,
        vector=_floats(encoding, totals[:size], found[:size]),
        over=over,
        weight=int(totals[size]) if found[size] else None,
        noised=bool((steps > len(over)).any()),  # stochastic rounding moves each client's value by one at most
        error=float(steps.max(initial=0) / encoding.scale),
    )


def _floats(encoding: FixedPoint, totals: Sums, found: Coordinates) -> Floats:
    """What was read as floats. Of a rotated vector a part says nothing of single coordinates: all are NaN."""
    if encoding.rotation is not None:
        return encoding.to_floats(totals) if found.all() else np.full(totals.size, np.nan)
    return np.where(found, totals / encoding.scale, np.nan)
