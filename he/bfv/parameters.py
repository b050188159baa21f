"""BFV parameters: how many digits share a coefficient, and the inequality under which no sum is ever decrypted wrong.

A coefficient of the plaintext polynomial holds `digits` signed digits of `digit_bits` bits: the message is
M = sum_j d_j 2^(digit_bits j) modulo T = 2^(digits digit_bits), and every digit of a *sum* is below
2^(digit_bits - 1) in magnitude, so that sums neither borrow nor carry. Nothing is multiplied, so digits stand in
coefficients, not in the slots of a batch encoder: no transform modulo T, and T may be a power of two.

Zero failures. A fresh ciphertext decrypts to q M / T + e, |e| <= E + R: E is the encryption noise, R the
rounding of q M / T. C of them added, one rounding more for each level of the decryption (`he.bfv.decryption`),
and SEAL's own, which stays below one, leave the right M nearest if

    q > 2 T (C (E + R) + levels R + 1)

with worst-case values throughout, never an average:

* symmetric: SEAL's noise is never beyond 21, and is added at q itself: E = 21;
* public: u e_pk + e0 + e1 s at q times the special prime p, never beyond 21 (2 N + 1), then divided by p and
  rounded: E = 21 (2 N + 1) / p + (1 + N) / 2, as |s| has at most N coefficients of one.

Security: the table of `he.security` over all primes, the special one included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from he.security import MAX_CLIENTS, NOISE_BOUND, SEED_BYTES, KeyMode, check_security
from secagg.errors import Refused, did_you_mean

# Half, and what floating point may err in the rounding of `he.bfv.digits`.
ENCODING_ROUNDING = Fraction(1, 2) + Fraction(1, 1 << 20)
# SEAL decrypts with an auxiliary prime over 2^60; each of k primes of q costs q / (T 2^60) (Bajard et al. 2016).
SEAL_AUXILIARY_BITS = 60
PRIME_BITS = 60
# SEAL would take 59; `he.bfv.digits` needs a quotient of so many bits to be right to within one in a float64.
MAX_PLAIN_BITS = 50


@dataclass(frozen=True)
class BfvParameters:
    """One vetted set; it cannot be made insecure.

    Attributes:
        name: what a configuration calls it.
        degree: N, the ring is Z_q[X] / (X^N + 1).
        primes: the factors of q, NTT primes of 60 bits.
        special: the prime that public-key encryption divides away; it is in keys, never in ciphertexts.
        digits: how many integers share a coefficient.
        digit_bits: bits of a sum, its sign included.

    Raises:
        Refused: over the security table, no NTT primes of 60 bits, or digits that leave no room for noise.
    """

    name: str
    degree: int
    primes: tuple[int, ...]
    special: int
    digits: int
    digit_bits: int

    def __post_init__(self) -> None:
        check_security(self.degree, [*self.primes, self.special])
        for prime in (*self.primes, self.special):
            if prime.bit_length() != PRIME_BITS or prime % (2 * self.degree) != 1:
                raise Refused(f"{self.name}: {prime} is no prime of {PRIME_BITS} bits that is 1 modulo 2N")
        if self.digits % self.level_digits:
            raise Refused(f"{self.name}: {self.digits} digits do not fill levels of {self.level_digits}")
        if self.modulus * len(self.primes) > self.plain_modulus << SEAL_AUXILIARY_BITS:
            raise Refused(f"{self.name}: q / T is too large for SEAL's own rounding")
        if min(self.max_clients("public"), self.max_clients("symmetric")) < 3:
            raise Refused(f"{self.name}: {self.digits} digits of {self.digit_bits} bits leave no room for noise")

    @property
    def modulus(self) -> int:
        """q."""
        return math.prod(self.primes)

    @property
    def plain_modulus(self) -> int:
        """T."""
        return 1 << (self.digits * self.digit_bits)

    @property
    def level_digits(self) -> int:
        """How many digits SEAL decrypts at once."""
        return MAX_PLAIN_BITS // self.digit_bits

    @property
    def level_bits(self) -> int:
        """log2 of the plain modulus that SEAL is given."""
        return self.level_digits * self.digit_bits

    @property
    def levels(self) -> int:
        """How many decryptions open a ciphertext."""
        return self.digits // self.level_digits

    @property
    def modulus_bits(self) -> int:
        """Bits of one residue."""
        return PRIME_BITS

    @property
    def polynomial_bytes(self) -> int:
        """Bytes of one polynomial of a ciphertext: its residues modulo every prime of q."""
        return len(self.primes) * self.degree * PRIME_BITS // 8

    @property
    def key_ring(self) -> BfvKeyRing:
        """The ring of public keys: with the special prime."""
        return BfvKeyRing(self.degree, (*self.primes, self.special))

    @property
    def public_key_bytes(self) -> int:
        """Bytes of a public key: two polynomials, the special prime included."""
        return 2 * self.key_ring.polynomial_bytes

    @property
    def secret_key_bytes(self) -> int:
        """Bytes of an exported secret key: two bits a coefficient."""
        return self.degree // 4

    def noise(self, key_mode: KeyMode) -> Fraction:
        """E: the largest coefficient of the noise of a fresh ciphertext."""
        if key_mode == "symmetric":
            return Fraction(NOISE_BOUND)
        return Fraction(NOISE_BOUND * (2 * self.degree + 1), self.special) + Fraction(1 + self.degree, 2)

    def max_clients(self, key_mode: KeyMode) -> int:
        """C: how many ciphertexts may be added, by the inequality; never over 2^20."""
        room = Fraction(self.modulus, 2 * self.plain_modulus) - 1 - self.levels * ENCODING_ROUNDING
        clients = math.ceil(room / (self.noise(key_mode) + ENCODING_ROUNDING)) - 1
        return max(0, min(clients, MAX_CLIENTS))

    def record_bytes(self, key_mode: KeyMode) -> int:
        """Bytes of one fresh ciphertext: two polynomials, or one and the seed of the other."""
        return self.polynomial_bytes + (self.polynomial_bytes if key_mode == "public" else SEED_BYTES)

    @property
    def record_integers(self) -> int:
        """How many integers one ciphertext holds."""
        return self.digits * self.degree

    def ciphertexts(self, length: int) -> int:
        """How many ciphertexts hold `length` integers. Raises `Refused` for less than one integer."""
        if length < 1:
            raise Refused(f"a vector of {length} integers, expected one at least")
        return -(-length // self.record_integers)

    def fresh_bytes(self, length: int, key_mode: KeyMode) -> int:
        """Exact bytes of the encryption of `length` integers."""
        return self.ciphertexts(length) * self.record_bytes(key_mode)

    def sum_bytes(self, length: int) -> int:
        """Exact bytes of a sum of encryptions of `length` integers, in either key mode."""
        return self.ciphertexts(length) * 2 * self.polynomial_bytes


@dataclass(frozen=True)
class BfvKeyRing:
    """The ring of a public key, for `he.residues`."""

    degree: int
    primes: tuple[int, ...]
    modulus_bits: int = PRIME_BITS

    @property
    def polynomial_bytes(self) -> int:
        """Bytes of one polynomial."""
        return len(self.primes) * self.degree * PRIME_BITS // 8


# The three largest primes of 60 bits that are 1 modulo 16384: 180 bits in all, 214 are allowed.
_FIRST, _SECOND, _SPECIAL = 1152921504606830593, 1152921504606748673, 1152921504606683137
COMPACT = BfvParameters("n8192-4x24", degree=8192, primes=(_FIRST, _SECOND), special=_SPECIAL, digits=4, digit_bits=24)
WIDE = BfvParameters("n8192-3x32", degree=8192, primes=(_FIRST, _SECOND), special=_SPECIAL, digits=3, digit_bits=32)
BFV_PRESETS: Mapping[str, BfvParameters] = MappingProxyType({preset.name: preset for preset in (COMPACT, WIDE)})


def bfv_preset(name: str) -> BfvParameters:
    """The preset of that name. Raises `Refused` with the nearest name."""
    if name not in BFV_PRESETS:
        raise Refused(f"BFV preset {name!r} is unknown{did_you_mean(name, BFV_PRESETS)}")
    return BFV_PRESETS[name]


def require_no_failure(parameters: BfvParameters, key_mode: KeyMode, *, clients: int, sum_bits: int) -> None:
    """Raise `Refused`, with the preset that would do, unless every sum of `clients` is decrypted right."""

    def serves(other: BfvParameters) -> bool:
        return sum_bits <= other.digit_bits and 1 <= clients <= other.max_clients(key_mode)

    if serves(parameters):
        return
    others = [other.name for other in BFV_PRESETS.values() if serves(other)]
    hint = f" ({others[0]} would do)" if others else ""
    if sum_bits > parameters.digit_bits:
        raise Refused(f"bfv: {parameters.name} holds sums of {parameters.digit_bits} bits, {sum_bits} needed{hint}")
    raise Refused(
        f"bfv: {parameters.name} adds up to {parameters.max_clients(key_mode)} clients without decryption failures "
        f"in {key_mode} mode, {clients} asked for{hint}"
    )
