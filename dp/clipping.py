"""Flat L2 clipping: the one promise about a client's update that its noise is calibrated to.

The discrete Gaussian protects *integers*, so the norm that counts is the norm after fixed-point rounding.
Rounding a vector of d coordinates to the nearest points of a grid of `scale` steps per unit moves it by at most
sqrt(d)/2 steps, so `clip_to_grid` clips that much lower (the triangle inequality). Stochastic rounding moves it
further, but in directions of chance: but for a probability of beta,

    ||rounded||^2 <= ||x||^2 + d/4 + sqrt(2 ln(1/beta)) (||x|| + sqrt(d)/2)    in steps

(Kairouz et al. 2021, section 4, arXiv 2102.06387). Their conditional rounding draws again where that fails. Here
beta is 2^-128, so that a client which failed would leave the round instead; `ROUNDING_MISSED` is added to delta.

Guarantee: for every finite input, `clip` returns a vector of L2 norm at most `clip_l2`, and `clip_to_grid` one
with ||rint(x * scale)|| <= clip_l2 * scale. Both hold in exact arithmetic, not up to float rounding, and where the
encoding rotates, after the rotation. Stochastically rounded, it holds but for a probability of 2^-128. Clipping
is the client's own promise: a malicious client can skip it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from secagg.errors import InvalidUpdate, Refused
from secagg.rotation import NORM_ERROR
from secagg.rounding import Rounding

ROUNDING_MISSED = 2.0**-128
_CHUNK = 1 << 16
# A float64 norm over chunks errs by less than 2^-35 and the cast to float32 by 2^-24, both relative: clipping to
# _TARGET stays under _ACCEPTED, and what is under _ACCEPTED is truly under 1. Hence clipping twice changes nothing.
_TARGET = 1 - 2.0**-22
_ACCEPTED = 1 - 2.0**-23
# Far from float32's subnormals, where its rounding is no longer relative.
_SMALLEST, _LARGEST = 2.0**-100, 2.0**100


@dataclass(frozen=True, eq=False)
class Clipped:
    """What `clip` returns.

    Attributes:
        vector: float32 `(d,)`; the input itself, not a copy, if it was short enough.
        factor: what the input was multiplied by, in [0, 1]; exactly 1 if it was left alone.
        norm: the L2 norm of the input, in the input's unit. It is private: never publish it without noise.
    """

    vector: NDArray[np.float32]
    factor: float
    norm: float


def clip(vector: NDArray[np.float32], clip_l2: float) -> Clipped:
    """Scale `vector`, float32 `(d,)`, down to L2 norm at most `clip_l2`; a shorter one is left as it is.

    Abadi et al. 2016, algorithm 1 (arXiv 1607.00133), applied to a client's whole update.

    Raises:
        Refused: `clip_l2` is not a number between 2^-100 and 2^100, or `vector` is not a flat float32 array.
        InvalidUpdate: a coordinate is NaN or infinite; its index is named.

    Guarantee: the output's exact L2 norm is at most `clip_l2`.
    """
    _check_clip(clip_l2)
    if vector.dtype != np.float32 or vector.ndim != 1:
        raise Refused(f"vector is {vector.dtype} of shape {vector.shape}, expected float32 of shape (d,)")
    norm = l2_norm(vector)
    if norm <= clip_l2 * _ACCEPTED:
        return Clipped(vector, 1.0, norm)
    factor = clip_l2 * _TARGET / norm
    out = np.empty_like(vector)
    for start in range(0, vector.size, _CHUNK):
        piece = slice(start, start + _CHUNK)
        out[piece] = vector[piece].astype(np.float64) * factor
    return Clipped(out, factor, norm)


def clip_to_grid(
    vector: NDArray[np.float32], clip_l2: float, *, scale: float, rounding: Rounding = "nearest", rotated: bool = False
) -> Clipped:
    """Clip so low that the vector, once rotated (if it is) and rounded to the grid, has L2 norm at most `clip_l2`.

    Arguments and errors are those of `clip` and `grid_bound`.

    Guarantee: the sensitivity of a sum of such integer vectors, to adding or removing one, is at most
    `clip_l2 * scale` steps in L2: always for rounding to nearest, but for a probability of 2^-128 for stochastic.
    """
    return clip(vector, grid_bound(clip_l2, size=vector.size, scale=scale, rounding=rounding, rotated=rotated))


def grid_bound(
    clip_l2: float, *, size: int, scale: float, rounding: Rounding = "nearest", rotated: bool = False
) -> float:
    """The float norm that leaves room for rotation and rounding, rounded down; see the module.

    Arguments: `clip_l2` in the vector's unit, `size` coordinates, `scale` grid steps per unit.

    Raises:
        Refused: nothing would be left; the message says which scale or clip would do.
    """
    _check_clip(clip_l2)
    if size < 1:
        raise Refused(f"size is {size}, expected at least 1 coordinate")
    if not (math.isfinite(scale) and scale > 0):
        raise Refused(f"scale is {scale}, expected a positive number of grid steps per unit")
    # Exact, and the roots rounded up: a float difference of two near numbers could keep no correct digit.
    half = _root_up(Fraction(size)) / 2
    steps = Fraction(clip_l2) * Fraction(scale)
    if rounding == "nearest":
        steps -= half
    else:
        # The larger root of norm^2 + t norm + (d/4 + t sqrt(d)/2 - steps^2) = 0.
        # A little more: chances are rounded to 2^-32, so that up to 2^30 coordinates have a bias.
        t = Fraction(math.sqrt(-2 * math.log(ROUNDING_MISSED)) + 2.0**-12)
        room = t * t / 4 + steps * steps - Fraction(size, 4) - t * half
        steps = _root_up(room) - Fraction(1, 1 << 60) - t / 2 if room > 0 else Fraction(0)
    if rotated:
        steps *= 1 - Fraction(NORM_ERROR)
    if steps / Fraction(scale) < _SMALLEST:
        raise Refused(
            f"clip_l2 = {clip_l2:g} is too small for {size} coordinates at scale {scale:g}: rounding alone may move "
            f"them by {float(half) / scale:g} (a scale above {float(half) / clip_l2:.4g} or a clip_l2 above "
            f"{float(half) / scale:.4g} would do; ten times that keeps 90 % of the clip)"
        )
    return math.nextafter(float(steps / Fraction(scale)), 0.0)


def _root_up(square: Fraction) -> Fraction:
    """The square root, rounded up by less than 2^-61."""
    return Fraction(math.isqrt(math.ceil(square * (1 << 128))) + 1, 1 << 64)


def l2_norm(vector: NDArray[np.float32]) -> float:
    """The L2 norm of a float32 vector, accumulated in float64 with a relative error below 2^-35.

    Raises:
        InvalidUpdate: a coordinate is NaN or infinite; the first one's index is named.
    """
    total = 0.0
    for start in range(0, vector.size, _CHUNK):
        piece = vector[start : start + _CHUNK].astype(np.float64)
        # Not np.dot: BLAS would start threads for every piece, at ten times the cost.
        square = float(np.einsum("i,i->", piece, piece))
        # float32 squares cannot overflow float64, so that a non-finite sum means a non-finite coordinate.
        if not math.isfinite(square):
            index = start + int(np.flatnonzero(~np.isfinite(piece))[0])
            raise InvalidUpdate(f"coordinate {index} of the update is {vector[index]}, expected a finite number")
        total += square
    return math.sqrt(total)


def _check_clip(clip_l2: float) -> None:
    if not _SMALLEST <= clip_l2 <= _LARGEST:
        raise Refused(f"clip_l2 is {clip_l2}, expected a number between 2^-100 and 2^100")
