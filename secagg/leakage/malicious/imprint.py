"""The imprint block: a first layer whose gradient holds whole inputs, also when it is the gradient of a sum.

Fowl et al. 2022, "Robbing the Fed" (arXiv 2110.13057). All rows of a linear layer are one and the same measurement of
the input, and the biases cut the measurement's distribution into bins of equal mass; a ReLU follows, and every row acts
on the output alike. Row i then collects the inputs above cut i, each scaled by its loss. The difference of two
neighbouring rows holds the inputs of one bin, and if that is one input, the quotient of weight and bias gradient is it.

An input that stands in a sum with n - 1 others comes out if none of these falls into its bin: with a probability of
(1 - 1/bins)^(n-1). Secure aggregation of n clients with one input each changes nothing about that.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from secagg.errors import Refused
from secagg.leakage.attack import Observation, Progress, Reconstruction, Unsupported


class ImprintBlock(nn.Module):
    """Goes in front of a model: adds a little of what its bins collect to the input, and passes that on.

    Args:
        shape: of one input, without the batch.
        cuts: the lower ends of the bins, ascending, shape `(bins,)`: see `cuts_of`.
        strength: how much is added. What matters is only that the gradient that comes back is well above the grid of
            the sum's encoding.
    """

    def __init__(self, shape: Sequence[int], cuts: Tensor, *, strength: float = 1.0) -> None:
        super().__init__()
        if cuts.ndim != 1 or len(cuts) < 2 or (cuts.diff() < 0).any():
            raise Refused(f"imprint: cuts of shape {tuple(cuts.shape)}, expected at least 2, ascending")
        self.strength = strength
        features = prod(shape)
        self.bins = nn.Linear(features, len(cuts))
        with torch.no_grad():
            self.bins.weight.fill_(1 / features)
            self.bins.bias.copy_(-cuts)

    def forward(self, inputs: Tensor) -> Tensor:
        collected = torch.relu(self.bins(inputs.flatten(1))).mean(1)
        return inputs + self.strength * collected.view(-1, *[1] * (inputs.ndim - 1))


@dataclass(frozen=True)
class Imprint:
    """The attack on an observed gradient, or sum of gradients, of a model that begins with an `ImprintBlock`."""

    name: str = "imprint"
    needs: tuple[str, ...] = ("a malicious server that chooses the model", "inputs of the same kind, for the bins")

    def __call__(self, seen: Observation, /, *, seed: int, progress: Progress | None = None) -> Reconstruction:
        """See `secagg.leakage.attack.Attack`. Inputs that share a bin come out as one mixture, the rest as grey."""
        started = time.perf_counter()
        block = next((name for name, module in seen.model.named_modules() if isinstance(module, ImprintBlock)), None)
        if block is None:
            raise Unsupported("imprint: the model has no ImprintBlock; put one in front of it")
        names = [name for name, _ in seen.model.named_parameters()]
        prefix = f"{block}." if block else ""
        weight, bias = (seen.gradient[names.index(f"{prefix}bins.{part}")] for part in ("weight", "bias"))
        low, high = seen.value_range
        found = recover_imprints(weight, bias, shape=seen.shape)[: seen.examples].clamp(low, high).float()
        images = torch.full((seen.examples, *seen.shape), (low + high) / 2)
        images[: len(found)] = found
        labels = torch.zeros(seen.examples, dtype=torch.int64) if seen.labels is None else seen.labels
        return Reconstruction(images, labels, objective=0.0, seconds=time.perf_counter() - started)


def cuts_of(public: Tensor, bins: int) -> Tensor:
    """Bins of equal mass of the mean of an input, by inputs of the same kind that the server has. Shape `(bins,)`.

    Raises:
        Refused: fewer public inputs than bins, or fewer than two bins.
    """
    if not 2 <= bins <= len(public):
        raise Refused(f"imprint: {bins} bins and {len(public)} public inputs, expected 2 to as many bins as inputs")
    return torch.quantile(public.flatten(1).mean(1), torch.arange(bins, dtype=public.dtype) / bins)


def recover_imprints(weight: Tensor, bias: Tensor, *, shape: Sequence[int], floor: float = 1e-6) -> Tensor:
    """The inputs that the gradient of `ImprintBlock.bins` holds, one for each bin that is not empty.

    Args:
        weight: the layer's weight gradient, of one client or a sum, shape `(bins, features)`.
        bias: its bias gradient, shape `(bins,)`.
        shape: of one input.
        floor: a bin counts as empty where its bias gradient is below this share of the largest.

    Returns the candidates, shape `(k, *shape)`: inputs that were alone in their bin, and mixtures of those that were
    not.
    """
    zero = torch.zeros_like(bias[:1])
    weight = weight - torch.cat([weight[1:], torch.zeros_like(weight[:1])])
    bias = bias - torch.cat([bias[1:], zero])
    filled = bias.abs() > floor * bias.abs().max()
    return (weight[filled] / bias[filled, None]).view(-1, *shape)


def expected_hit_rate(bins: int, inputs: int) -> float:
    """The share of inputs that come out of a sum of so many: (1 - 1/bins)^(inputs - 1)."""
    return float((1 - 1 / bins) ** (inputs - 1))


def hits(candidates: Tensor, inputs: Tensor, *, psnr_db: float = 30.0) -> Tensor:
    """Which inputs have a candidate of at least `psnr_db` to them: bool of shape `(n,)`.

    Args:
        candidates: shape `(k, *shape)`, in the unit of the inputs.
        inputs: shape `(n, *shape)`, in [0, 1].
    """
    if not len(candidates):
        return torch.zeros(len(inputs), dtype=torch.bool)
    differences = candidates.flatten(1)[None] - inputs.flatten(1)[:, None]
    return differences.square().mean(2).min(1).values <= 10 ** (-psnr_db / 10)
