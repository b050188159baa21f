"""Deep leakage from gradients, done with care: L-BFGS in float64, inside the value range, with restarts.

Zhu et al. 2019, "Deep Leakage from Gradients" (arXiv 1906.08935). For small networks of smooth activations: through a
ReLU the second derivative carries too little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize
from torch import Tensor

from secagg.leakage.attack import Observation, Progress, Reconstruction, generator
from secagg.leakage.attacks.descent import Descent, best_of, random_images, random_logits, reporter
from secagg.leakage.attacks.inverting import one_step, targets
from secagg.leakage.attacks.matching import Matching
from secagg.leakage.parameters import Count, Weight, check


@dataclass(frozen=True)
class DeepLeakage:
    """The images that minimise the relative squared distance of gradients, the best of the restarts by that distance.

    Attributes:
        iterations: at most, of each restart.
        tolerance: the relative squared distance under which the attack holds that it converged.
    """

    iterations: Count = 1000
    restarts: Count = 3
    tolerance: Weight = 1e-6

    name: ClassVar[str] = "deep-leakage"
    needs: ClassVar[tuple[str, ...]] = ("the gradient of one step", "a small network with smooth activations")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, seen: Observation, /, *, seed: int, progress: Progress | None = None) -> Reconstruction:
        """Reconstruct; see `Attack`. Without known labels, class probabilities are found beside the images.

        Raises:
            Refused: the update is of several local steps.
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
        matching = Matching(seen, distance="euclidean", dtype=torch.float64, randomness_seed=chance.initial_seed())
        images = random_images(seen.examples, seen, chance, torch.float64)
        logits = random_logits(seen, chance, torch.float64) if seen.labels is None else None
        variables = [images, *([] if logits is None else [logits]), *matching.randomness]
        report = reporter(progress, number, self.restarts, self.iterations)
        history: list[float] = []

        def gradient() -> Sequence[Tensor]:
            return matching.gradient(images, targets(seen, logits))

        def objective(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            _put(variables, point)
            value, slopes = matching.slope(variables, gradient)
            return value, _flat(slopes)

        def note(intermediate_result: Any) -> None:
            history.append(float(intermediate_result.fun))
            report(len(history), history[-1])

        low, high = seen.value_range
        free = sum(variable.numel() for variable in variables[1:])
        result = minimize(
            objective,
            _flat(variables),
            method="L-BFGS-B",
            jac=True,
            bounds=Bounds(
                np.r_[np.full(images.numel(), low), np.full(free, -np.inf)],
                np.r_[np.full(images.numel(), high), np.full(free, np.inf)],
            ),
            callback=note,
            options={"maxiter": self.iterations, "maxfun": 2 * self.iterations, "maxcor": 50, "ftol": 0, "gtol": 0},
        )
        _put(variables, result.x)
        # float32 rounds to the nearest, which can be outside a bound that it cannot hold.
        found = images.detach().float().clamp(low, high)
        extras = tuple(variable.detach() for variable in variables[1:])
        return Descent(found, extras, float(result.fun), float(result.fun), tuple(history), len(history))


def _flat(tensors: Sequence[Tensor]) -> NDArray[np.float64]:
    return np.concatenate([tensor.detach().numpy().reshape(-1) for tensor in tensors])


@torch.no_grad()
def _put(tensors: Sequence[Tensor], point: NDArray[np.float64]) -> None:
    parts = np.split(point, np.cumsum([tensor.numel() for tensor in tensors])[:-1])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(torch.from_numpy(part).reshape(tensor.shape))
