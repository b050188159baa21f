"""C4: what becomes of a round when native code dies, hangs or lies over what a peer wrote, in a worker process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

import he.ckks.flooded.cipher
import he.seeds
from he import workers
from he.key_setup import HOLDER, PUBLIC_KEY
from he.rounds import UPLOAD
from he.workers import pool
from secagg.driver import Driver, Letter, deliver
from secagg.errors import Aborted, Rejected
from secagg.frames import HEADER_BYTES
from secagg.identity import SERVER
from tests.adversary.federation import Federation, is_vector
from tests.he import worker_tasks

SEEDED = pytest.mark.parametrize("name", ["ckks shared key", "bfv shared key"])


@pytest.fixture(autouse=True)
def _one_worker() -> Iterable[None]:
    workers.use(1)
    yield
    workers.use(None)


def rejection(federation: Federation, mark: bytes, *, limit_s: float = pool.LIMIT_S) -> str:
    """site-2 sends honest ciphertexts, signed and tagged, but for the first bytes of its last seed.

    The round must end with the exact sum of the others; why site-2's message was rejected is returned. The limit is for
    this message alone: a worker that is started in its course may take longer on a busy machine.
    """
    spec = federation.spec()
    upload = federation.backend.traffic(spec).client_upload

    def swap(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == "site-2":
            assert len(letter.frame) == upload
            body = bytearray(letter.frame[HEADER_BYTES:])
            body[-64 : -64 + len(mark)] = mark
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(pool, "LIMIT_S", limit_s)
                yield replace(letter, frame=federation.forge("site-2", SERVER, spec, UPLOAD, bytes(body)))
        else:
            yield letter

    federation.wire = swap
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {"site-2"})
    (rejected,) = outcome.rejected
    assert rejected.sender == "site-2"
    return str(rejected)


@SEEDED
def test_c4_a_crash_of_the_native_parser_costs_one_rejected_message(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker dies of a real segmentation fault; the sum of the others is exact, and the next round is too."""
    monkeypatch.setattr(he.seeds, "open_expander", worker_tasks.open_marked_expander)
    federation = Federation(name)
    assert "killed by SIGSEGV" in rejection(federation, worker_tasks.CRASH)
    federation.wire = deliver
    federation.check(federation.round(2))


@pytest.mark.timeout(100)
@SEEDED
def test_c4_native_code_that_hangs_costs_one_rejected_message(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(he.seeds, "open_expander", worker_tasks.open_marked_expander)
    assert "took over 3 s" in rejection(Federation(name), worker_tasks.STOP, limit_s=3)


@SEEDED
def test_c4_what_a_worker_made_is_checked_before_it_is_added(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A residue beyond its prime, from native code that went wrong without dying, would wrap into everybody's sum."""
    monkeypatch.setattr(he.seeds, "open_expander", worker_tasks.open_marked_expander)
    assert "no residue" in rejection(Federation(name), worker_tasks.LIE)


def test_c4_a_public_key_that_kills_its_reader_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set-up: SEAL meets the holder's key in a worker first. The session is as it was, and takes an honest key."""
    federation = Federation("ckks")
    driver = federation.driver = Driver(federation.backend, federation.names)
    spec = driver.spec(0, layout=federation.layout, encoding=federation.encoding, task="0" * 64, phase="setup")
    session = federation.backend.session(spec, driver.party("site-1"))
    key = federation.backend.scheme.generate()[1].to_bytes()  # type: ignore[attr-defined]
    frame = federation.forge(HOLDER, "site-1", spec, PUBLIC_KEY, key)
    with monkeypatch.context() as patched:
        patched.setattr(he.ckks.flooded.cipher, "open_encryptor", worker_tasks.open_crash)
        with pytest.raises(Rejected, match="not a public key of n8192-q96: the worker process") as rejected:
            session.receive(HOLDER, frame)
        assert rejected.value.sender == HOLDER
    assert not session.agreed
    list(session.receive(HOLDER, frame))
    assert session.agreed


def test_c4_a_server_takes_a_key_without_native_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """It encrypts nothing: numpy checks the form, and no worker is asked."""
    federation = Federation("ckks")
    driver = federation.driver = Driver(federation.backend, federation.names)
    spec = driver.spec(0, layout=federation.layout, encoding=federation.encoding, task="0" * 64, phase="setup")
    key = federation.backend.scheme.generate()[1].to_bytes()  # type: ignore[attr-defined]
    monkeypatch.setattr(he.ckks.flooded.cipher, "open_encryptor", worker_tasks.open_crash)
    session = federation.backend.session(spec, driver.party(SERVER))
    list(session.receive(HOLDER, federation.forge(HOLDER, SERVER, spec, PUBLIC_KEY, key)))
    assert session.agreed


def test_c4_a_sum_that_kills_its_reader_reveals_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key holder's process outlives what the server sends it, and leaves the round with a name for the reason."""
    federation = Federation("ckks")
    monkeypatch.setattr(he.ckks.flooded.cipher, "open_decryptor", worker_tasks.open_crash)
    with pytest.raises(
        Aborted, match="could not be opened: a worker process was killed by SIGSEGV; nothing was reveal"
    ):
        federation.round()
    monkeypatch.undo()
    federation.check(federation.round(2))


def test_r7_a_client_whose_worker_is_killed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed for memory, say, in the middle of an encryption: nothing is sent, and the sum of the others is exact."""
    federation = Federation("ckks")
    for name in federation.names:
        federation.vectors[name][0] = -0.05 if name == "site-2" else 0.05
    monkeypatch.setattr(he.ckks.flooded.cipher, "open_encryptor", worker_tasks.open_marked_encryptor)
    outcome = federation.round()
    federation.check(outcome, set(federation.names) - {"site-2"})
    assert (
        "could not be encrypted: a worker process was killed by SIGKILL; nothing was sent" in outcome.dropped["site-2"]
    )


def test_every_task_of_a_run_is_done_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one worker, as by default, and with keys and sums of all kinds."""
    opened: list[str] = []
    make = pool.Opening

    def watch(module: str, name: str, *more: Any) -> pool.Opening:
        opened.append(f"{module}:{name}")
        return make(module, name, *more)

    monkeypatch.setattr(pool, "Opening", watch)
    for backend in ("ckks", "ckks shared key", "bfv", "bfv shared key"):
        federation = Federation(backend)
        federation.check(federation.round())
    assert set(opened) == {
        "he.ckks.flooded.cipher:open_encryptor",
        "he.ckks.flooded.cipher:open_decryptor",
        "he.ckks.slots.keys:open_check",
        "he.ckks.slots.encryption:open_encryptor",
        "he.ckks.slots.decryption:open_decryptor",
        "he.bfv.encryption:open_public_encryptor",
        "he.bfv.encryption:open_seeded_encryptor",
        "he.bfv.decryption:open_decryptor",
        "he.seeds:open_expander",
    }
