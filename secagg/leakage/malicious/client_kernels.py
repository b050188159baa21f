"""Kernels of its own for each client: an imprint that keeps the clients apart inside a sum (LOKI).

Zhao et al. 2023 (arXiv 2303.12233). The server puts a convolution in front that copies the input into one slot of its
output, another one for each client, and zero into the others. The weights of the imprint layer behind it that touch a
slot then have a gradient from one client only, and the sum over clients is a collection of single gradients. In place
of the bias gradient, which is one for all, a slot has a constant channel of its own.

It needs a model for each client. Where the digest of the model is bound into the round, clients with different models
are not in one sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from secagg.errors import Refused
from secagg.leakage.malicious.imprint import recover_imprints


class ClientKernels(nn.Module):
    """The front that client `slot` of `slots` gets: copying kernels, an imprint layer, and what passes on the input.

    Args:
        shape: of one input: (channels, height, width).
        cuts: as `imprint.cuts_of` makes them.
    """

    def __init__(self, shape: Sequence[int], cuts: Tensor, *, slot: int, slots: int, strength: float = 1.0) -> None:
        super().__init__()
        if len(shape) != 3:
            raise Refused(f"client kernels: inputs of shape {tuple(shape)}, expected (channels, height, width)")
        if not 0 <= slot < slots:
            raise Refused(f"client kernels: slot {slot} of {slots}")
        channels, height, width = shape
        self.strength = strength
        self.copies = nn.Conv2d(channels, slots * (channels + 1), 3, padding=1)
        self.bins = nn.Linear(slots * (channels + 1) * height * width, len(cuts))
        measure = torch.zeros(slots, channels + 1, height, width)
        measure[:, :channels] = 1 / (channels * height * width)
        first = slot * (channels + 1)
        with torch.no_grad():
            self.copies.weight.zero_()
            self.copies.bias.zero_()  # type: ignore[union-attr]
            for channel in range(channels):
                self.copies.weight[first + channel, channel, 1, 1] = 1
            self.copies.bias[first + channels] = 1  # type: ignore[index]
            self.bins.weight.copy_(measure.flatten().expand(len(cuts), -1))
            self.bins.bias.copy_(-cuts)

    def forward(self, inputs: Tensor) -> Tensor:
        collected = torch.relu(self.bins(self.copies(inputs).flatten(1))).mean(1)
        return inputs + self.strength * collected.view(-1, 1, 1, 1)


def recover_by_client(weight: Tensor, *, shape: Sequence[int], slots: int) -> list[Tensor]:
    """For each client the inputs that the sum holds of it: tensors of shape `(k, *shape)`.

    `weight` is the gradient of `ClientKernels.bins.weight`, summed over clients: `(bins, features)`.
    """
    channels, height, width = shape
    parts = weight.view(len(weight), slots, channels + 1, height, width)
    recovered = []
    for slot in range(slots):
        constant = parts[:, slot, channels].mean((1, 2))
        recovered.append(recover_imprints(parts[:, slot, :channels].flatten(1), constant, shape=shape))
    return recovered
