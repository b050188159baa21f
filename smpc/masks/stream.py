"""The stream that a seed stands for: the keystream of a cipher from `cryptography`, from any block on.

The suites are ChaCha20 (RFC 8439, nonce zero), whose bytes are the same on a CUDA device, and AES-128 or AES-256
in counter mode (NIST SP 800-38A). Both count their blocks, so a stream can be entered anywhere.

Guarantee: to whoever lacks the seed, the 2^38 bytes of a stream are indistinguishable from uniform ones, and streams
of different seeds, suites or contexts from independent ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from secagg.errors import Refused, did_you_mean
from secagg.sealing import derive

Suite = Literal["chacha20", "aes128ctr", "aes256ctr"]
SUITES: tuple[str, ...] = get_args(Suite)
SEED_BYTES = 32
# ChaCha20's block, and four of AES: a unit of position that all suites share.
BLOCK_BYTES = 64
# ChaCha20 counts blocks in 32 bits and would begin again. (AES would only be distinguishable far beyond this.)
MAX_VECTOR_BYTES = BLOCK_BYTES << 32


class MaskStream:
    """The mask that a seed stands for in one context (spec digest and the two parties' fingerprints).

    Raises:
        Refused: the suite is unknown, or the seed has not `SEED_BYTES`.
    """

    def __init__(self, seed: bytes, *, suite: str, context: tuple[bytes, ...]) -> None:
        if suite not in SUITES:
            raise Refused(f"unknown mask suite {suite!r}{did_you_mean(suite, SUITES)}")
        if len(seed) != SEED_BYTES:
            raise Refused(f"mask seed of {len(seed)} bytes, expected {SEED_BYTES}")
        self.suite = suite
        # Fresh for every mask, so that counter and nonce may start at zero.
        self.key = derive(seed, f"mask/{suite}", *context)

    def start(self, block: int = 0) -> CipherContext:
        """A cipher that turns zeros into the stream, from byte `block * BLOCK_BYTES` on."""
        cipher: Cipher[Any]
        if self.suite == "chacha20":
            cipher = Cipher(algorithms.ChaCha20(self.key, block.to_bytes(4, "little") + bytes(12)), mode=None)
        else:
            key = self.key[:16] if self.suite == "aes128ctr" else self.key
            cipher = Cipher(algorithms.AES(key), modes.CTR((4 * block).to_bytes(16, "big")))
        return cipher.encryptor()


Sign = Literal[1, -1]
Masks: TypeAlias = Sequence[tuple[MaskStream, Sign]]
