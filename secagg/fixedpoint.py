"""Fixed point: float updates as bounded integers whose sum cannot overflow, and back.

A client with weight w sends `w * x * 2^fraction_bits`, rounded, for every coordinate, x clipped to
[-value_bound, value_bound], and w itself as one more coordinate, so that a weighted mean is two sums. The
proof that no sum leaves the ring is a property of the encoding and is checked when it is made:

    clients * (max_weight * value_bound * 2^f + r) + noise_bound * 2^f <= 2^(modulus_bits - 1) - 1,   f = fraction_bits

where r is what rounding may add: 1/2 to the nearest, 1 when it is stochastic. `noise_bound` is room for noise that
clients add to their encodings: what the signal takes is proven, and whoever adds noise states how probable it is that
the noise of a sum goes beyond its room.

Under a `rotation` (`secagg.rotation`) vectors are rotated by its public seed before they are clipped to `value_bound`
and rounded, and sums are rotated back after the scale is undone: then `value_bound` may be far below the largest
coordinate of an update.

Guarantee: for any `clients` encodings, the integer sum equals the sum modulo 2^modulus_bits read as signed. The mean
errs by at most `r * clients / total weight * 2^-fraction_bits` plus the final rounding to float32; under stochastic
rounding its expectation errs by less than 2^-32 of that.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from secagg.errors import InvalidUpdate, Refused
from secagg.gaussian import Rng
from secagg.packing import packed_bytes
from secagg.rotation import Rotation
from secagg.rounding import Rounding, largest, rounder
from secagg.settings import read_settings

Integers = NDArray[np.signedinteger[Any]]
ModulusBits = Literal[20, 21, 22, 23, 24, 32, 64]
MIN_FRACTION_BITS = 8
# A float32 has 24 significant bits: times a weight of 29 bits, the product is exact in float64.
MAX_WEIGHT = (1 << 29) - 1
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Encoded:
    """A client's encoding: `integers` of shape `(size,)` or `(size + 1,)`, and how many values were clipped."""

    integers: Integers
    clipped: int


class FixedPoint(BaseModel):
    """An encoding whose overflow proof holds; it cannot be made otherwise. See the module's text.

    `divisor` is None when the weights are secret (one more protected coordinate holds their sum), else the
    fixed public number that the sum is divided by, and then every weight is 1. A ring of 20 to 24 bits travels packed
    and is computed in uint32, whose wrapping respects it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    clients: Annotated[int, Field(ge=1, le=1 << 24)]
    value_bound: Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
    max_weight: Annotated[int, Field(ge=1, le=MAX_WEIGHT)] = 1
    modulus_bits: ModulusBits = 32
    fraction_bits: Annotated[int, Field(ge=MIN_FRACTION_BITS, le=52)]
    divisor: Annotated[int, Field(ge=1, le=1 << 24)] | None = None
    rounding: Rounding = "nearest"
    noise_bound: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)] = 0.0
    rotation: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    def model_post_init(self, context: Any) -> None:
        needed = self.sum_bits
        if self.divisor is not None and self.max_weight != 1:
            raise Refused(f"max_weight is {self.max_weight}, expected 1 under a public divisor")
        if needed > self.modulus_bits:
            wider = next((bits for bits in get_args(ModulusBits) if bits >= needed), None)
            raise Refused(
                f"modulus_bits = {self.modulus_bits} is too small: the sum of {self.clients} clients, weights to "
                f"{self.max_weight}, values to {self.value_bound:g} at {self.fraction_bits} fraction bits "
                + (f"and noise to {self.noise_bound:g} " if self.noise_bound else "")
                + f"needs {needed} bits"
                + (f" ({wider} would do)" if wider else "")
            )

    @property
    def sum_bits(self) -> int:
        """The bits of the worst-case sum, with its sign."""
        return self.bits_needed(
            clients=self.clients,
            value_bound=self.value_bound,
            max_weight=self.max_weight,
            fraction_bits=self.fraction_bits,
            rounding=self.rounding,
            noise_bound=self.noise_bound,
        )

    @staticmethod
    def bits_needed(
        *,
        clients: int,
        value_bound: float,
        max_weight: int,
        fraction_bits: int,
        rounding: Rounding = "nearest",
        noise_bound: float = 0.0,
    ) -> int:
        """The smallest ring, in bits, in which the worst-case sum fits with its sign."""
        # Fractions, not floats: the proof must not round.
        added = Fraction(1, 2) if rounding == "nearest" else Fraction(1)
        values = clients * (max_weight * Fraction(value_bound) * 2**fraction_bits + added)
        values += Fraction(noise_bound) * 2**fraction_bits
        worst: int = max(math.ceil(values), clients * max_weight)
        return worst.bit_length() + 1

    @classmethod
    def fit(
        cls,
        *,
        clients: int,
        value_bound: float,
        max_weight: int = 1,
        modulus_bits: int = 32,
        divisor: int | None = None,
        rounding: Rounding = "nearest",
        sum_bits: int | None = None,
        noise_bound: float = 0.0,
        rotation: str | None = None,
        most_fraction_bits: int = 52,
    ) -> FixedPoint:
        """The finest encoding that these sizes allow. Raises `Refused`, with the ring that would do.

        `sum_bits` is how many bits a sum may have where that is fewer than the ring's: `Backend.sum_bits`.
        `most_fraction_bits` keeps the grid from being finer than it need be.
        """

        def needed(fraction_bits: int) -> int:
            return cls.bits_needed(
                clients=clients,
                value_bound=value_bound,
                max_weight=max_weight,
                fraction_bits=fraction_bits,
                rounding=rounding,
                noise_bound=noise_bound,
            )

        if not (value_bound > 0 and math.isfinite(value_bound)):
            raise Refused(f"value_bound is {value_bound}, expected a positive number")
        room = min(modulus_bits, sum_bits or modulus_bits)
        fits = [bits for bits in range(MIN_FRACTION_BITS, min(most_fraction_bits, 52) + 1) if needed(bits) <= room]
        if not fits and needed(MIN_FRACTION_BITS) <= modulus_bits:
            raise Refused(
                f"the sum of {clients} clients, weights to {max_weight}, values to {value_bound:g} needs "
                f"{needed(MIN_FRACTION_BITS)} bits, the backend's sums hold {room}; choose a preset with wider sums, "
                "or lower max_weight or value_bound"
            )
        fields = {
            "clients": clients,
            "value_bound": value_bound,
            "max_weight": max_weight,
            "modulus_bits": modulus_bits,
            "fraction_bits": fits[-1] if fits else MIN_FRACTION_BITS,
            "divisor": divisor,
            "rounding": rounding,
            "noise_bound": noise_bound,
            "rotation": rotation,
        }
        return read_settings(cls, fields, where="encoding")

    @property
    def weighted(self) -> bool:
        """Whether the weight travels as one more protected coordinate."""
        return self.divisor is None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The signed integer type of an encoding: int32 or int64."""
        return np.dtype(np.int64 if self.modulus_bits == 64 else np.int32)

    @property
    def ring(self) -> np.dtype[Any]:
        """The unsigned type in which sums wrap around: uint32, of which a narrower ring is the low bits, or uint64."""
        return np.dtype(np.uint64 if self.modulus_bits == 64 else np.uint32)

    @property
    def scale(self) -> float:
        """Integer steps per unit: 2^fraction_bits."""
        return float(2**self.fraction_bits)

    def length(self, size: int) -> int:
        """Coordinates on the wire for a vector of `size` parameters."""
        return size + int(self.weighted)

    def wire_bytes(self, size: int) -> int:
        """Bytes on the wire of an encoding of `size` parameters."""
        return packed_bytes(self.length(size), self.modulus_bits)

    def encode(self, vector: NDArray[np.float32], weight: int = 1, *, rng: Rng = secrets.token_bytes) -> Encoded:
        """Encode a finite float32 vector of shape `(n,)` under a weight. `rng` gives the chance of stochastic rounding.

        Raises:
            InvalidUpdate: the weight is not a whole number in [0, max_weight], or not 1 under a divisor (T17); or a
                coordinate is too large to be rotated.
            Refused: rounding is stochastic, and `rng` gives no key.
        """
        weight = self.check_weight(weight)
        if self.rotation is not None:
            vector = vector.copy()
            Rotation(bytes.fromhex(self.rotation), vector.size).apply(vector)
        out = np.empty(self.length(vector.size), self.dtype)
        factor = weight * self.scale
        limit = Fraction(self.value_bound) * weight * 2**self.fraction_bits
        scratch = np.empty(min(_CHUNK, vector.size), np.float64)
        rounding = rounder(self.rounding, rng, scratch.size)
        clipped = 0
        for start in range(0, vector.size, _CHUNK):
            values = vector[start : start + _CHUNK]
            piece = scratch[: values.size]
            piece[:] = values
            beyond = None
            if max(float(values.max()), -float(values.min())) > self.value_bound:
                beyond = np.flatnonzero(np.abs(piece) > self.value_bound)
                clipped += beyond.size
                signs = np.sign(piece[beyond]).astype(self.dtype)
                piece[beyond] = 0
            piece *= factor
            rounding.round(piece)
            place = out[start : start + values.size]
            place[:] = piece
            if beyond is not None:
                # As an exact integer: in the 64-bit ring a float64 could round the bound out of the ring.
                place[beyond] = signs * rounding.repeated(limit, beyond.size, self.dtype)
        if self.weighted:
            out[-1] = weight
        return Encoded(out, clipped)

    def check_integers(self, integers: Integers, size: int) -> None:
        """Raise `InvalidUpdate` unless `integers` can be an encoding of `size` parameters: the proof rests on it."""
        if integers.dtype != self.dtype or integers.shape != (self.length(size),):
            raise InvalidUpdate(
                f"encoding is {integers.dtype}{list(integers.shape)}, expected {self.dtype}[{self.length(size)}]"
            )
        limit = largest(Fraction(self.value_bound) * self.max_weight * 2**self.fraction_bits, self.rounding)
        limit += math.floor(Fraction(self.noise_bound) * 2**self.fraction_bits)
        values = integers[:size]
        if max(int(values.max()), -int(values.min())) > limit:
            raise InvalidUpdate(f"an encoded value is over {limit}, the largest that the encoding is proven for")
        if self.weighted and not 0 <= integers[-1] <= self.max_weight:
            raise InvalidUpdate(f"the encoded weight is {integers[-1]}, expected 0 to {self.max_weight}")

    def check_weight(self, weight: float) -> int:
        """Return the weight as an int, or raise `InvalidUpdate` with what was expected."""
        upper = 1 if self.divisor is not None else self.max_weight
        lower = 1 if self.divisor is not None else 0
        if isinstance(weight, int | float | np.integer | np.floating) and not isinstance(weight, bool):
            # Compared before converted: an int may be too large for a float.
            in_range = lower <= weight <= upper
            if in_range and float(weight).is_integer():
                return int(weight)
        raise InvalidUpdate(f"weight is {weight!r}, expected a whole number from {lower} to {upper}")

    def to_floats(self, totals: Integers) -> NDArray[np.float64]:
        """Undo the scale and the rotation of integer totals; no weight is divided out. float64."""
        values: NDArray[np.float64] = totals / self.scale
        if self.rotation is not None:
            Rotation(bytes.fromhex(self.rotation), values.size).undo(values)
        return values
