"""Opacus' optimizer with noise that can be defended: discrete, and from a cryptographic stream.

Opacus' own noise is `torch.normal`: floats from a Mersenne twister. Whoever knows or finds its seed subtracts the
noise, and the gaps between floats tell what it was added to (Haney et al. 2021, arXiv 2112.05307, on Opacus among
others). Opacus' secure mode needs torchcsprng, which has no build for the torch of today.

Here the clipped sum is rounded to a grid of 2^40 steps per `clip_l2`, and gets integer noise of `secagg.gaussian`. All
that is released is computed from that integer: no float noise was ever added to a float.

What the noise covers. Rounding moves the difference of two sums of d coordinates by at most sqrt(d) steps, which is
added to the sensitivity; so is 2^-12 of it for float32's rounding of norms and sums, which differs with the company
that a sample has in its batch (Casacuberta et al. 2022, arXiv 2207.10635). That last allowance is for expected batches
up to 1,024 and grows with larger ones; it is generous, and not proven for every kernel that torch may choose.

What the accountant may assume. The continuous Gaussian, rounded to the grid, is the Gaussian mechanism and something
done after it. The discrete one of sigma steps is within 0.021 / sigma^2 of it in statistical distance (midpoint rule:
the relative error is (x^2 / sigma^2 - 1) / (24 sigma^2)): 2^-81 a draw at noise multiplier 1/4. A run of 2^32 draws at
epsilon 8 adds less than 2^-37 to delta for it, and nothing is added here.

Guarantee: given uniform bytes from `rng`, each step is a Gaussian mechanism of the stated noise multiplier.
"""

from __future__ import annotations

import math
import secrets

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from torch.optim import Optimizer

from secagg.errors import InvalidUpdate, Refused
from secagg.gaussian import Rng, discrete_gaussian

STEPS_PER_CLIP = 2.0**40
FLOAT32_ALLOWANCE = 2.0**-12
NOISE_MULTIPLIER_MIN, NOISE_MULTIPLIER_MAX = 2.0**-6, 2.0**17
_LARGEST_BATCH = 2**21
_ALLOWED_BATCH = 1024


class DiscreteNoiseOptimizer(DPOptimizerFastGradientClipping):  # type: ignore[misc]
    """Takes sums of clipped gradients from each `.grad`, adds noise, divides by the batch's *expected* size, steps.

    Args:
        optimizer: the plain one, over the model's parameters.
        noise_multiplier: sigma over `max_grad_norm`, from 2^-6 to 2^17.
        max_grad_norm: the L2 norm to which every sample was clipped.
        expected_batch_size: mean number of samples in a batch; public.
        rng: where the key of every step's noise comes from. Leave it alone outside test vectors.

    Raises:
        Refused: no noise, or a multiplier out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: float,
        rng: Rng = secrets.token_bytes,
    ) -> None:
        require_noise(noise_multiplier)
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
        )
        self._rng = rng

    def accumulate(self) -> None:
        """The sums are whole when they arrive: a batch is one pass."""
        for parameter in self.params:
            parameter.summed_grad = parameter.grad

    def add_noise(self) -> None:
        """Overwrite each `.grad` with its noisy sum, in place.

        Raises:
            InvalidUpdate: a sum is NaN or infinite.
            Refused: no secure noise is to be had from `rng` (D2, D3).
        """
        flat = torch.cat([parameter.summed_grad.reshape(-1) for parameter in self.params])
        noisy = torch.from_numpy(
            noisy_sum(
                flat.numpy(),
                self.max_grad_norm,
                noise_multiplier=self.noise_multiplier,
                batch_size=self.expected_batch_size,
                rng=self._rng,
            )
        )
        start = 0
        for parameter in self.params:
            parameter.grad.copy_(noisy[start : (start := start + parameter.numel())].view_as(parameter))


def noisy_sum(
    total: NDArray[np.float32],
    clip_l2: float,
    *,
    noise_multiplier: float,
    batch_size: float = 1.0,
    rng: Rng = secrets.token_bytes,
) -> NDArray[np.float32]:
    """`total`, float32 `(d,)`, a sum of vectors of norm at most `clip_l2`, plus Gaussian noise on the grid.

    `batch_size` is the expected number of vectors, which float32's allowance is for.

    Raises:
        InvalidUpdate: a coordinate is NaN or infinite, or beyond what 2^21 samples can reach.
        Refused: the noise multiplier is out of range, or `rng` gives no fresh keys.

    Guarantee: the Gaussian mechanism of sensitivity `clip_l2` (add or remove one vector); see the module.
    """
    require_noise(noise_multiplier)
    step = clip_l2 / STEPS_PER_CLIP
    steps = total.astype(np.float64) / step
    if not bool(np.all(np.abs(steps) < _LARGEST_BATCH * STEPS_PER_CLIP)):
        raise InvalidUpdate("the sum of clipped gradients is not finite; training diverged, try a lower training.lr")
    allowance = FLOAT32_ALLOWANCE * max(1.0, batch_size / _ALLOWED_BATCH)
    sensitivity = STEPS_PER_CLIP * (1 + allowance) + math.sqrt(total.size)
    noise = discrete_gaussian(noise_multiplier * sensitivity, total.size, rng=rng)
    noise += np.rint(steps).astype(np.int64)
    return (noise * step).astype(np.float32)


def require_noise(noise_multiplier: float) -> None:
    """Raise `Refused` unless there is noise, and no more than the grid holds."""
    if noise_multiplier == 0:
        raise Refused("noise_multiplier is 0: without noise there is no differential privacy")
    if not NOISE_MULTIPLIER_MIN <= noise_multiplier <= NOISE_MULTIPLIER_MAX:
        raise Refused(f"noise_multiplier is {noise_multiplier:g}, expected a number from 2^-6 to 2^17")
