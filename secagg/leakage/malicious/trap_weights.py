"""Trap weights: a fully connected first layer most of whose neurons answer to one input of a batch, or to none.

Boenisch et al. 2021, "When the Curious Abandon Honesty" (arXiv 2112.02918). Half of the weights of each row are
negative, at random places, and the positive ones have the same magnitudes scaled down a little: for inputs that are
not negative a neuron is then seldom above zero. Where it is for one input alone, the row of the weight gradient over
that of the bias gradient is this input.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from secagg.leakage.attack import Unsupported


def set_traps(layer: nn.Module, *, scale: float = 0.95, spread: float = 0.5, generator: Generator) -> None:
    """Overwrite the weights of a linear layer, in place, by traps; its biases become zero.

    Args:
        layer: a linear layer with a bias, that sees the inputs themselves and has a ReLU behind it.
        scale: how much smaller the positive weights are; the closer to 1, the more neurons answer.
        spread: the standard deviation of the magnitudes.

    Raises:
        Unsupported: another kind of layer.
    """
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        raise Unsupported(f"trap weights: {layer.__class__.__name__} given, expected a Linear layer with a bias")
    rows, columns = layer.weight.shape
    half = columns // 2
    magnitudes = (torch.randn(rows, half, generator=generator) * spread).abs()
    signed = torch.cat([-magnitudes, scale * magnitudes, torch.zeros(rows, columns - 2 * half)], dim=1)
    order = torch.rand(rows, columns, generator=generator).argsort(1)
    with torch.no_grad():
        layer.weight.copy_(signed.gather(1, order))
        layer.bias.zero_()


def recover_trapped(weight: Tensor, bias: Tensor, *, floor: float = 1e-6) -> Tensor:
    """The inputs, or mixtures, that the rows of a weight gradient hold: shape `(k, columns)`.

    `weight` has shape `(rows, columns)` and `bias` `(rows,)`; a row is taken as silent where its bias gradient is below
    `floor` of the largest.
    """
    loud = bias.abs() > floor * bias.abs().max()
    return weight[loud] / bias[loud, None]
