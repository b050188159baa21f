"""C8: fresh randomness for every record, also after a fork."""

import os

import numpy as np

from he.ckks.flooded.cipher import RingEncryptor, generate_pair
from he.ckks.flooded.rings import ROOMY
from he.ckks.flooded.wire import unpack_fresh
from he.ckks.slots.encryption import SeededEncryptor
from he.ckks.slots.keys import generate
from he.ckks.slots.parameters import COMPACT
from he.scheme import Encryptor


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


def test_public_encryptions_of_one_value_share_no_residue() -> None:
    encryptor = RingEncryptor(generate_pair(ROOMY)[1])
    values = np.zeros(ROOMY.degree, np.int64)
    bodies = [b"".join(encryptor.encrypt(values)) for _ in range(2)]
    bodies += [in_a_child(encryptor, values) for _ in range(2)]
    residues = [unpack_fresh(np.frombuffer(body, np.uint8)[None], ROOMY) for body in bodies]
    for i in range(4):
        for j in range(i):
            assert not (residues[i] == residues[j]).any()


def test_seeds_are_distinct_within_a_vector_between_vectors_and_after_a_fork() -> None:
    secret = generate(COMPACT)
    encryptor = SeededEncryptor(secret)
    values = np.zeros(4 * 4096, np.int64)
    bodies = [b"".join(encryptor.encrypt(values)) for _ in range(2)]
    bodies += [in_a_child(encryptor, values) for _ in range(2)]
    rows = [row for body in bodies for row in np.frombuffer(body, np.uint8).reshape(4, -1)]
    assert len({row[-64:].tobytes() for row in rows}) == 16
    assert len({row[:-64].tobytes() for row in rows}) == 16
