"""FedAvg: images whose simulated local training ends in the weights that came back.

Dimitrov et al. 2022, "Data Leakage in Federated Averaging" (arXiv 2206.12395). The batches are drawn anew in every
pass and nobody knows how, so that each pass gets its own copy of the images, in an order of its own, and a prior that
does not depend on the order ties the copies together.

Where the steps are small, the update is nearly that of one step over all images: no order, no copies, and cheaper. So
the search begins there, and the simulation with what it found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from secagg.errors import Refused
from secagg.leakage.attack import LocalTraining, Observation, Progress, Reconstruction, generator
from secagg.leakage.attacks.descent import Descent, best_of, descend, random_images, random_logits, reporter
from secagg.leakage.attacks.inverting import targets
from secagg.leakage.attacks.matching import Distance, Matching
from secagg.leakage.metrics import match
from secagg.leakage.parameters import Count, ShareOrAll, Weight, check


@dataclass(frozen=True)
class LocalStepsSimulation:
    """Sign descent through the whole simulated training, plus total variation and the prior over passes.

    Needs to know the epochs, the batch size and the learning rate. A first descent takes the training for one step; of
    both, that is returned which explains the update better, each by its own account of the training: neither is true,
    as the second has to guess an order. The copies of all passes are brought into the order of the first and averaged.

    Attributes:
        one_step: iterations of the first descent.
        invariance: weight of the prior: the squared distance between the passes' mean images.
        iterations, restarts, step, tv, distance, tolerance: as for `InvertingGradients`.
    """

    iterations: Count = 1000
    one_step: Count = 400
    restarts: Count = 1
    step: ShareOrAll = 0.025
    tv: Weight = 3e-4
    invariance: Weight = 1e-2
    distance: Distance = "cosine"
    tolerance: Weight = 0.05

    name: ClassVar[str] = "local-steps-simulation"
    needs: ClassVar[tuple[str, ...]] = ("the update", "epochs, batch size and learning rate")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, seen: Observation, /, *, seed: int, progress: Progress | None = None) -> Reconstruction:
        """Reconstruct; see `Attack`. Without known labels, class probabilities are found beside the images.

        Raises:
            Refused: the observation is of no local training; the model draws for itself (dropout) in training; no
                images, as for `InvertingGradients`.
        """
        local = seen.local
        if local is None:
            raise Refused(f"{self.name}: local is None, expected epochs, batch size and rate: use InvertingGradients")
        found = best_of(
            self.restarts,
            lambda number: self._restart(seen, local, seed, number, progress),
            labels=seen.labels,
            tolerance=self.tolerance,
        )
        return replace(found, images=_merge(found.images, seen))

    def _restart(
        self, seen: Observation, local: LocalTraining, seed: int, number: int, progress: Progress | None
    ) -> Descent:
        chance = generator(seed, self.name, number)
        matching = Matching(seen, distance=self.distance)
        if matching.randomness:
            raise Refused(f"{self.name}: the model draws for itself in every step, expected none: send it in eval mode")
        images = random_images(seen.examples, seen, chance, seen.dtype)
        logits = random_logits(seen, chance, seen.dtype) if seen.labels is None else None
        extras = [] if logits is None else [logits]
        report = reporter(progress, number, self.restarts, self.one_step + self.iterations)
        search = partial(descend, extras=extras, step=self.step, tv=self.tv, value_range=seen.value_range)

        def at_once() -> tuple[float, Sequence[Tensor]]:
            return matching.slope(
                [images, *extras], lambda: in_one_step(matching, images, targets(seen, logits), local)
            )

        def in_steps() -> tuple[float, Sequence[Tensor]]:
            distance, slopes = matching.slope(
                [copies, *extras], lambda: simulate(matching, copies, targets(seen, logits), local)
            )
            if local.epochs == 1:
                return distance, slopes
            apart, apart_slope = _invariance(copies.detach(), local.epochs)
            return distance + self.invariance * apart, [slopes[0] + self.invariance * apart_slope, *slopes[1:]]

        rough = search(at_once, images, iterations=self.one_step, report=report)
        copies = rough.images.repeat(local.epochs, *[1] * len(seen.shape)).requires_grad_()
        for extra, found in zip(extras, rough.extras, strict=True):
            extra.data.copy_(found)
        fine = search(
            in_steps, copies, iterations=self.iterations, report=lambda done, at: report(self.one_step + done, at)
        )
        return replace(
            min(rough, fine, key=lambda descent: (math.isnan(descent.objective), descent.objective)),
            history=rough.history + fine.history,
            iterations=rough.iterations + fine.iterations,
        )


def in_one_step(matching: Matching, images: Tensor, labels: Tensor, local: LocalTraining) -> Sequence[Tensor]:
    """What local training changes if all of its steps start from the model as it was sent, with a mean batch each."""
    scale = local.lr * local.steps(len(images))
    return [scale * slope for slope in matching.gradient(images, labels)]


def simulate(matching: Matching, images: Tensor, labels: Tensor, local: LocalTraining) -> Sequence[Tensor]:
    """Weights before minus weights after local training, differentiable in the images.

    Args:
        images: a copy for each pass, one after the other, in the order of its batches: shape `(epochs * n, *shape)`.
        labels: class numbers or probabilities in that order, the same for each pass, shape `(n,)` or `(n, classes)`.
    """
    names = [name for name, _ in matching.model.named_parameters()]
    sent = matching.parameters
    weights: Sequence[Tensor] = sent
    buffers = {name: buffer.clone() for name, buffer in matching.model.named_buffers()}
    for copy in _parts(images, len(labels)):
        for batch, answers in zip(_parts(copy, local.batch_size), _parts(labels, local.batch_size), strict=True):
            state = dict(zip(names, weights, strict=True)) | buffers
            outputs = torch.func.functional_call(matching.model, state, (batch,))
            step = torch.autograd.grad(matching.loss(outputs, answers), list(weights), create_graph=True)
            weights = [weight - local.lr * slope for weight, slope in zip(weights, step, strict=True)]
    return [before - after for before, after in zip(sent, weights, strict=True)]


def _invariance(images: Tensor, epochs: int) -> tuple[float, Tensor]:
    """The mean squared distance between the passes' mean images, over all pairs, and its slope."""
    copies = images.detach().reshape(epochs, -1, *images.shape[1:]).requires_grad_()
    means = copies.mean(1)
    gaps = means[:, None] - means[None]
    apart = gaps.square().mean() * epochs / (epochs - 1)
    (slope,) = torch.autograd.grad(apart, copies)
    return float(apart.detach()), slope.flatten(0, 1)


def _merge(images: Tensor, seen: Observation) -> Tensor:
    """The mean over the passes, each copy brought into the order of the first."""
    copies = _parts(images, seen.examples)
    aligned = [copies[0], *(copy[match(copy, copies[0], value_range=seen.value_range)] for copy in copies[1:])]
    low, high = seen.value_range
    return torch.stack(aligned).mean(0).clamp(low, high)


def _parts(rows: Tensor, size: int) -> list[Tensor]:
    """The rows in order, `size` at a time, the last part with what is left."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
