"""Adaptive clipping: the bound follows a quantile of the clients' norms, told by one more noised coordinate.

Andrew, Thakkar, McMahan, Ramaswamy 2021 (arXiv 1905.03871). Each client adds a bit, whether its update is within the
bound C, as the coordinate +beta or -beta behind its clipped update. The sum of these is released with everybody's noise
on it, says which share of the clients was within, and C <- C exp(-rate (share - quantile)), kept within limits.

The bit is part of the vector that the noise is for. With sigma_b the noise wanted on the count of clients, and z the
noise multiplier that is charged,

    1 / z_update^2 = 1 / z^2 - 1 / (2 sigma_b)^2,   beta = C z_update / (2 sigma_b),

a whole contribution has norm at most C sqrt(1 + (beta / C)^2) = C z_update / z, and noise of sigma = z_update C in
every coordinate is z times that. So the round costs what z says, bit included; the update's noise grows a little.

Guarantee: that of the layer (`dp.layer`), at noise multiplier z, for update and bit together. The bounds follow from
released sums, so they cost nothing further.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from secagg.errors import Refused
from secagg.fixedpoint import FixedPoint
from secagg.protocol import SecureSum
from secagg.vectors import Layout, Tensor

COORDINATE = "dp.within_clip"
_FLOAT32_BITS = 24


@dataclass(frozen=True)
class AdaptiveClipping:
    """How the bound moves.

    Attributes:
        noise_multiplier: z, what a round is charged.
        count_noise: sigma_b, the standard deviation of the noise on the number of clients within the bound.
        quantile: the share of clients that should be within, in (0, 1).
        learning_rate: how far the bound moves in a round, at most by a factor exp(learning_rate).
        smallest, largest: the site's limits of the bound.

    Raises:
        Refused: `count_noise` is below `noise_multiplier`, or the limits are no range.
    """

    noise_multiplier: float
    count_noise: float
    quantile: float
    learning_rate: float
    smallest: float
    largest: float

    def __post_init__(self) -> None:
        if not self.count_noise >= self.noise_multiplier:
            raise Refused(
                f"dp: clip_count_noise is {self.count_noise:g}, expected at least the noise multiplier "
                f"{self.noise_multiplier:g}: less would leave too little of the charge for the update"
            )
        if not self.smallest <= self.largest:
            raise Refused(f"dp: clip_min is {self.smallest:g}, expected at most clip_max = {self.largest:g}")

    @property
    def update_multiplier(self) -> float:
        """z_update: sigma over the bound. Larger than z, for the bit's share of the charge."""
        return 1 / math.sqrt(self.noise_multiplier**-2 - (2 * self.count_noise) ** -2)

    def beta(self, clip_l2: float, encoding: FixedPoint) -> float:
        """The bit's coordinate for the bound: a whole number of grid steps that float32 holds, rounded down."""
        steps = math.floor(clip_l2 * encoding.scale * self.update_multiplier / (2 * self.count_noise) * (1 - 2.0**-40))
        spare = max(0, steps.bit_length() - _FLOAT32_BITS)
        return (steps >> spare << spare) / encoding.scale

    def check(self, clip_l2: float, layout: Layout) -> None:
        """Raise `Refused` for a bound outside the site's limits, or a layout without the bit's coordinate."""
        if not self.smallest <= clip_l2 <= self.largest:
            raise Refused(
                f"dp: the clip bound of this round is {clip_l2:g}, this site allows {self.smallest:g} to "
                f"{self.largest:g} (value_bound of the encoding)"
            )
        last = layout.tensors[-1]
        if (last.name, last.shape) != (COORDINATE, (1,)):
            raise Refused(f"dp: adaptive clipping needs a last tensor {COORDINATE!r} of shape (1,), got {last.name!r}")

    def next_clip(self, clip_l2: float, released: SecureSum) -> float:
        """The next round's bound, from a released sum whose last coordinate is that of the bits."""
        beta = self.beta(clip_l2, released.encoding)
        mean = int(released.totals[-1]) / released.encoding.scale / released.weight
        share = (1 + mean / beta) / 2
        moved = clip_l2 * math.exp(-self.learning_rate * (min(max(share, 0.0), 1.0) - self.quantile))
        return min(max(moved, self.smallest), self.largest)


def extended(layout: Layout) -> Layout:
    """The layout with the bit's coordinate behind the model's."""
    return Layout(tensors=(*layout.tensors, Tensor(name=COORDINATE, shape=(1,))), held=layout.held)
