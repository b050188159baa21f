"""Clipping and noise, as the client sees them: the update alone, in floating point, drawn by seed.

For evaluations only. What protects anybody is `dp`, whose noise is discrete, comes from a secure source and is
accounted for; this is the same amount of it, quick to repeat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from secagg.leakage.attack import Observation
from secagg.leakage.defences.defence import Defence
from secagg.leakage.parameters import Positive, Weight, check


@dataclass(frozen=True)
class ClipAndNoise(Defence):
    """The update cut to the length `clip_l2`, with Gaussian noise of `noise_multiplier * clip_l2` on each coordinate.

    Guarantee: none by itself. Which epsilon a noise multiplier stands for is said by `dp`'s accountants, over all
    rounds. The adversary is told the noise's standard deviation.
    """

    clip_l2: Positive
    noise_multiplier: Weight

    name: ClassVar[str] = "clip-and-noise"

    def __post_init__(self) -> None:
        check(self)

    def share(self, seen: Observation, images: Tensor, chance: torch.Generator) -> Observation:
        """See `Defence`."""
        std = self.clip_l2 * self.noise_multiplier

        def gaussian(shape: torch.Size) -> Tensor:
            return std * torch.randn(shape, generator=chance, dtype=torch.float64)

        return _noisy(seen, self.clip_l2, 2, gaussian, std)


@dataclass(frozen=True)
class LocalDP(Defence):
    """The update cut to the l1 length `clip_l1`, with Laplace noise of scale `2 clip_l1 / epsilon` on each coordinate.

    Guarantee, for real numbers and a secure source: one such update is `epsilon`-locally differentially private (any
    two updates are neighbours). The adversary is told the noise's standard deviation.
    """

    clip_l1: Positive
    epsilon: Positive

    name: ClassVar[str] = "local-dp"

    def __post_init__(self) -> None:
        check(self)

    def share(self, seen: Observation, images: Tensor, chance: torch.Generator) -> Observation:
        """See `Defence`."""
        scale = 2 * self.clip_l1 / self.epsilon

        def laplace(shape: torch.Size) -> Tensor:
            first, second = torch.rand((2, *shape), generator=chance, dtype=torch.float64)
            # The difference of two exponential draws; 1 - u is never 0.
            noise: Tensor = scale * ((1 - second).log() - (1 - first).log())
            return noise

        return _noisy(seen, self.clip_l1, 1, laplace, math.sqrt(2) * scale)


def _noisy(seen: Observation, clip: float, order: int, draw: Callable[[torch.Size], Tensor], std: float) -> Observation:
    length = float(torch.linalg.vector_norm(torch.cat([g.double().flatten() for g in seen.gradient]), ord=order))
    factor = min(1.0, clip / length) if length else 1.0
    noisy: Sequence[Tensor] = [(g.double() * factor + draw(g.shape)).to(g.dtype) for g in seen.gradient]
    return replace(seen, gradient=noisy, noise_std=math.hypot(seen.noise_std * factor, std))
