"""CKKS parameters: one prime, complex slots, a scale that makes bounded integer sums exact, a security table.

A sum needs no multiplication, so one NTT prime is enough: no special prime, no rescaling, no relinearisation
keys. A ciphertext holds N integers as N/2 complex slots, and the scale 2^scale_bits is the largest power of
two for which two facts hold, checked whenever parameters are made (B = 2^31 bounds every sum, and a complex
slot with both parts below B has magnitude below sqrt(2) B):

    sqrt(2) * 2^31 * 2^scale_bits + noise < q / 2      the sum never wraps modulo q
    sqrt(2) * 2^30 * 2^scale_bits         < q / 4      the encoder accepts every single vector

The second is about one client, whose integers are at most 2^30 in magnitude: the overflow proof of an encoding
for two or more clients says so, since clients * largest <= 2^31 - 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from he.security import MAX_CLIENTS, NOISE_BOUND, SEED_BYTES, SUM_BITS, VALUE_BITS, KeyMode, check_security
from secagg.errors import Refused, did_you_mean


@dataclass(frozen=True)
class Parameters:
    """One vetted set; it cannot be made insecure or overflowing.

    Attributes:
        name: what a configuration calls it.
        degree: N, the ring is Z_q[X] / (X^N + 1).
        modulus: q, one prime with q = 1 modulo 2N.
        scale_bits: log2 of the CKKS scale.

    Raises:
        Refused: over the security table, not an NTT prime of 56 or 60 bits, or no room for the sum.
    """

    name: str
    degree: int
    modulus: int
    scale_bits: int

    def __post_init__(self) -> None:
        check_security(self.degree, [self.modulus])
        if self.modulus.bit_length() not in (56, 60):
            raise Refused(f"{self.name}: a prime of {self.modulus.bit_length()} bits, expected 56 or 60")
        if self.modulus % (2 * self.degree) != 1:
            raise Refused(f"{self.name}: the modulus is not 1 modulo 2N = {2 * self.degree}")
        noise = MAX_CLIENTS * (NOISE_BOUND + 1)
        if math.sqrt(2) * 2.0 ** (SUM_BITS + self.scale_bits) + noise >= self.modulus / 2:
            raise Refused(f"{self.name}: scale 2^{self.scale_bits} leaves no room for sums of {SUM_BITS} bits")
        if math.sqrt(2) * 2.0 ** (VALUE_BITS + self.scale_bits) >= 2.0 ** (self.modulus_bits - 2):
            raise Refused(f"{self.name}: scale 2^{self.scale_bits} leaves no room for values of {VALUE_BITS} bits")

    @property
    def primes(self) -> tuple[int, ...]:
        """The factors of q: one."""
        return (self.modulus,)

    @property
    def modulus_bits(self) -> int:
        """Bits of a residue: 56 or 60."""
        return self.modulus.bit_length()

    @property
    def scale(self) -> float:
        """The CKKS scale, 2^scale_bits."""
        return float(2**self.scale_bits)

    @property
    def polynomial_bytes(self) -> int:
        """Bytes of one polynomial on the wire: N residues without a wasted bit."""
        return self.degree * self.modulus_bits // 8

    @property
    def secret_key_bytes(self) -> int:
        """Bytes of an exported secret key."""
        return self.polynomial_bytes

    def record_bytes(self, key_mode: KeyMode) -> int:
        """Bytes of one fresh ciphertext: two polynomials, or one and the seed of the other."""
        return self.polynomial_bytes + (self.polynomial_bytes if key_mode == "public" else SEED_BYTES)

    def ciphertexts(self, length: int) -> int:
        """How many ciphertexts hold `length` integers. Raises `Refused` for less than one integer."""
        if length < 1:
            raise Refused(f"a vector of {length} integers, expected one at least")
        return -(-length // self.degree)

    def fresh_bytes(self, length: int, key_mode: KeyMode) -> int:
        """Exact bytes of the encryption of `length` integers."""
        return self.ciphertexts(length) * self.record_bytes(key_mode)

    def sum_bytes(self, length: int) -> int:
        """Exact bytes of a sum of encryptions of `length` integers, in either key mode."""
        return self.ciphertexts(length) * 2 * self.polynomial_bytes


# The largest primes of 56 and 60 bits that are 1 modulo 8192.
COMPACT = Parameters("n4096-q56", degree=4096, modulus=72057594037641217, scale_bits=23)
WIDE = Parameters("n4096-q60", degree=4096, modulus=1152921504606830593, scale_bits=27)
PRESETS: Mapping[str, Parameters] = MappingProxyType({preset.name: preset for preset in (COMPACT, WIDE)})


def preset(name: str) -> Parameters:
    """The preset of that name. Raises `Refused` with the nearest name."""
    if name not in PRESETS:
        raise Refused(f"CKKS preset {name!r} is unknown{did_you_mean(name, PRESETS)}")
    return PRESETS[name]
