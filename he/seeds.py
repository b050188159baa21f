"""The polynomial that a seed stands for: uniform modulo every prime, as SEAL draws it from its generator.

    stream  BLAKE2Xb (Aumasson, Neves, Wilcox-O'Hearn, Winnerlein 2016) in blocks of 4096 bytes: block i has the
            64 bytes of the seed as its key, and i as its input, 8 bytes
    words   8 bytes a coefficient, all of them first; each is reduced modulo its prime
    again   a word from the last, incomplete run of residues below 2^64 is replaced by the stream's next

So a server that adds seeded ciphertexts needs no SEAL: of what a peer wrote, only the seed reaches native code, as the
key of a hash, which has no form that could be wrong. The hash is the one inside the binding of SEAL.

Guarantee: for a uniform seed and BLAKE2Xb as a random function, every coefficient is uniform and independent.
"""

from __future__ import annotations

import ctypes
import importlib.util
import secrets
from functools import cache, lru_cache
from typing import Any, Protocol

import numpy as np

from he import workers
from he.residues import Bytes, Malformed, Residues, Ring
from he.security import SEED_BYTES
from secagg.errors import Refused

_BLOCK_BYTES = 4096


def expand(seed: bytes, primes: tuple[int, ...], degree: int) -> Residues:
    """The polynomial of a seed: its residues modulo every prime, shape `(primes * degree,)`, below them."""
    stream = _Stream(seed)
    words = stream.words(len(primes) * degree)
    for row, prime in zip(words.reshape(len(primes), degree), primes, strict=True):
        limit = np.uint64(2**64 - 1 - (2**64 - 1) % prime - 1)
        for at in np.flatnonzero(row >= limit):
            while row[at] >= limit:
                row[at] = stream.word()
        row %= np.uint64(prime)
    return words


def expand_all(seeds: Bytes, primes: tuple[int, ...], degree: int) -> Residues:
    """The polynomials of seeds, shape `(count, 64)`: residues of shape `(count, primes * degree)`, by the workers.

    Raises:
        Malformed: a worker was lost over them, or gave what is no residue.
    """
    polynomials = np.empty((len(seeds), len(primes) * degree), np.uint64)

    def fill(start: int, stop: int, items: Bytes) -> None:
        items[:] = seeds[start:stop]

    arguments = {"primes": list(primes), "degree": degree}
    try:
        workers.run(open_expander, arguments, fill, item_bytes=SEED_BYTES, results=polynomials.view(np.uint8))
    except workers.Lost as error:
        raise Malformed(f"its seeds could not be expanded: {error}") from None
    # Looked at as if it had come from a peer: a residue beyond its prime would wrap into the sums of the others.
    for place, prime in enumerate(primes):
        if int(polynomials[:, place * degree : (place + 1) * degree].max()) >= prime:
            raise Malformed("its seeds could not be expanded: a worker gave what is no residue")
    return polynomials


def open_expander(primes: list[int], degree: int) -> workers.Work:
    """Seeds to polynomials, in a worker."""

    def work(seeds: Bytes, polynomials: Bytes) -> None:
        for seed, out in zip(seeds, polynomials.view(np.uint64), strict=True):
            out[:] = expand(seed.tobytes(), tuple(primes), degree)

    return work


class Seal(Protocol):
    """The part of a SEAL context that shows what SEAL makes of a seed."""

    @property
    def parameters(self) -> Ring: ...

    def seeded_ciphertext(self, residues: Residues, seed: Bytes) -> Any: ...

    def ciphertext_residues(self, ciphertext: Any) -> Residues: ...


@lru_cache(maxsize=8)
def require_agreement(seal: Seal) -> None:
    """Raise `Refused` unless SEAL, which a client encrypts with, makes of a seed what `expand` does."""
    primes, degree = seal.parameters.primes, seal.parameters.degree
    seed = secrets.token_bytes(SEED_BYTES)
    first = np.zeros(len(primes) * degree, np.uint64)
    theirs = seal.ciphertext_residues(seal.seeded_ciphertext(first, np.frombuffer(seed, np.uint8)))[1]
    if not np.array_equal(theirs, expand(seed, primes, degree)):
        raise Refused("this build of SEAL makes other polynomials of its seeds than a server of this version does")


class _Stream:
    """Words under a seed, in the order in which SEAL draws them."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise Refused(f"a seed of {len(seed)} bytes, expected {SEED_BYTES}")
        self._seed = seed
        self._blocks = 0
        self._left: list[np.uint64] = []

    def words(self, count: int) -> Residues:
        out = np.empty(-(-8 * count // _BLOCK_BYTES) * _BLOCK_BYTES // 8, np.uint64)
        for block in out.reshape(-1, _BLOCK_BYTES // 8):
            self._next_block(block)
        self._left = list(out[count:])
        return out[:count]

    def word(self) -> np.uint64:
        if not self._left:
            block = np.empty(_BLOCK_BYTES // 8, np.uint64)
            self._next_block(block)
            self._left = list(block)
        return self._left.pop(0)

    def _next_block(self, block: Residues) -> None:
        counter = self._blocks.to_bytes(8, "little")
        self._blocks += 1
        if _blake2xb()(block.ctypes.data, _BLOCK_BYTES, counter, len(counter), self._seed, SEED_BYTES) != 0:
            raise Refused("BLAKE2Xb of this build of tenseal takes no seed of 64 bytes")


@cache
def _blake2xb() -> Any:
    """BLAKE2Xb of the binding of SEAL, without Python's part of it, which takes memory and time to load."""
    found = importlib.util.find_spec("_sealapi_cpp")
    if found is None or found.origin is None:
        raise Refused("tenseal is not installed, or not as a library of its own")
    library = ctypes.CDLL(found.origin)
    if not hasattr(library, "blake2xb"):
        raise Refused("this build of tenseal does not export its BLAKE2Xb")
    function = library.blake2xb
    function.restype = ctypes.c_int
    octets, size = ctypes.c_char_p, ctypes.c_size_t
    function.argtypes = [ctypes.c_void_p, size, octets, size, octets, size]
    return function
