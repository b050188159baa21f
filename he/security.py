"""What every parameter set is held to: the security table, and the facts about SEAL's noise that all bounds start from.

Security: 128 bits, classical, ternary secret, "Security Guidelines for Implementing Homomorphic Encryption"
(Bossuat et al. 2024, IACR ePrint 2024/463); every prime counts, a special prime included.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal

from secagg.errors import Refused

KeyMode = Literal["public", "symmetric"]

SECURITY_BITS = 128
MAX_LOG2_Q: Mapping[int, int] = MappingProxyType({4096: 106, 8192: 214, 16384: 430})
MAX_CLIENTS = 1 << 20
SEED_BYTES = 64
# SEAL's centred binomial noise: the difference of two sums of 21 bits, variance 21 / 2, never beyond 21.
NOISE_BOUND = 21
NOISE_VARIANCE = 10.5
# An integer of the 32-bit ring: with its sign, a sum has 31 bits, and one of at least two terms 30.
SUM_BITS = 31
VALUE_BITS = 30


def check_security(degree: int, primes: Iterable[int]) -> None:
    """Raise `Refused` unless Q, the product of all primes, has 128-bit security at `degree` (C2)."""
    if degree not in MAX_LOG2_Q:
        raise Refused(f"polynomial degree {degree}, expected one of {', '.join(map(str, MAX_LOG2_Q))}")
    bits = math.prod(primes).bit_length()
    if bits > MAX_LOG2_Q[degree]:
        raise Refused(f"log2 Q = {bits} at degree {degree}; 128-bit security allows {MAX_LOG2_Q[degree]} at most")
