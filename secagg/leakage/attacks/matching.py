"""Gradient matching: how well candidate images explain what was seen, and which way to change them.

The engine under every optimising attack. For the gradient g(x) of candidates x and the distance d to what was seen,
the slope of d(g(x)) is J(x)^T d'(g), one product with the Jacobian of g: only g is differentiated twice, never d.
What the adversary knows of a defence enters here: hidden coordinates count for nothing, and layers from a variational
bottleneck on are left out (Balunović et al. 2022, arXiv 2111.04706). Noise that is known changes no weight: it is equal
on every coordinate, and equal weights are then the likeliest fit. Less weight for parameters in which noise prevails
was measured to lose images: the first layer, which tells most of them, is the one that it silences.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from secagg.errors import Refused
from secagg.leakage.attack import Observation
from secagg.leakage.attacks.randomness import learn_randomness
from secagg.leakage.statistics import statistics_of
from secagg.leakage.stochastic import VariationalBottleneck

Distance = Literal["cosine", "euclidean"]


class Matching:
    """Distance of the gradients of candidates to the gradient that was seen.

    `cosine` is 1 - cos over all parameters together (Geiping et al. 2020, arXiv 2003.14053), `euclidean` the squared
    distance relative to the squared length of what was seen (Zhu et al. 2019, arXiv 1906.08935): both are 0 for a
    perfect match and 1 for candidates without a gradient.

    `randomness` holds what the model draws for itself in one step (dropout masks, sampled noise), to be optimised
    beside the images. `statistics_weight` adds the distance of the candidates' batch statistics to the known ones, if
    the observation has them.

    Raises:
        Refused: nothing was seen: a gradient of zeros, or hidden altogether.
    """

    def __init__(
        self,
        seen: Observation,
        *,
        distance: Distance,
        statistics_weight: float = 0.0,
        dtype: torch.dtype | None = None,
        randomness_seed: int = 0,
    ) -> None:
        dtype = dtype or seen.dtype
        self.model = copy.deepcopy(seen.model).to(dtype)
        self.randomness = learn_randomness(self.model, seen, dtype, randomness_seed)
        self.parameters = [parameter.requires_grad_(True) for parameter in self.model.parameters()]
        self.loss = seen.loss
        self._distance = distance
        gradient = [tensor.detach().to(dtype) for tensor in seen.gradient]
        self._weights = _weights(seen, gradient)
        self._target = self._weighted(gradient)
        self._energy = float(sum(t.square().sum() for t in self._target))
        if not self._energy > 0:
            raise Refused("gradient: every coordinate that can be seen is zero, there is nothing to match")
        self._statistics_weight = statistics_weight if seen.statistics else 0.0
        self._mismatch: list[Tensor] = []
        if self._statistics_weight:
            self._watch_statistics(seen, dtype)

    def gradient(self, images: Tensor, targets: Tensor) -> Sequence[Tensor]:
        """The gradient of the mean loss at the model as it was sent, differentiable in images and targets."""
        loss = self.loss(self.model(images), targets)
        return torch.autograd.grad(loss, self.parameters, create_graph=True)

    def slope(
        self, variables: Sequence[Tensor], gradient: Callable[[], Sequence[Tensor]]
    ) -> tuple[float, Sequence[Tensor]]:
        """The distance of `gradient()`, and how it grows with each of the variables that went into it."""
        self._mismatch.clear()
        computed = gradient()
        distance, direction = self._direction(computed)
        reached = [(g, d) for g, d in zip(computed, direction, strict=True) if g.requires_grad]
        for mismatch in self._mismatch:
            distance += self._statistics_weight * float(mismatch.detach())
            reached.append((mismatch, mismatch.new_tensor(self._statistics_weight)))
        slopes = torch.autograd.grad(
            [g for g, _ in reached],
            variables,
            grad_outputs=[d for _, d in reached],
            allow_unused=True,
            materialize_grads=True,
        )
        return distance, slopes

    @torch.no_grad()
    def _direction(self, gradient: Sequence[Tensor]) -> tuple[float, list[Tensor]]:
        """The distance and its derivative by each coordinate of `gradient`."""
        mine = self._weighted([g.detach() for g in gradient])
        if self._distance == "euclidean":
            residual = [m - t for m, t in zip(mine, self._target, strict=True)]
            value = float(sum(r.square().sum() for r in residual)) / self._energy
            return value, self._weighted([r * (2 / self._energy) for r in residual])
        inner = float(sum(torch.dot(m.flatten(), t.flatten()) for m, t in zip(mine, self._target, strict=True)))
        energy = float(sum(torch.dot(m.flatten(), m.flatten()) for m in mine))
        if energy == 0:
            return 1.0, [torch.zeros_like(m) for m in mine]
        scale = 1 / (energy * self._energy) ** 0.5
        pull = [m * (inner * scale / energy) - t * scale for m, t in zip(mine, self._target, strict=True)]
        return 1 - inner * scale, self._weighted(pull)

    def _weighted(self, tensors: list[Tensor]) -> list[Tensor]:
        if self._weights is None:
            return tensors
        return [tensor * weight for tensor, weight in zip(tensors, self._weights, strict=True)]

    def _watch_statistics(self, seen: Observation, dtype: torch.dtype) -> None:
        """Note, in every pass, how far the batch at each BatchNorm layer is from the known mean and variance."""
        layers = [m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        known = seen.statistics or ()
        if len(known) != len(layers):
            raise Refused(
                f"statistics has {len(known)} entries, expected one for each of {len(layers)} BatchNorm layers"
            )

        def watch(layer: nn.Module, mean: Tensor, variance: Tensor) -> None:
            def compare(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                my_mean, my_variance = statistics_of(inputs[0])
                # In units of the layer's spread, so that no layer drowns the others.
                gap = (my_mean - mean).square() / (variance + 1e-5)
                ratio = ((my_variance - variance) / (variance + 1e-5)).square()
                self._mismatch.append(gap.mean() + ratio.mean())

            layer.register_forward_pre_hook(compare)

        for layer, (mean, variance) in zip(layers, known, strict=True):
            watch(layer, mean.to(dtype), variance.to(dtype))


def _weights(seen: Observation, gradient: list[Tensor]) -> list[Tensor] | None:
    """1 for each coordinate that says something and 0 for the others; None where all do."""
    sound = _before_bottleneck(seen.model)
    if seen.visible is None and sound == len(gradient):
        return None
    masks = seen.visible or [torch.ones_like(tensor, dtype=torch.bool) for tensor in gradient]
    weights = [mask.to(tensor.dtype) for mask, tensor in zip(masks, gradient, strict=True)]
    for weight in weights[sound:]:
        weight.zero_()
    return weights


def _before_bottleneck(model: nn.Module) -> int:
    """How many parameters come before the first variational bottleneck; all of them where there is none."""
    drowned = {id(p) for m in model.modules() if isinstance(m, VariationalBottleneck) for p in m.parameters()}
    order = [id(parameter) in drowned for parameter in model.parameters()]
    return order.index(True) if True in order else len(order)
