"""Parameters and residues of the key-holder mode: two data primes, one special prime, integers in coefficients.

A ciphertext holds N integers, one in every coefficient, scaled by Delta = p * step, where Q = p * r is the product
of the data primes and step = floor(r / 2^32). Encoding is therefore exact, a sum of ciphertexts is Delta * (sum of
integers) + error with an error per *coefficient*, and opening it needs no floating point:

    phase = c0 + c1 s mod Q = low + p * high        Garner, 0 <= low < p, 0 <= high < r
    sum = round(high / step)                        high as signed modulo r

The sum cannot wrap: (2^31 - 1/2) * step <= r / 2. As Delta is a multiple of p, a message touches only the residues
modulo r. The special prime exists in keys alone: SEAL encrypts modulo Q * special, then divides by it, and
the noise that is left comes from rounding (`flooding.fresh_error`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from he.residues import Residues
from he.security import check_security
from secagg.errors import Refused, did_you_mean

Signed = NDArray[np.int64]
_PRIME_BITS = (40, 48)


@dataclass(frozen=True)
class RingParameters:
    """One vetted set for the key-holder mode; it cannot be made insecure or wrapping.

    Attributes:
        name: what a configuration calls it.
        degree: N.
        primes: p and r, the data primes, of 40 or 48 bits, 1 modulo 2N.
        special: the special prime, in keys only, 1 modulo 2N.
        fresh_drop: how many bits of c0 a fresh ciphertext leaves out (`wire`).

    Raises:
        Refused: over the security table with all three primes counted, or primes of other sizes.
    """

    name: str
    degree: int
    primes: tuple[int, int]
    special: int
    fresh_drop: int

    def __post_init__(self) -> None:
        check_security(self.degree, [*self.primes, self.special])
        if any(prime % (2 * self.degree) != 1 for prime in (*self.primes, self.special)):
            raise Refused(f"{self.name}: a prime is not 1 modulo 2N = {2 * self.degree}")
        if any(prime.bit_length() not in _PRIME_BITS for prime in self.primes) or self.primes[1] >> 32 == 0:
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


# The largest primes of their sizes that are 1 modulo 2N.
NARROW = RingParameters("n4096-q88", 4096, (1099511480321, 281474976694273), 188417, fresh_drop=8)
ROOMY = RingParameters("n8192-q96", 8192, (281474976546817, 281474976694273), 1152921504606830593, fresh_drop=12)
RINGS: Mapping[str, RingParameters] = MappingProxyType({ring.name: ring for ring in (NARROW, ROOMY)})


def ring(name: str) -> RingParameters:
    """The preset of that name. Raises `Refused` with the nearest name."""
    if name not in RINGS:
        raise Refused(f"CKKS preset {name!r} is unknown in key_mode 'holder'{did_you_mean(name, RINGS)}")
    return RINGS[name]


def garner(residues: Residues, parameters: RingParameters) -> Residues:
    """(low, high) with low + p * high, below Q, in place of residues modulo p and r; both of shape `(2, N)`."""
    low, high = (words.astype(np.int64) for words in residues)
    p, r = parameters.primes
    return np.stack((residues[0], _times(high - low % r, pow(p, -1, r), r).astype(np.uint64)))


def whole(low: Residues, high: Residues, parameters: RingParameters) -> Residues:
    """Residues, shape `(..., 2, N)`, of low + p * high, shape `(..., N)`; low below p and high below r."""
    p, r = parameters.primes
    words = _times(high.astype(np.int64), p % r, r) + low.astype(np.int64) % r
    return np.stack((low, np.minimum(words.astype(np.uint64), (words - r).astype(np.uint64))), axis=-2)


def add_into(total: Residues, term: Residues, parameters: RingParameters, *, scratch: Residues | None = None) -> None:
    """Add modulo p and r in place; both of shape `(..., 2, N)` and reduced, as `total` is afterwards.

    `scratch` is an array of that shape to work in; it may be `term` itself, which is then used up.
    """
    np.add(total, term, out=total)
    # Below the prime, the difference wraps to a huge number, and the minimum keeps the sum itself.
    less = np.subtract(total, np.array(parameters.primes, np.uint64)[:, None], out=scratch)
    np.minimum(total, less, out=total)


def add_digits(total: Residues, term: Residues, parameters: RingParameters) -> None:
    """Add modulo Q in place: (low, high) as `garner` gives them, of shape `(..., 2, N)`. `term` is used up."""
    p, r = (np.uint64(prime) for prime in parameters.primes)
    low, high, scratch = total[..., 0, :], total[..., 1, :], term[..., 0, :]
    low += scratch
    carry = low >= p
    np.minimum(low, np.subtract(low, p, out=scratch), out=low)
    high += term[..., 1, :]
    high += carry
    np.minimum(high, np.subtract(high, r, out=scratch), out=high)


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
    """`high` of `garner`, signed in [-r/2, r/2). int64, shape `(N,)`."""
    top: Signed = garner(residues, parameters)[1].astype(np.int64)
    top[top > parameters.primes[1] // 2] -= parameters.primes[1]
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
