"""Attacks on sharing with a threshold: S1 by colluders, S3 by aggregators and clients, two sets by the server."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from secagg.driver import Letter
from secagg.errors import Aborted, Refused, Rejected
from secagg.frames import HEADER_BYTES
from secagg.identity import SERVER, PartyId
from secagg.sealing import seal
from secagg.spec import RoundSpec
from secagg.vectors import Layout
from smpc.additive.replication import Replication
from smpc.additive.role import AGREE, ASK, CHECK, COHORT, HELD, KEY, MARK_BYTES, MISSING, SEED, SHARE, SPARE, SUM
from smpc.cohort import encode_set
from smpc.masks import SEED_BYTES, MaskStream, apply_masks
from tests.adversary.federation import Federation, step_of
from tests.adversary.test_smpc_losses import ONE, THREE, TWO, Deaths

SIZE = 20_000
Ring = NDArray[np.uint32]


def body(letter: Letter) -> bytes:
    return bytes(letter.frame[HEADER_BYTES:])


def halves() -> NDArray[np.float32]:
    """As many +1 as -1, in an order of their own."""
    signs: NDArray[np.float32] = np.repeat(np.array([1, -1], np.float32), SIZE // 2)
    return np.random.default_rng(3).permutation(signs)


class World:
    """A real round of one input of site-0, and all that aggregators hold of it: its shares, and the shares' sums."""

    def __init__(self, name: str, sign: int) -> None:
        federation = Federation(name, size=SIZE)
        sessions = federation.keep_sessions()
        federation.vectors = {who: np.zeros(SIZE, np.float32) for who in federation.names}
        federation.vectors["site-0"], federation.vectors["site-1"] = sign * halves(), -sign * halves()
        federation.weights = dict.fromkeys(federation.names, 1)
        self.helpers = federation.backend.helpers()
        self.sharing: Replication = federation.backend._sharing  # type: ignore[attr-defined]
        self.shares: dict[int, Ring] = {}
        self.sums: dict[int, Ring] = {}
        spec = federation.spec()

        def watch(letter: Letter) -> Iterable[Letter]:
            if letter.kind == "frame" and letter.to == SERVER:
                if step_of(letter) == HELD:
                    self._expand(sessions[letter.sender], letter.sender)
                if step_of(letter) == SHARE and letter.sender == "site-0":
                    self.vector = np.frombuffer(body(letter), np.uint32)
                if step_of(letter) == SUM:
                    sent = np.frombuffer(body(letter), np.uint32).reshape(-1, SIZE + 1)
                    assigned = self.sharing.assign(self.helpers)[letter.sender]
                    self.sums.update(zip(assigned, sent, strict=True))
            return (letter,)

        federation.wire = watch
        self.total = federation.round(spec=spec).result.totals

    def _expand(self, session: object, helper: PartyId) -> None:
        """The streams that site-0 dealt to one aggregator, from the seeds in its session."""
        for share in self.sharing.held_by(helper):
            stream = np.zeros(SIZE + 1, np.uint32)
            context = session.share_context("site-0", share)  # type: ignore[attr-defined]
            seed = session._seed("site-0", share)  # type: ignore[attr-defined]
            apply_masks(stream, [(MaskStream(seed, suite="chacha20", context=context), 1)])
            self.shares[share] = stream

    def views(self, colluders: Iterable[PartyId]) -> Iterator[Ring]:
        """What colluders can make of all that they have: added up in favour of site-0, as it is and with the sums."""
        known = {share for helper in set(colluders) - {SERVER} for share in self.sharing.held_by(helper)}
        view = np.zeros(SIZE + 1, np.uint32)
        for share in known:
            view += self.shares[share]
        if SERVER in colluders:
            view += self.vector
            yield view
            for share in set(self.sums) - known:
                view = view + self.sums[share]
        yield view


@cache
def world(name: str, sign: int) -> World:
    return World(name, sign)


def distance(one: Ring, other: Ring) -> float:
    """Chi-square of two samples of bytes, 255 degrees of freedom: over 450 with probability 6e-13 if alike."""
    a, b = (np.bincount(sample.view(np.uint8), minlength=256) for sample in (one, other))
    return float(((a - b) ** 2 / np.maximum(a + b, 1)).sum())


def differences(name: str, colluders: Iterable[PartyId]) -> list[float]:
    """How far apart the views of two inputs with one sum are, and in each view the places of +1 and of -1."""
    up = np.append(halves() > 0, False)
    down = np.append(halves() < 0, False)
    found = []
    for one, other in zip(world(name, 1).views(colluders), world(name, -1).views(colluders), strict=True):
        found += [distance(one[up], one[down]), distance(other[up], other[down])]
        found += [distance(one[up], other[up]), distance(one[down], other[down])]
    return found


def groups(name: str, count: int) -> list[tuple[PartyId, ...]]:
    return list(itertools.combinations((SERVER, *world(name, 1).helpers), count))


@pytest.mark.parametrize(("name", "threshold"), [("smpc", 3), ("smpc 2 of 3", 2), ("smpc 3 of 5", 3)])
def test_s1_one_colluder_fewer_than_the_threshold_cannot_tell_two_inputs_with_one_sum_apart(
    name: str, threshold: int
) -> None:
    """Every group of threshold - 1, and all aggregators without the server; at the threshold, with it, all is open."""
    assert np.array_equal(world(name, 1).total, world(name, -1).total)
    assert set(world(name, 1).sums) == set(range(len(world(name, 1).sharing.holders)))
    for colluders in [*groups(name, threshold - 1), world(name, 1).helpers]:
        assert max(differences(name, colluders)) < 450, colluders
    for colluders in groups(name, threshold):
        if SERVER in colluders:
            assert min(differences(name, colluders)) > 4000, colluders


def altering(federation: Federation, spec: RoundSpec, sender: PartyId, step: int) -> Callable[[Letter], list[Letter]]:
    """A wire on which one party adds 1 to the first element of what it sends in one step."""

    def alter(letter: Letter) -> list[Letter]:
        if letter.kind != "frame" or letter.sender != sender or step_of(letter) != step:
            return [letter]
        vector = np.frombuffer(body(letter), np.uint32).copy()
        vector[0] += 1
        return [replace(letter, frame=federation.forge(sender, letter.to, spec, step, vector.tobytes()))]

    return alter


@pytest.mark.parametrize("name", ["smpc 2 of 3", "smpc 3 of 5"])
def test_s3_a_share_summed_wrongly_ends_the_round_with_both_holders_named(name: str) -> None:
    """The wrong holder believes in its sum: its digest differs, and nobody is asked for a sum at all."""
    federation = Federation(name)
    sessions = federation.keep_sessions()
    sums: list[Letter] = []

    def watch(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and step_of(letter) == COHORT and letter.to == TWO:
            seeds = sessions[TWO]._seeds  # type: ignore[attr-defined]
            seeds["site-0"] = bytes([seeds["site-0"][0] ^ 1]) + seeds["site-0"][1:]
        if letter.kind == "frame" and step_of(letter) == SUM:
            sums.append(letter)
        return (letter,)

    federation.wire = watch
    with pytest.raises(Aborted, match=f"'{ONE}' and '{TWO}' hold different sums of share 0; nothing was revealed"):
        federation.round()
    assert not sums
    assert sessions[SERVER].result is None


@pytest.mark.parametrize("name", ["smpc 2 of 3", "smpc 3 of 5"])
def test_s3_an_altered_sum_is_rejected_and_asked_of_the_other_holders(name: str) -> None:
    """The holder states the right digest, and adds a delta to what it sends: it is named, and the sum is exact."""
    federation = Federation(name)
    spec = federation.spec()
    federation.wire = altering(federation, spec, ONE, SUM)
    outcome = federation.round(spec=spec)
    federation.check(outcome)
    assert [error.sender for error in outcome.rejected] == [ONE]
    assert "is not the one whose digest it sent" in outcome.rejected[0].why


def test_s3_an_altered_sum_that_nobody_else_holds_any_more_is_a_named_abort() -> None:
    federation = Federation("smpc 2 of 3")
    spec = federation.spec()
    deaths, alter = Deaths({TWO: (SPARE, 0)}), altering(federation, spec, ONE, SUM)
    federation.wire = lambda letter: [altered for arriving in deaths(letter) for altered in alter(arriving)]
    with pytest.raises(Aborted, match=f"'{ONE}', '{TWO}' are silent, and 1 of the 2 aggregators"):
        federation.round(spec=spec)


def test_s3_two_holders_who_send_one_share_are_counted_once() -> None:
    """Aggregator 1 dies when it is asked; both others that hold the share are, and both send it."""
    federation = Federation("smpc 3 of 5")
    spares: list[PartyId] = []
    deaths = Deaths({ONE: (SUM, 0)})

    def watch(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and step_of(letter) == SPARE:
            spares.append(letter.sender)
        return deaths(letter)

    federation.wire = watch
    federation.check(federation.round())
    assert len(spares) == 2


def test_s3_with_one_holder_a_share_an_altered_sum_is_not_detected() -> None:
    """Full sharing is semi-honest, and says so: the aggregators that are needed are trusted to add."""
    federation = Federation("smpc")
    spec = federation.spec()
    true = federation.round(spec=spec).result.totals
    federation.wire = altering(federation, spec, ONE, SUM)
    altered = federation.round(spec=spec).result.totals
    assert altered[0] - true[0] == 1
    assert "an aggregator that adds wrongly is not detected" in federation.backend.guarantees.limitations


def other_seeds(
    federation: Federation, spec: RoundSpec, clients: Iterable[PartyId], *, shares: int
) -> Callable[[Letter], list[Letter]]:
    """A wire on which clients deal aggregator 2 so many seeds that nobody else has."""
    keys: list[bytes] = []

    def deal(letter: Letter) -> list[Letter]:
        if letter.kind == "frame" and letter.sender == TWO and step_of(letter) == KEY:
            keys.append(body(letter))
        if letter.kind != "frame" or letter.sender not in clients or letter.to != TWO or step_of(letter) != SEED:
            return [letter]
        fingerprints = spec.roster.fingerprints
        context = spec.digest + fingerprints[letter.sender] + fingerprints[TWO]
        sealed = seal(os.urandom(shares * SEED_BYTES), keys[0], context=context)
        return [replace(letter, frame=federation.forge(letter.sender, TWO, spec, SEED, sealed))]

    return deal


@pytest.mark.parametrize(("name", "shares"), [("smpc 2 of 3", 1), ("smpc 3 of 5", 3)])
def test_s3_a_client_that_deals_unequal_seeds_is_left_out(name: str, shares: int) -> None:
    """It could otherwise end every round, and an honest aggregator would be named for it."""
    federation = Federation(name)
    spec = federation.spec()
    federation.wire = other_seeds(federation, spec, ["site-3"], shares=shares)
    federation.check(federation.round(spec=spec), set(federation.names) - {"site-3"})


def test_s3_seeds_that_differ_for_too_many_clients_name_both_holders() -> None:
    federation = Federation("smpc 2 of 3")
    spec = federation.spec()
    federation.wire = other_seeds(federation, spec, federation.names[1:4], shares=1)
    with pytest.raises(Aborted, match=f"'{ONE}' and '{TWO}' hold different seeds of 'site-1'; nothing was revealed"):
        federation.round(spec=spec)


class TwoSets:
    """A server that shows its aggregators two sets of clients, and keeps each group from hearing of the other."""

    def __init__(self, federation: Federation, spec: RoundSpec, smaller: Iterable[PartyId]) -> None:
        self._federation, self._spec, self._smaller = federation, spec, set(smaller)
        self.checked: dict[PartyId, Letter] = {}
        self.vectors: dict[PartyId, bytes] = {}

    def __call__(self, letter: Letter) -> Iterable[Letter]:
        if letter.kind != "frame":
            return (letter,)
        if step_of(letter) == SHARE:
            self.vectors[letter.sender] = body(letter)
        if step_of(letter) == CHECK:
            self.checked[letter.sender] = letter
        if step_of(letter) == AGREE and (letter.sender in self._smaller) != (letter.to in self._smaller):
            return ()
        if step_of(letter) == COHORT and letter.to in self._smaller:
            four = encode_set(self._federation.names[:4], sorted(self._federation.names))
            return (replace(letter, frame=self._federation.forge(SERVER, letter.to, self._spec, COHORT, four)),)
        return (letter,)


def test_s7_where_two_quorums_can_be_disjoint_an_active_server_opens_two_sets() -> None:
    """What `smpc` 2 of 3 does not protect from, carried out: the difference of the two is site-4's update."""
    federation = Federation("smpc 2 of 3")
    sessions = federation.keep_sessions()
    spec = federation.spec()
    server = TwoSets(federation, spec, [TWO])
    federation.wire = server
    with pytest.raises(Aborted, match="hold different sums"):  # so the honest server; the other asks all the same
        federation.round(spec=spec)
    sums = []
    for helper in (ONE, TWO):
        (answer,) = sessions[helper].receive(SERVER, federation.forge(SERVER, helper, spec, ASK, bytes([0])))
        sums.append(np.frombuffer(answer.frame[HEADER_BYTES:], np.uint32))
    opened = np.frombuffer(server.vectors["site-4"], np.uint32) + sums[0] - sums[1]
    expected = federation.encoding.encode(federation.vectors["site-4"], federation.weights["site-4"]).integers
    np.testing.assert_array_equal(opened.view(np.int32), expected)
    assert "can have two sets of clients opened" in federation.backend.guarantees.limitations[2]


@pytest.mark.parametrize("smaller", [group for n in (1, 2) for group in itertools.combinations([ONE, TWO, THREE], n)])
def test_s7_where_any_two_quorums_meet_a_server_opens_one_set_at_most(smaller: tuple[PartyId, ...]) -> None:
    """3 of 4: the two of three aggregators that a set takes are a majority, and each takes part in one set."""
    federation = Federation("smpc", aggregators=4, threshold=3)
    spec = federation.spec()
    server = TwoSets(federation, spec, smaller)
    federation.wire = server
    federation.round(spec=spec)
    assert len(server.checked) == 2
    assert len({helper in smaller for helper in server.checked}) == 1
    assert not any("two sets" in text for text in federation.backend.guarantees.limitations)


@pytest.mark.parametrize(
    ("to", "step", "damaged", "says"),
    [
        (SERVER, HELD, lambda held: held[:-1], "marks of .* bytes, expected"),
        (SERVER, HELD, lambda held: held + bytes(MARK_BYTES), "at most"),
        (SERVER, HELD, lambda held: bytes([held[0] & 15]) + held[1:], "marks of .* bytes, expected"),
        (SERVER, CHECK, lambda digests: digests[:-32], "digests of .* bytes, expected"),
        (SERVER, SUM, lambda sums: sums[:-4], "sums of .* bytes, expected 1 of"),
        (TWO, ASK, lambda _: b"", r"it asks for shares \[\]"),
        (TWO, ASK, lambda asked: asked * 2, r"it asks for shares \[1, 1\], of which this aggregator has \[0, 1, 3\]"),
        (TWO, ASK, lambda _: bytes([2]), r"it asks for shares \[2\]"),
        (TWO, SEED, lambda sealed: sealed[:-1], "envelope does not open"),
    ],
)
def test_a_malformed_body_is_rejected_by_name_and_the_round_goes_on(
    to: PartyId, step: int, damaged: Callable[[bytes], bytes], says: str
) -> None:
    """T14, T16: properly signed. Whoever does not send it properly counts as silent, and one of five may be."""
    federation = Federation("smpc 3 of 5")
    spec = federation.spec()

    def damage(letter: Letter) -> Iterable[Letter]:
        hit = letter.kind == "frame" and letter.to == to and step_of(letter) == step and TWO in (letter.sender, to)
        if hit and (letter.sender in (TWO, SERVER, "site-4")):
            yield replace(letter, frame=federation.forge(letter.sender, to, spec, step, damaged(body(letter))))
        else:
            yield letter

    federation.wire = damage
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - ({"site-4"} if step == SEED else set()))
    assert len(outcome.rejected) == 1
    with pytest.raises(Rejected, match=says):
        raise outcome.rejected[0]


def test_a_client_that_seals_too_few_seeds_is_rejected() -> None:
    federation = Federation("smpc 3 of 5")
    spec = federation.spec()
    federation.wire = other_seeds(federation, spec, ["site-3"], shares=2)
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {"site-3"})
    assert "seeds of 64 bytes, expected 96" in outcome.rejected[0].why


def test_a_share_is_not_asked_twice_in_two_ways() -> None:
    """What was sent for ASK is not there for MISSING: the answer to either is given once, and again the same."""
    federation = Federation("smpc 2 of 3")
    sessions = federation.keep_sessions()
    spec = federation.spec()
    federation.round(spec=spec)
    with pytest.raises(Rejected, match=r"it asks for shares \[0\], of which this aggregator has \[\]"):
        sessions[ONE].receive(SERVER, federation.forge(SERVER, ONE, spec, MISSING, bytes([0])))


def test_shares_that_no_frame_can_hold_are_refused_before_anything_starts() -> None:
    """Of 3 of 16 each aggregator holds fourteen shares, and may have to send them all at once."""
    federation = Federation("smpc", aggregators=16, threshold=3)
    federation.spec(layout=Layout.flat(30_000_000))
    with pytest.raises(Refused, match="the 14 shares that an aggregator holds take 2240000056 bytes, a frame has"):
        federation.spec(layout=Layout.flat(40_000_000))
