"""Parameters and residues of the key-holder mode: two data primes, one special prime, integers in coefficients.

A ciphertext holds N integers, one in every coefficient, scaled by Delta = p * step, where Q = p * r is the product
of the data primes and step = floor(r / 2^32). Encoding is therefore exact, a sum of ciphertexts is Delta * (sum of
integers) + error with an error per *coefficient*, and opening it needs no floating point:

    phase = c0 + c1 s mod Q = low + p * high        Garner, 0 <= low < p, 0 <= high < r
    sum = round(high / step)                        high as signed modulo r

The sum cannot wrap: (2^31 - 1/2) * step <= r / 2. As Delta is a multiple of p, a message touches only the residues
modulo r. The special prime exists in keys alone: SEAL encrypts modulo Q * special, then divides by it, and
the noise that is left comes from rounding (`flooding.fresh_error`).

On the wire a polynomial is, for each data prime in turn, the low 32 bits of its N coefficients, then their
high 8 or 16 bits. Coefficients are in the clear order, not in transform form. There is no header.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he.residues import Bytes, Malformed, Residues
from he.security import check_security
from secagg.errors import Refused, did_you_mean

Signed = NDArray[np.int64]
_HIGH: Mapping[int, np.dtype[Any]] = {40: np.dtype(np.uint8), 48: np.dtype("<u2")}


@dataclass(frozen=True)
class RingParameters:
    """One vetted set for the key-holder mode; it cannot be made insecure or wrapping.

    Attributes:
        name: what a configuration calls it.
        degree: N.
        primes: p and r, the data primes, of 40 or 48 bits, 1 modulo 2N.
        special: the special prime, in keys only, 1 modulo 2N.

    Raises:
        Refused: over the security table with all three primes counted, or primes of other sizes.
    """

    name: str
    degree: int
    primes: tuple[int, int]
    special: int

    def __post_init__(self) -> None:
        check_security(self.degree, [*self.primes, self.special])
        if any(prime % (2 * self.degree) != 1 for prime in (*self.primes, self.special)):
            raise Refused(f"{self.name}: a prime is not 1 modulo 2N = {2 * self.degree}")
        if any(prime.bit_length() not in _HIGH for prime in self.primes) or self.primes[1] >> 32 == 0:
            raise Refused(f"{self.name}: data primes of other than 40 and 48 bits")

    @property
    def step(self) -> int:
        """Delta / p: how far two neighbouring sums are apart in the residues modulo r."""
        return self.primes[1] >> 32

    @property
    def delta(self) -> int:
        """Delta, the scale of an integer in a coefficient."""
        return self.primes[0] * self.step

    @property
    def modulus_bits(self) -> int:
        """log2 Q of a ciphertext, rounded up."""
        return math.prod(self.primes).bit_length()

    @property
    def key_bits(self) -> int:
        """log2 of all primes together, rounded up: what the security table is asked about."""
        return (math.prod(self.primes) * self.special).bit_length()

    @property
    def polynomial_bytes(self) -> int:
        """Bytes of one polynomial on the wire."""
        return self.degree * sum(4 + _HIGH[prime.bit_length()].itemsize for prime in self.primes)

    @property
    def secret_key_bytes(self) -> int:
        """Bytes of a kept secret key: its residues modulo all three primes, 8 bytes each."""
        return 3 * 8 * self.degree

    @property
    def public_key_bytes(self) -> int:
        """Bytes of a public key on the wire: two polynomials modulo all three primes, 8 bytes a residue."""
        return 2 * self.secret_key_bytes

    def ciphertexts(self, length: int) -> int:
        """How many ciphertexts hold `length` integers. Raises `Refused` for less than one integer."""
        if length < 1:
            raise Refused(f"a vector of {length} integers, expected one at least")
        return -(-length // self.degree)

    def fresh_bytes(self, length: int) -> int:
        """Exact bytes of the encryption of `length` integers."""
        return self.sum_bytes(length)

    def sum_bytes(self, length: int) -> int:
        """Exact bytes of a sum of encryptions of `length` integers: the same as of one encryption."""
        return self.ciphertexts(length) * 2 * self.polynomial_bytes


# The largest primes of their sizes that are 1 modulo 2N.
NARROW = RingParameters("n4096-q88", 4096, (1099511480321, 281474976694273), 188417)
ROOMY = RingParameters("n8192-q96", 8192, (281474976546817, 281474976694273), 1152921504606830593)
RINGS: Mapping[str, RingParameters] = MappingProxyType({ring.name: ring for ring in (NARROW, ROOMY)})


def ring(name: str) -> RingParameters:
    """The preset of that name. Raises `Refused` with the nearest name."""
    if name not in RINGS:
        raise Refused(f"CKKS preset {name!r} is unknown in key_mode 'holder'{did_you_mean(name, RINGS)}")
    return RINGS[name]


def pack(residues: Residues, parameters: RingParameters) -> bytes:
    """Residues of shape `(..., 2, N)`, below p and r, as bytes: `polynomial_bytes` for each of the `...`."""
    polynomials = residues.reshape(-1, 2, parameters.degree)
    out = np.empty((polynomials.shape[0], parameters.polynomial_bytes), np.uint8)
    for place, polynomial in zip(out, polynomials, strict=True):
        for (low, high), words in zip(_planes(place, parameters), polynomial, strict=True):
            low[:] = words.astype(low.dtype)
            high[:] = (words >> np.uint64(32)).astype(high.dtype)
    return out.tobytes()


def unpack(rows: Bytes, parameters: RingParameters) -> Residues:
    """Residues of shape `(..., 2, N)` from bytes of shape `(..., polynomial_bytes)`.

    Raises:
        Malformed: a residue is not below its prime.
    """
    flat = rows.reshape(-1, parameters.polynomial_bytes)
    out = np.empty((flat.shape[0], 2, parameters.degree), np.uint64)
    for place, polynomial in zip(flat, out, strict=True):
        for (low, high), words, prime in zip(_planes(place, parameters), polynomial, parameters.primes, strict=True):
            words[:] = high
            words <<= np.uint64(32)
            words |= low
            if int(words.max()) >= prime:
                raise Malformed("a residue is not below the modulus")
    return out.reshape(*rows.shape[:-1], 2, parameters.degree)


def ciphertexts(rows: Bytes, parameters: RingParameters) -> Residues:
    """Full ciphertexts: `(count, 2 * polynomial_bytes)` bytes to residues of shape `(count, 2, 2, N)`.

    Raises:
        Malformed: a residue is not below its prime, or a second polynomial is zero modulo one of them, so that the
            first is no secret (C5).
    """
    residues = unpack(rows.reshape(rows.shape[0], 2, parameters.polynomial_bytes), parameters)
    if not residues[:, 1].any(axis=-1).all():
        raise Malformed("transparent ciphertext: its second polynomial is zero")
    return residues


def add_into(total: Residues, term: Residues, parameters: RingParameters) -> None:
    """Add modulo p and r in place; both of shape `(..., 2, N)` and reduced, as `total` is afterwards."""
    np.add(total, term, out=total)
    # Below the prime, the difference wraps to a huge number, and the minimum keeps the sum itself.
    np.minimum(total, total - np.array(parameters.primes, np.uint64)[:, None], out=total)


def add_integers(residues: Residues, integers: Signed, parameters: RingParameters) -> None:
    """Add signed integers, shape `(N,)` int64, to a polynomial of shape `(2, N)`, coefficient by coefficient."""
    for words, prime in zip(residues, parameters.primes, strict=True):
        words += (integers % prime).astype(np.uint64)
        np.minimum(words, words - np.uint64(prime), out=words)


def add_message(residues: Residues, values: Signed, parameters: RingParameters) -> None:
    """Add Delta * values, shape `(n,)` with n <= N and |values| <= 2^30, to a polynomial of shape `(2, N)`."""
    prime = parameters.primes[1]
    words = residues[1, : values.size]
    words += (_times(values, parameters.delta % prime, prime)).astype(np.uint64)
    np.minimum(words, words - np.uint64(prime), out=words)


def split(residues: Residues, parameters: RingParameters) -> Signed:
    """`high` of the Garner form of a polynomial of shape `(2, N)`, signed in [-r/2, r/2). int64, shape `(N,)`."""
    low, high = (words.astype(np.int64) for words in residues)
    p, r = parameters.primes
    top = _times(high - low % r, pow(p, -1, r), r)
    top[top > r // 2] -= r
    return top


def _times(values: Signed, factor: int, prime: int) -> Signed:
    """`values * factor` modulo `prime`, in [0, prime); |values| and factor below 2^48.

    The quotient in float64 is off by one at most; the product and its multiple of the prime wrap modulo 2^64 alike.
    """
    quotients = np.rint(values * (factor / prime)).astype(np.int64)
    with np.errstate(over="ignore"):
        out: Signed = values * np.int64(factor) - quotients * np.int64(prime)
    out[out < 0] += prime
    out[out >= prime] -= prime
    return out


def _planes(
    polynomial: Bytes, parameters: RingParameters
) -> list[tuple[NDArray[np.uint32], NDArray[np.unsignedinteger]]]:
    """Views of the low and the high parts of a packed polynomial, for each prime."""
    planes, at, degree = [], 0, parameters.degree
    for prime in parameters.primes:
        high = _HIGH[prime.bit_length()]
        middle, end = at + 4 * degree, at + (4 + high.itemsize) * degree
        planes.append((polynomial[at:middle].view("<u4"), polynomial[middle:end].view(high)))
        at = end
    return planes
