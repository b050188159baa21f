"""Inverting gradients: images whose gradient points the same way, found by sign descent under total variation.

Geiping et al. 2020, "Inverting Gradients - How easy is it to break privacy in federated learning?" (arXiv 2003.14053).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from secagg.errors import Refused
from secagg.leakage.attack import Observation, Progress, Reconstruction, generator
from secagg.leakage.attacks.descent import Descent, best_of, descend, random_images, random_logits, reporter
from secagg.leakage.attacks.matching import Distance, Matching
from secagg.leakage.parameters import Count, ShareOrAll, Weight, check


@dataclass(frozen=True)
class InvertingGradients:
    """Sign descent on the distance of gradients plus `tv` times the total variation; of the restarts, the best.

    The best point of every trajectory is kept, and of the restarts the one with the least objective. Without labels in
    the observation, class probabilities are optimised beside the images; so is what the model drew for itself (dropout
    masks, a bottleneck's noise).

    Attributes:
        iterations: of each restart.
        step: of the first iterations, in units of the range's width.
        tv: weight of the total variation.
        statistics: weight of the distance of batch statistics, where the observation has them.
        tolerance: the distance under which the attack holds that it converged.
    """

    iterations: Count = 4000
    restarts: Count = 1
    step: ShareOrAll = 0.025
    tv: Weight = 3e-4
    distance: Distance = "cosine"
    statistics: Weight = 1e-3
    tolerance: Weight = 0.05

    name: ClassVar[str] = "inverting-gradients"
    needs: ClassVar[tuple[str, ...]] = ("the gradient of one step",)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, seen: Observation, /, *, seed: int, progress: Progress | None = None) -> Reconstruction:
        """Reconstruct; see `Attack`.

        Raises:
            Refused: the update is of several local steps; examples that are not images `(c, h, w)`, with a `tv` over 0.
        """
        one_step(seen, self.name)
        return best_of(
            self.restarts,
            lambda number: self._restart(seen, seed, number, progress),
            labels=seen.labels,
            tolerance=self.tolerance,
        )

    def _restart(self, seen: Observation, seed: int, number: int, progress: Progress | None) -> Descent:
        chance = generator(seed, self.name, number)
        matching = Matching(
            seen, distance=self.distance, statistics_weight=self.statistics, randomness_seed=chance.initial_seed()
        )
        images = random_images(seen.examples, seen, chance, seen.dtype)
        logits = random_logits(seen, chance, seen.dtype) if seen.labels is None else None
        extras = [*([] if logits is None else [logits]), *matching.randomness]

        def gradient() -> Sequence[Tensor]:
            return matching.gradient(images, targets(seen, logits))

        return descend(
            lambda: matching.slope([images, *extras], gradient),
            images,
            extras,
            iterations=self.iterations,
            step=self.step,
            tv=self.tv,
            value_range=seen.value_range,
            report=reporter(progress, number, self.restarts, self.iterations),
        )


def targets(seen: Observation, logits: Tensor | None) -> Tensor:
    """What the candidates' loss is taken against: the known labels, or the probabilities behind `logits`."""
    if logits is not None:
        return logits.softmax(1)
    if seen.labels is None:
        raise Refused("labels: expected known labels, or logits to find them by")
    return seen.labels


def one_step(seen: Observation, attack: str) -> None:
    """Raise `Refused` unless the update is of a single step."""
    if seen.local is not None and (steps := seen.local.steps(seen.examples)) > 1:
        raise Refused(f"{attack}: the update is of {steps} local steps, expected 1: use LocalStepsSimulation")
