"""Masks are used once, and hide. M9, M15."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg import record
from secagg.driver import Letter
from secagg.errors import Aborted
from secagg.frames import split
from secagg.identity import PartyId
from secagg.once import Once
from secagg.spec import RoundSpec
from smpc.masks import MaskStream, apply_masks
from smpc.secaggplus import steps
from tests.adversary.federation import Federation, step_of
from tests.adversary.secaggplus.altering import VICTIM, assert_uniform, body_of


def states_before_the_vector(federation: Federation, spec: RoundSpec) -> dict[PartyId, bytes]:
    """Every client's stored state at the moment when its vector is due."""
    sessions = federation.keep_sessions()
    states: dict[PartyId, bytes] = {}

    def source(name: PartyId) -> Any:
        states[name] = sessions[name].dump()
        return federation.contribution(name)

    federation.driver.round(spec, source)
    return states


def test_m9_a_state_that_was_used_masks_nothing_again() -> None:
    federation = Federation("secaggplus")
    spec = federation.spec()
    state = states_before_the_vector(federation, spec)[VICTIM]
    fork = federation.backend.session(spec, federation.driver.party(VICTIM), state=state)
    assert fork.ready
    with pytest.raises(Aborted, match="these masks were used before: the session was restored twice from one state"):
        fork.contribute(np.zeros(257, np.float32), 1)
    with pytest.raises(Aborted, match="used before"):
        fork.contribute(np.zeros(257, np.float32), 1)


def test_m9_a_folder_keeps_that_beyond_the_process(tmp_path: Path) -> None:
    federation = Federation("secaggplus")
    federation.backend.once = Once(tmp_path)  # type: ignore[attr-defined]
    spec = federation.spec()
    state = states_before_the_vector(federation, spec)[VICTIM]
    federation.backend.once = Once(tmp_path)  # type: ignore[attr-defined]
    fork = federation.backend.session(spec, federation.driver.party(VICTIM), state=state)
    with pytest.raises(Aborted, match="used before"):
        fork.contribute(np.zeros(257, np.float32), 1)


def test_m9_where_nothing_remembers_two_vectors_of_one_state_still_lie_under_two_masks() -> None:
    """Fresh randomness enters at use: the difference of the uploads is no difference of vectors."""
    federation = Federation("secaggplus", size=20_000)
    spec = federation.spec()
    state = states_before_the_vector(federation, spec)[VICTIM]
    uploads = []
    for _ in range(2):
        federation.backend.once = Once()  # type: ignore[attr-defined]
        fork = federation.backend.session(spec, federation.driver.party(VICTIM), state=state)
        (send,) = fork.contribute(np.ones(20_000, np.float32), 1)
        uploads.append(np.frombuffer(split(send.frame)[1][: -steps.NONCE_BYTES], np.uint32))
    assert_uniform((uploads[0] - uploads[1]).view(np.uint8))


def test_m9_after_the_upload_no_state_can_mask_anything() -> None:
    federation = Federation("secaggplus")
    sessions = federation.keep_sessions()
    stored: list[dict[str, Any]] = []

    def wire(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.sender == VICTIM and step_of(letter) == steps.MASKED:
            stored.append(record.decode(sessions[VICTIM].dump())["role"])
        return (letter,)

    federation.wire = wire
    federation.round()
    assert stored[0]["seed"] == b""
    assert stored[0]["keys"][:2] == [b"", b""]
    assert stored[0]["pairs"] == []


def test_nothing_secret_is_left_when_the_round_is_over() -> None:
    """Who takes a client's state later finds no key, no seed and no share (forward secrecy)."""
    federation = Federation("secaggplus")
    sessions = federation.keep_sessions()
    federation.round()
    role = record.decode(sessions[VICTIM].dump())["role"]
    assert role["keys"][:2] == [b"", b""]
    assert (role["seed"], role["pairs"], role["held"], role["incoming"]) == (b"", [], [], [])


@pytest.mark.parametrize("known", ["nothing", "pairs", "seed and all pairs but one"])
def test_m15_a_masked_vector_is_uniform_as_long_as_one_mask_is_unknown(known: str) -> None:
    """The worst input, all ones. Corrupt neighbours take off the masks they know, the server the recovered own mask."""
    size = 20_000
    federation = Federation("secaggplus", size=size)
    federation.vectors = {name: np.ones(size, np.float32) for name in federation.names}
    sessions = federation.keep_sessions()
    spec = federation.spec()
    secrets: dict[str, Any] = {}
    uploads: list[bytes] = []

    def source(name: PartyId) -> Any:
        if name == VICTIM:
            session: Any = sessions[VICTIM]
            neighbours = session._neighbours
            secrets["pairs"] = [(neighbours[slot], secret) for slot, secret in session._pairs.items()]
            secrets["seed"], secrets["session"] = session._seed, session
        return federation.contribution(name)

    def wire(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.sender == VICTIM and step_of(letter) == steps.MASKED:
            uploads.append(body_of(letter))
        return (letter,)

    federation.wire = wire
    federation.driver.round(spec, source)
    view = np.frombuffer(uploads[0][: -steps.NONCE_BYTES], np.uint32).copy()
    session, own = secrets["session"], secrets["session"]._own

    def take_off(mask: MaskStream, *, added: bool) -> None:
        apply_masks(view, [(mask, -1 if added else 1)])

    pairs = [] if known == "nothing" else secrets["pairs"] if known == "pairs" else secrets["pairs"][1:]
    for other, secret in pairs:
        take_off(session.pair_mask(secret, own, other), added=own < other)
    if known.startswith("seed"):
        take_off(session.self_mask(secrets["seed"], own, uploads[0][-steps.NONCE_BYTES :]), added=True)
    assert_uniform(view.view(np.uint8))
    # The last mask off, the vector is bare: the test would see it.
    if known == "pairs":
        take_off(session.self_mask(secrets["seed"], own, uploads[0][-steps.NONCE_BYTES :]), added=True)
    elif known.startswith("seed"):
        other, secret = secrets["pairs"][0]
        take_off(session.pair_mask(secret, own, other), added=own < other)
    if known != "nothing":
        assert len(set(view[:-1].tolist())) == 1
