"""Replayed, repeated, altered, misordered, oversized messages: T3-T6, T12-T14, T16, T22, for every backend."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace

import pytest

from secagg.driver import Letter
from secagg.errors import Refused, Rejected
from secagg.frames import HEADER_BYTES, Header
from secagg.identity import SERVER
from secagg.spec import task_digest
from tests.adversary.federation import BACKENDS, Federation, is_vector, step_of

VICTIM = "site-2"

pytestmark = pytest.mark.parametrize("name", BACKENDS)


def reasons(rejected: Iterable[Rejected]) -> str:
    return "; ".join(error.why for error in rejected)


class Recorder:
    """Passes letters on and keeps a copy of the frames."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []

    def __call__(self, letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame":
            self.letters.append(letter)
        return (letter,)


def test_t3_messages_of_another_round_are_rejected(name: str) -> None:
    federation = Federation(name)
    recorder = Recorder()
    federation.wire = recorder
    federation.round(1)
    earlier = recorder.letters
    federation.wire = lambda letter: [*(old for old in earlier if old.to == letter.to), letter]
    outcome = federation.round(2)
    federation.check(outcome)
    assert len(outcome.rejected) >= len(federation.names)
    assert {error.why for error in outcome.rejected} == {
        "it belongs to another round, or to another spec of this round"
    }


def test_t4_identical_duplicates_change_nothing(name: str) -> None:
    federation = Federation(name)
    federation.wire = lambda letter: [letter] * 3 if letter.kind == "frame" else [letter]
    outcome = federation.round()
    federation.check(outcome)
    assert not outcome.rejected


def test_t5_conflicting_duplicates_are_equivocation(name: str) -> None:
    federation = Federation(name)
    spec = federation.spec()

    def second_vector(letter: Letter) -> Iterable[Letter]:
        yield letter
        if is_vector(letter) and letter.sender == VICTIM:
            other = bytes(len(letter.frame) - HEADER_BYTES)
            yield replace(letter, frame=federation.forge(VICTIM, letter.to, spec, step_of(letter), other))

    federation.wire = second_vector
    outcome = federation.round(spec=spec)
    federation.check(outcome)
    assert {error.sender for error in outcome.rejected} == {VICTIM}
    assert all("equivocation" in error.why for error in outcome.rejected)


def test_t6_steps_out_of_order_are_rejected(name: str) -> None:
    """The first round tells which steps there are; in the second, every later step comes before anything else."""
    federation = Federation(name)
    recorder = Recorder()
    federation.wire = recorder
    federation.round(1)
    steps = {(letter.sender, letter.to, step_of(letter)) for letter in recorder.letters}
    first = {to: min(step for _, other, step in steps if other == to) for _, to, _ in steps}
    spec = federation.spec(2)
    early = 0

    def too_early(letter: Letter) -> Iterable[Letter]:
        nonlocal early
        yield letter
        if letter.kind == "proposal":
            for sender, to, step in sorted(steps):
                if to == letter.to and step > first[to]:
                    early += 1
                    yield Letter(sender, to, federation.forge(sender, to, spec, step, bytes(16)))
            yield Letter(VICTIM, SERVER, federation.forge(VICTIM, SERVER, spec, 99, bytes(16)))

    federation.wire = too_early
    outcome = federation.round(spec=spec)
    federation.check(outcome)
    assert "step 99 is out of order" in reasons(outcome.rejected)
    assert len(outcome.rejected) >= early + 1


def test_t1_a_letter_from_a_stranger_is_rejected(name: str) -> None:
    federation = Federation(name)

    def stranger(letter: Letter) -> Iterable[Letter]:
        yield letter
        if is_vector(letter):
            yield replace(letter, sender="mallory")

    federation.wire = stranger
    outcome = federation.round()
    federation.check(outcome)
    assert ("mallory", "not in the roster of this round") in {(e.sender, e.why) for e in outcome.rejected}


def test_a_set_up_spec_takes_no_update(name: str) -> None:
    """A server that calls a round a set-up would get past layers that protect rounds."""
    federation = Federation(name)
    with pytest.raises(Refused, match="not of a set-up"):
        federation.round(spec=federation.spec(phase="setup"))
    spec = federation.spec(phase="setup")
    session = federation.backend.session(spec, federation.driver.party(VICTIM))
    with pytest.raises(Refused, match="set-up takes no update"):
        session.contribute(federation.vectors[VICTIM], 1)


def test_t12_an_oversized_body_is_rejected_before_it_is_looked_at(name: str) -> None:
    federation = Federation(name)
    spec = federation.spec()
    peaks: list[int] = []

    def bomb(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == VICTIM:
            huge = federation.forge(VICTIM, letter.to, spec, step_of(letter), bytes(64 << 20))
            tracemalloc.start()
            yield replace(letter, frame=memoryview(huge))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        else:
            yield letter

    federation.wire = bomb
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {VICTIM})
    assert "at most" in reasons(outcome.rejected)
    assert max(peaks) < 1 << 20


def test_t12_a_header_that_lies_about_its_length_is_rejected(name: str) -> None:
    federation = Federation(name)

    def lie(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == VICTIM:
            header = replace(Header.from_bytes(letter.frame), length=1 << 60)
            signed = header.sign_with(federation.driver.identities[VICTIM].sign(header.signed_bytes()))
            yield replace(letter, frame=signed.to_bytes() + bytes(letter.frame[HEADER_BYTES:]))
        else:
            yield letter

    federation.wire = lie
    outcome = federation.round()
    federation.check(outcome, set(federation.names) - {VICTIM})


class Bomb:
    """Unpickling this would be seen."""

    exploded = False

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (setattr, (Bomb, "exploded", True))


def test_t13_a_pickle_is_rejected_and_never_loaded(name: str) -> None:
    federation = Federation(name)
    spec = federation.spec()

    def pickled(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.sender == VICTIM:
            payload = pickle.dumps(Bomb())
            payload += bytes(max(0, len(letter.frame) - HEADER_BYTES - len(payload)))
            payload = payload[: max(60, len(letter.frame) - HEADER_BYTES)]
            yield replace(letter, frame=federation.forge(VICTIM, letter.to, spec, step_of(letter), payload[:-1]))
        else:
            yield letter

    federation.wire = pickled
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {VICTIM})
    assert VICTIM in {error.sender for error in outcome.rejected}
    assert not Bomb.exploded


@pytest.mark.parametrize("cut", [0, 1, HEADER_BYTES - 1, HEADER_BYTES, -1])
def test_t14_truncated_frames_are_rejected(name: str, cut: int) -> None:
    federation = Federation(name)
    federation.wire = lambda letter: (
        [replace(letter, frame=letter.frame[:cut])] if is_vector(letter) and letter.sender == VICTIM else [letter]
    )
    outcome = federation.round()
    federation.check(outcome, set(federation.names) - {VICTIM})
    assert VICTIM in {error.sender for error in outcome.rejected}


def test_t14_a_flipped_bit_anywhere_is_rejected(name: str) -> None:
    """Every byte of the header in turn, and places all over the body; then the unharmed frame is taken."""
    federation = Federation(name)
    flipped = 0

    def flip(letter: Letter) -> Iterable[Letter]:
        nonlocal flipped
        if is_vector(letter) and letter.sender == VICTIM and not flipped:
            body = range(HEADER_BYTES, len(letter.frame), max(1, (len(letter.frame) - HEADER_BYTES) // 40))
            for place in [*range(HEADER_BYTES), *body]:
                damaged = bytearray(letter.frame)
                damaged[place] ^= 1 << (place % 8)
                flipped += 1
                yield replace(letter, frame=bytes(damaged))
        yield letter

    federation.wire = flip
    outcome = federation.round()
    federation.check(outcome)
    assert len(outcome.rejected) == flipped > HEADER_BYTES


@pytest.mark.parametrize("change", [-4, 4, 8192])
def test_t16_a_vector_of_another_length_is_rejected(name: str, change: int) -> None:
    federation = Federation(name)
    spec = federation.spec()

    def resize(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == VICTIM and len(letter.frame) - HEADER_BYTES > 1000:
            body = bytes(len(letter.frame) - HEADER_BYTES + change)
            yield replace(letter, frame=federation.forge(VICTIM, letter.to, spec, step_of(letter), body))
        else:
            yield letter

    federation.wire = resize
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {VICTIM})
    assert [error.sender for error in outcome.rejected] == [VICTIM]


def test_t22_an_upload_after_the_step_closed_is_discarded(name: str) -> None:
    federation = Federation(name)
    sessions = federation.keep_sessions()
    held: list[Letter] = []

    def late(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == VICTIM and len(letter.frame) - HEADER_BYTES > 1000:
            held.append(letter)
            return ()
        return (letter,)

    federation.wire = late
    outcome = federation.round()
    federation.check(outcome, set(federation.names) - {VICTIM})
    with pytest.raises(Rejected, match="closed; too late"):
        sessions[held[0].to].receive(VICTIM, held[0].frame)
    knows = SERVER if federation.backend.guarantees.result_at == "server" else "site-0"
    after = sessions[knows].result
    assert after is not None
    assert (after.totals == outcome.result.totals).all()


def test_another_model_is_another_round(name: str) -> None:
    """T7: clients that were shown two models have two digests; frames under one are refused under the other."""
    federation = Federation(name)
    honest = federation.spec()
    other = federation.spec(task=task_digest(b"another model", b"settings"))
    assert honest.digest != other.digest
    federation.wire = lambda letter: (
        [replace(letter, frame=federation.forge(VICTIM, letter.to, other, step_of(letter), bytes(16)))]
        if is_vector(letter) and letter.sender == VICTIM
        else [letter]
    )
    outcome = federation.round(spec=honest)
    federation.check(outcome, set(federation.names) - {VICTIM})
    assert "another spec" in reasons(outcome.rejected)
