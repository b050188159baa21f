"""C8: fresh randomness for every record: in a vector, between vectors, between workers, after a restart or a fork."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from he import workers
from he.bfv.encryption import BfvEncryptor
from he.bfv.keys import generate_bfv
from he.bfv.parameters import COMPACT as BFV
from he.ckks.flooded.cipher import RingEncryptor, generate_pair
from he.ckks.flooded.rings import ROOMY
from he.ckks.flooded.wire import unpack_fresh
from he.ckks.slots.encryption import SeededEncryptor
from he.ckks.slots.keys import SecretKey, generate
from he.ckks.slots.parameters import COMPACT
from he.ckks.slots.seal import open_seal
from he.residues import unpack
from he.scheme import Encryptor
from he.workers import pool

Words = NDArray[np.generic]


@pytest.fixture(autouse=True)
def _two_workers() -> Iterator[None]:
    workers.use(2)
    yield
    workers.use(None)


def in_a_child(encryptor: Encryptor, values: np.ndarray) -> bytes:
    """What a forked child makes of the same encryptor."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "wb") as stream:
            stream.write(b"".join(encryptor.encrypt(values)))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        body = stream.read()
    os.waitpid(child, 0)
    return body


def everywhere(encryptor: Encryptor, values: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A vector encrypted by two workers, by two new ones after those were killed, in two forks, and in this process."""
    took_part: set[int] = set()
    send = pool._Call._send

    def watch(call: pool._Call, number: int, slot: int) -> None:
        before = call._next
        send(call, number, slot)
        if call._next > before:
            took_part.add(call._busy[number].process.pid)

    monkeypatch.setattr(pool._Call, "_send", watch)
    bodies = []
    for so_many in (2, 4):
        while len(took_part) < so_many:
            bodies.append(b"".join(encryptor.encrypt(values)))
        for worker in pool._POOL.workers:
            os.kill(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
    bodies += [in_a_child(encryptor, values) for _ in range(2)]
    workers.use(0)
    return [*bodies, b"".join(encryptor.encrypt(values))]


def require_nothing_shared(rows: list[Words]) -> None:
    """No two of the arrays are alike in a single place."""
    for one, two in itertools.combinations(rows, 2):
        assert not (one == two).any()


def test_public_encryptions_of_one_value_share_no_residue(monkeypatch: pytest.MonkeyPatch) -> None:
    """c1 = a u + e1 shows that u is fresh. The noise in c0 is below what the wire leaves out of it."""
    _, public = generate_pair(ROOMY)
    bodies = everywhere(RingEncryptor(public), np.zeros(6 * ROOMY.degree, np.int64), monkeypatch)
    records = [unpack_fresh(np.frombuffer(body, np.uint8).reshape(6, -1), ROOMY) for body in bodies]
    require_nothing_shared([both for vector in records for both in vector])


def test_public_encryptions_of_bfv_share_no_residue(monkeypatch: pytest.MonkeyPatch) -> None:
    _, public = generate_bfv(BFV)
    bodies = everywhere(BfvEncryptor(public, clients=3), np.zeros(6 * BFV.record_integers, np.int64), monkeypatch)
    rows = [row for body in bodies for row in np.frombuffer(body, np.uint8).reshape(6, -1)]
    require_nothing_shared([unpack(row.reshape(2, -1), BFV) for row in rows])


def test_seeds_are_distinct_and_so_is_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = generate(COMPACT)
    bodies = everywhere(SeededEncryptor(secret), np.zeros(20 * 4096, np.int64), monkeypatch)
    rows = [row for body in bodies for row in np.frombuffer(body, np.uint8).reshape(20, -1)]
    assert len({row[-64:].tobytes() for row in rows}) == len(rows) >= 100
    require_nothing_shared([unpack(row[:-64], COMPACT) for row in rows])
    require_nothing_shared([slot_noise(secret, row) for row in rows])


def slot_noise(secret: SecretKey, row: np.ndarray) -> Words:
    seal = open_seal(COMPACT)
    item = seal.seeded_ciphertext(unpack(row[:-64], COMPACT), row[-64:])
    return seal.decrypt(item, secret.to_seal())


def test_seeds_of_bfv_are_distinct_and_so_is_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    secret, _ = generate_bfv(BFV)
    values = np.zeros(6 * BFV.record_integers, np.int64)
    bodies = everywhere(BfvEncryptor(secret, clients=3), values, monkeypatch)
    rows = [row for body in bodies for row in np.frombuffer(body, np.uint8).reshape(6, -1)]
    assert len({row[-64:].tobytes() for row in rows}) == len(rows) >= 30
    require_nothing_shared([unpack(row[:-64], BFV) for row in rows])
