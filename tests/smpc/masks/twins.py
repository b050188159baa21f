"""Slow and obvious keystreams: ChaCha20 as RFC 8439 writes it down, and AES block after block."""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from smpc.masks.stream import MaskStream

ROUND = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)]
ROUND += [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]


def chacha20(key: bytes, *, block: int, blocks: int, nonce: bytes = bytes(12)) -> bytes:
    """RFC 8439, 2.3, all blocks at once: row i of the state is word i of every block."""
    state = np.empty((16, blocks), np.uint32)
    state[:4] = np.frombuffer(b"expand 32-byte k", "<u4")[:, None]
    state[4:12] = np.frombuffer(key, "<u4")[:, None]
    state[12] = np.arange(block, block + blocks, dtype=np.uint64)  # beyond 2^32 it wraps, as a counter of 32 bits does
    state[13:] = np.frombuffer(nonce, "<u4")[:, None]
    words = state.copy()
    for _ in range(10):
        for a, b, c, d in ROUND:
            for target, addend, rotated, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                words[target] += words[addend]
                mixed = words[rotated] ^ words[target]
                words[rotated] = (mixed << np.uint32(bits)) | (mixed >> np.uint32(32 - bits))
    words += state
    return words.T.astype("<u4").tobytes()


def aes_ctr(key: bytes, *, counter: int, blocks: int) -> bytes:
    """NIST SP 800-38A, 6.5: the cipher on a counter, one block of 16 bytes after the other."""
    encrypt = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - a counter, not a message
    return b"".join(encrypt.update((counter + number).to_bytes(16, "big")) for number in range(blocks))


def keystream(stream: MaskStream, *, block: int, size: int) -> bytes:
    """`size` bytes of a mask stream from `block` on."""
    blocks = -(-size // 64)
    if stream.suite == "chacha20":
        return chacha20(stream.key, block=block, blocks=blocks)[:size]
    key = stream.key[: 16 if stream.suite == "aes128ctr" else 32]
    return aes_ctr(key, counter=4 * block, blocks=4 * blocks)[:size]


def words(stream: MaskStream, count: int, dtype: NDArray[np.generic] | type[np.generic] | str) -> list[int]:
    """The mask as integers, little-endian."""
    itemsize = np.dtype(dtype).itemsize
    octets = keystream(stream, block=0, size=count * itemsize)
    return [int.from_bytes(octets[at : at + itemsize], "little") for at in range(0, len(octets), itemsize)]
