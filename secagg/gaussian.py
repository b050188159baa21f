"""Discrete Gaussian noise N_Z(0, sigma^2) from a cryptographic stream: P(x) proportional to exp(-x^2 / (2 sigma^2)).

The method is rejection from half-normal buckets of binary weight (Karney 2016, arXiv 1303.6257; Ducas et al. 2013,
"BLISS"; the discrete Gaussian as DP noise: Canonne, Kamath, Steinke 2020, arXiv 2004.00030). With K an integer
of at least sqrt(2 ln 2) * sigma,

    1. draw a bucket j >= 0 with probability proportional to 2^(-j^2),
    2. draw r uniform in {0..K-1} and a sign; the candidate is x = +-(j K + r),
    3. refuse -0, and accept x with probability 2^(j^2) exp(-x^2 / (2 sigma^2)), which is at most 1.

All the choices are made on whole numbers, except that step 3 first looks at a float64 estimate. That decides only
where the estimate is far (2^-40) from the coin; the rest, one candidate in 2^39, is decided by arbitrary precision. So
no float ever shapes the distribution, and the attacks on rounded floating-point noise (Mironov 2012; Haney et al.
2021, arXiv 2112.05307) find nothing: the output is an integer.

Guarantee: given uniform bytes from `rng` and AES-256 as a pseudorandom function, the draws are independent, each
within statistical distance 2^-320 of N_Z(0, sigma^2) (buckets end at j = 17). That is far under any delta, whatever
the count and epsilon, so nothing is added to delta for it.

Timing: no table of ours and no branch depends on an accepted draw, but for the 2^-39 decided exactly. The time does
depend on sigma, on the count and on how many candidates were rejected, which tells nothing of the accepted ones. Where
numpy has no vector instructions for exp, libm's exp reads a small table of its own, visible in a shared cache.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from secagg.errors import Refused

Rng = Callable[[int], bytes]
Words = NDArray[np.uint64]
SIGMA_MIN, SIGMA_MAX = 0.5, 2.0**58
KEY_BYTES = 32

_CHUNK = 1 << 14
_MARGIN = 2.0**-40
_FAST_BUCKETS, _BUCKETS = 8, 18
# Bucket j < 8 gets _UNIT * 2^(49 - j^2) of the 2^64 values of a word; value 0 stands for the buckets from 8 on.
_UNIT = (2**64 - 1) // sum(2 ** (49 - j * j) for j in range(_FAST_BUCKETS))
_EDGES = tuple(2**64 - _UNIT * sum(2 ** (49 - i * i) for i in range(j + 1)) for j in range(_FAST_BUCKETS))


def discrete_gaussian(sigma: float, size: int, *, rng: Rng = secrets.token_bytes) -> NDArray[np.int64]:
    """Draw `size` independent integers from N_Z(0, sigma^2). int64, shape `(size,)`.

    `sigma` counts integer steps, and is the parameter of the distribution (its standard deviation is a little less for
    sigma < 1); on a grid of `scale` steps per unit, sigma = noise_multiplier * clip_l2 * scale. `rng` is
    asked for a fresh key in every call. Leave it alone outside test vectors: noise that can be drawn again can be
    subtracted.

    Raises:
        Refused: sigma is outside [0.5, 2^58], size is negative, or `rng` fails to give two different keys (D2, D3).

    Guarantee: that of the module, for every sigma and size.
    """
    if not SIGMA_MIN <= sigma <= SIGMA_MAX:
        raise Refused(f"sigma is {sigma}, expected a number of grid steps from {SIGMA_MIN} to 2^58")
    if size < 0:
        raise Refused(f"size is {size}, expected 0 or more draws")
    stream = Keystream(rng)
    out = np.empty(size, np.int64)
    filled = 0
    while filled < size:
        # 68 % of the candidates are accepted for large sigma, 40 % at sigma 1.
        candidates = min(_CHUNK, 2 * (size - filled) + 16)
        draws = _accepted(sigma, candidates, stream)[: size - filled]
        out[filled : filled + draws.size] = draws
        filled += draws.size
    return out


class Keystream:
    """AES-256 in counter mode under a key of its own, asked from `rng` and never kept.

    Raises:
        Refused: `rng` gives too few bytes, or the same key twice in a row: a fixed seed or a stuck generator (D2, D3).
    """

    def __init__(self, rng: Rng) -> None:
        key, other = rng(KEY_BYTES), rng(KEY_BYTES)
        for given in (key, other):
            if len(given) != KEY_BYTES:
                raise Refused(f"rng gave {len(given)} bytes, expected {KEY_BYTES}: no secure noise is available")
        if key == other:
            raise Refused("rng gave the same key twice, expected fresh randomness: noise from it could be subtracted")
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def words(self, count: int) -> Words:
        """The next `count` words, uint64, uniform."""
        return np.frombuffer(self.bytes(8 * count), "<u8").astype(np.uint64, copy=False)

    def bytes(self, count: int) -> bytes:
        """The next `count` bytes."""
        return self._encryptor.update(bytes(count))


def _accepted(sigma: float, candidates: int, stream: Keystream) -> NDArray[np.int64]:
    """The accepted ones among so many candidates: int64, shape `(m,)`."""
    width = bucket_width(sigma)
    choice, place, coin = stream.words(3 * candidates).reshape(3, candidates)

    bucket = np.zeros(candidates, np.int8)
    for edge in _EDGES[:-1]:
        bucket += choice < edge
    possible = choice >= _EDGES[-1]
    for at in np.flatnonzero(choice == 0):
        far = far_bucket(int.from_bytes(stream.bytes(40), "big"))
        bucket[at], possible[at] = (0, False) if far is None else (far, True)

    # place mod width is uniform once the last, incomplete run of `width` words is refused (Lemire 2019).
    place_width = np.uint64(width)
    magnitude = (place - (place // place_width) * place_width).astype(np.int64)
    magnitude += bucket * np.int64(width)
    possible &= place <= np.uint64(2**64 - 1 - 2**64 % width)
    # The sign is the coin's lowest bit, the other 63 are the coin.
    negative = (coin & np.uint64(1)).astype(np.bool_)
    possible &= ~(negative & (magnitude == 0))

    accept = _toss(sigma, bucket, magnitude, coin >> np.uint64(1), possible, stream)
    draws = magnitude[accept]
    sign = 1 - 2 * negative[accept].astype(np.int64)
    return draws * sign


def bucket_width(sigma: float) -> int:
    """K, the integers in a bucket: at least sqrt(2 ln 2) sigma, so that 2^(-j^2) dominates bucket j."""
    return math.ceil(Fraction(sigma) * Fraction("1.1775"))


def far_bucket(bits: int) -> int | None:
    """The bucket behind the word 0, from 320 uniform bits: j >= 8 with probability _UNIT * 2^(49 - j^2), or None."""
    for bucket in range(_FAST_BUCKETS, _BUCKETS):
        bits -= _UNIT * (1 << 369 - bucket * bucket)
        if bits < 0:
            return bucket
    return None


def _toss(
    sigma: float,
    bucket: NDArray[np.int8],
    magnitude: NDArray[np.int64],
    coin: Words,
    possible: NDArray[np.bool_],
    stream: Keystream,
) -> NDArray[np.bool_]:
    """Step 3 for all candidates at once; `coin` holds 63 bits each. bool, shape `(n,)`."""
    # Unless the chance is under 2^-50, every term is under 300 and the exponent errs by less than 2^-42.
    exponent = magnitude / sigma
    exponent *= exponent
    exponent *= -0.5
    level = bucket.astype(np.float64)
    level *= level
    level *= math.log(2)
    exponent += level
    distance = np.exp(exponent, out=exponent)
    distance -= coin * 2.0**-63
    accept: NDArray[np.bool_] = possible & (distance > 0)
    for at in np.flatnonzero(possible & (np.abs(distance) <= _MARGIN)):
        accept[at] = toss_exactly(sigma, int(bucket[at]), int(magnitude[at]), coin=int(coin[at]), stream=stream)
    return accept


def toss_exactly(sigma: float, bucket: int, magnitude: int, *, coin: int, stream: Keystream) -> bool:
    """True with probability 2^(bucket^2) exp(-magnitude^2 / (2 sigma^2)), exactly.

    `coin` holds the first 63 binary digits of a uniform real, which is compared by digits; as long as the digits leave
    it open, more are drawn. Decimal's exp is correctly rounded, so that its error is known.
    """
    square, bits = Fraction(magnitude) ** 2 / (2 * Fraction(sigma) ** 2), 63
    while True:
        digits = 12 + bits // 2
        context = Context(prec=digits)
        # Not `-Decimal(...)`: that would round to the ambient context's 28 digits.
        power = context.exp(context.divide(Decimal(-square.numerator), Decimal(square.denominator)))
        chance = Fraction(power) * 2 ** (bucket * bucket)
        # |square| < 1000 was rounded at the last digit, which moves exp by less than 10^(4 - digits) of itself.
        error = chance / 10 ** (digits - 4)
        if Fraction(coin + 1, 2**bits) <= chance - error:
            return True
        if Fraction(coin, 2**bits) >= chance + error:
            return False
        coin, bits = coin << 64 | int.from_bytes(stream.bytes(8), "big"), bits + 64
