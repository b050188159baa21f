"""What enters the BatchNorm layers: the statistics of a batch, which some protocols share."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def statistics_of(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel: `(n, channels, ...)` to two of shape `(channels,)`."""
    over = [axis for axis in range(features.dim()) if axis != 1]
    variance, mean = torch.var_mean(features, dim=over, correction=0)
    return mean, variance


def batch_statistics(model: nn.Module, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """`statistics_of` what enters each BatchNorm layer, in the order of `model.modules()`."""
    found: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found[layer] = statistics_of(inputs[0])

    probe = copy.deepcopy(model)
    layers = [m for m in probe.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.register_forward_pre_hook(keep)
    with torch.no_grad():
        probe(images)
    return [found[layer] for layer in layers]
