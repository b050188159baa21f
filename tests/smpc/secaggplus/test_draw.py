"""The draw: chains of commitments, who draws, and evidence that does not hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from secagg.identity import Identity
from smpc.secaggplus.draw import ATTEMPTS, LINK_BYTES, Draw, NotDrawn, commitment, commitment_of, link

SPEC = bytes(range(32))
COUNT = 6
IDENTITIES = [Identity.generate() for _ in range(COUNT)]
SECRETS = [bytes([number]) * 32 for number in range(COUNT)]


def draw(attempt: int = 0, **changes: object) -> Draw:
    fields = {"spec": SPEC, "present": np.ones(COUNT, bool), "corrupt": 1, "attempt": attempt}
    return Draw(**(fields | changes))  # type: ignore[arg-type]


def reveals(of: Draw) -> list[bytes]:
    commitments = [commitment(SECRETS[one]) for one in of.drawers]
    return [of.reveal(SECRETS[one], commitments, IDENTITIES[one]) for one in of.drawers]


def seed(of: Draw, given: list[bytes]) -> bytes:
    return of.seed(given, [IDENTITIES[one].public for one in of.drawers])


def test_one_commitment_serves_every_draw_and_each_reveals_a_link_of_its_own() -> None:
    links = [link(SECRETS[1], attempt) for attempt in range(ATTEMPTS)]
    assert len(set(links)) == ATTEMPTS
    for attempt, revealed in enumerate(links):
        assert commitment_of(revealed, attempt) == commitment(SECRETS[1])
        assert commitment_of(revealed, attempt + 1) != commitment(SECRETS[1])


def test_the_seed_depends_on_every_link_on_the_draw_and_on_who_is_present() -> None:
    first = draw()
    base = seed(first, reveals(first))
    others = {base, seed(draw(1), reveals(draw(1))), seed(draw(spec=bytes(32)), reveals(draw(spec=bytes(32))))}
    fewer = draw(present=np.array([True] * 5 + [False]))
    others.add(seed(fewer, reveals(fewer)))
    for place in range(COUNT):
        changed = list(SECRETS)
        changed[place] = b"x" * 32
        commitments = [commitment(changed[one]) for one in first.drawers]
        given = [first.reveal(changed[one], commitments, IDENTITIES[one]) for one in first.drawers]
        others.add(seed(first, given))
    assert len(others) == 4 + COUNT


@pytest.mark.parametrize("place", range(COUNT))
def test_a_drawer_that_signed_something_else_is_no_evidence(place: int) -> None:
    """Another link, another draw, another set of commitments, another signer."""
    one = draw()
    good, later = reveals(one), reveals(draw(1))
    wrong = [
        bytes(LINK_BYTES) + good[place][LINK_BYTES:],
        good[place][:LINK_BYTES] + later[place][LINK_BYTES:],
        good[place - 1],
        good[place][:-1] + bytes([good[place][-1] ^ 1]),
    ]
    for reveal in wrong:
        with pytest.raises(NotDrawn, match="did not sign this draw"):
            seed(one, [*good[:place], reveal, *good[place + 1 :]])


def test_a_drawer_signs_the_commitments_that_it_was_shown() -> None:
    """A server that changes one commitment after an honest drawer has revealed finds that drawer's signature void."""
    one = draw()
    given = reveals(one)
    other = one.drawers[0]
    changed = [commitment(b"y" * 32 if client == other else SECRETS[client]) for client in one.drawers]
    given[0] = one.reveal(b"y" * 32, changed, IDENTITIES[other])
    with pytest.raises(NotDrawn):
        seed(one, given)


@pytest.mark.parametrize(
    ("clients", "corrupt", "drawers"), [(1000, 50, 25), (1000, 100, 32), (100, 5, 25), (20, 1, 20)]
)
def test_drawers_are_enough_that_2_64_trials_find_no_set_of_corrupt_ones(
    clients: int, corrupt: int, drawers: int
) -> None:
    found = draw(present=np.ones(clients, bool), corrupt=corrupt).drawers
    assert len(set(found.tolist())) == found.size == drawers
    if drawers < clients:
        assert drawers * math.log2(clients / corrupt) >= 104


def test_without_corrupt_clients_one_draws() -> None:
    assert draw(corrupt=0).drawers.size == 1
