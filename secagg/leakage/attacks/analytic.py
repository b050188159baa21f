"""The image in closed form from the first linear layer: every row of its gradient is a multiple of the input.

Phong et al. 2017, "Privacy-Preserving Deep Learning via Additively Homomorphic Encryption" (IACR ePrint 2017/715):
for one example, dL/dW = dL/db x^T.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secagg.errors import Refused
from secagg.leakage.attack import Observation, Progress, Reconstruction
from secagg.leakage.attacks.inverting import one_step
from secagg.leakage.layers import first_layer


@dataclass(frozen=True)
class AnalyticLinear:
    """Divide the gradient of the first layer's weights by that of its biases.

    One example is exact, with hidden coordinates too, as long as one row of each column is seen. Of a batch, a neuron
    that only one example switched on gives that example; the other quotients are mixtures. Those furthest from each
    other that lie in the value range are returned, which is a guess. Without biases one example comes back up to its
    scale: the brightest pixel is taken to be at the top of the range.

    Needs a model whose first layer is linear and reads the image, flattened or normalised.
    """

    name: ClassVar[str] = "analytic-linear"
    needs: ClassVar[tuple[str, ...]] = ("the gradient of one step", "a linear first layer")

    def __call__(self, seen: Observation, /, *, seed: int = 0, progress: Progress | None = None) -> Reconstruction:
        """Reconstruct; see `Attack`. There is no chance in it. Unknown labels are returned as 0.

        Raises:
            Unsupported: the first layer is not linear or does not read the image.
            Refused: several local steps; a batch without biases; nothing of the layer is seen.
        """
        one_step(seen, self.name)
        began = time.perf_counter()
        layer, offset, scale = first_layer(seen, self.name)
        if layer.bias is not None and layer.bias_seen is not None and layer.bias[layer.bias_seen].any():
            weight = torch.where(layer.weight_seen & layer.bias_seen[:, None], layer.weight, 0)
            if seen.examples == 1:
                inputs, certain = _one(weight, layer.bias, layer.weight_seen & layer.bias_seen[:, None])
            else:
                rows = layer.bias_seen & layer.weight_seen.all(1) & (layer.bias != 0)
                inputs, certain = _apart(weight[rows] / layer.bias[rows, None], seen.examples), False
        elif seen.examples == 1:
            inputs, certain = _direction(layer.weight, offset.double(), scale.double(), seen.value_range[1]), False
        else:
            raise Refused(f"{self.name}: no gradient of the biases of {layer.name!r}, expected one for a batch")
        low, high = seen.value_range
        images = ((inputs - offset) / scale).reshape(seen.examples, *seen.shape)
        return Reconstruction(
            images.float().clamp(low, high),
            seen.labels if seen.labels is not None else torch.zeros(seen.examples, dtype=torch.int64),
            objective=0.0,
            seconds=time.perf_counter() - began,
            converged=certain,
        )


def _one(weight: Tensor, bias: Tensor, seen: Tensor) -> tuple[Tensor, bool]:
    """Least squares for x in dL/dW = dL/db x^T over the coordinates that are seen. Shape `(1, in)`."""
    energy = seen.double().T @ bias.square()
    return ((weight.T @ bias) / energy.clamp(min=1e-300))[None], bool((energy > 0).all())


def _direction(weight: Tensor, offset: Tensor, scale: Tensor, high: float) -> Tensor:
    """The one direction of all rows, with the sign and length that put the brightest pixel at `high`."""
    direction = torch.linalg.svd(weight, full_matrices=False).Vh[0]
    if direction.sum() < 0:
        direction = -direction
    brightest = direction.argmax()
    inputs: Tensor = direction * (offset + scale * high)[brightest] / direction[brightest]
    return inputs[None]


def _apart(quotients: Tensor, count: int) -> Tensor:
    """So many of the quotients, each as far as can be from those before: shape `(count, in)`."""
    if len(quotients) < count:
        raise Refused(f"gradient: {len(quotients)} neurons were switched on, expected one for each of {count} examples")
    spread = quotients.abs().amax(1)
    candidates = quotients[spread.argsort()[: max(count, len(quotients) // 2)]]
    chosen = [candidates[0]]
    distance = torch.full((len(candidates),), torch.inf, dtype=candidates.dtype)
    for _ in range(count - 1):
        distance = torch.minimum(distance, (candidates - chosen[-1]).square().sum(1))
        chosen.append(candidates[distance.argmax()])
    return torch.stack(chosen)
