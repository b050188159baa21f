"""What the head alone gives away: its inputs, and an image that has them.

One example's features come out of the head's gradient exactly, as the image does from a first linear layer; the
image is then sought among those with the same features. Shows that sharing one layer only is not private, as attacks on
partial sharing do (Maui 2025).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secagg.errors import Refused
from secagg.leakage.attack import Observation, Progress, Reconstruction, generator
from secagg.leakage.attacks.descent import Descent, best_of, descend, random_images, reporter
from secagg.leakage.attacks.inverting import one_step
from secagg.leakage.attacks.labels import IDLG, ILRG
from secagg.leakage.layers import LinearLayer, head
from secagg.leakage.parameters import Count, ShareOrAll, Weight, check


@dataclass(frozen=True)
class HeadOnly:
    """Read the features off the last layer's gradient, and descend to images with those features.

    One example is read exactly. Of a batch, the features of each class are read, blurred by the other classes; two
    examples of one class come back as their mean. The rest of the network must be known: it is the server's.

    Attributes:
        iterations, restarts, step, tv, tolerance: as for `InvertingGradients`; the distance is the squared one between
            features, relative to their length.
    """

    iterations: Count = 2000
    restarts: Count = 1
    step: ShareOrAll = 0.025
    tv: Weight = 1e-3
    tolerance: Weight = 0.01

    name: ClassVar[str] = "head-only"
    needs: ClassVar[tuple[str, ...]] = ("the gradient of the last layer, one step", "the rest of the network")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, seen: Observation, /, *, seed: int, progress: Progress | None = None) -> Reconstruction:
        """Reconstruct; see `Attack`. Unknown labels are inferred from the same layer.

        Raises:
            Unsupported: the model does not end in a linear layer with biases.
            Refused: several local steps, or a last layer that is hidden; no images, as for `InvertingGradients`.
        """
        one_step(seen, self.name)
        layer = head(seen, self.name)
        labels = seen.labels
        if labels is None:
            labels = (IDLG() if seen.examples == 1 else ILRG())(seen, seed=seed)
        features = read_features(layer, labels)
        return best_of(
            self.restarts,
            lambda number: self._restart(seen, layer, features, seed, number, progress),
            labels=labels,
            tolerance=self.tolerance,
        )

    def _restart(
        self,
        seen: Observation,
        layer: LinearLayer,
        features: Tensor,
        seed: int,
        number: int,
        progress: Progress | None,
    ) -> Descent:
        chance = generator(seed, self.name, number)
        model = copy.deepcopy(seen.model).requires_grad_(False)
        reached: list[Tensor] = []
        model.get_submodule(layer.name).register_forward_pre_hook(lambda _, inputs: reached.append(inputs[0]))
        images = random_images(seen.examples, seen, chance, seen.dtype)
        wanted = features.to(seen.dtype)
        energy = wanted.square().sum().clamp(min=1e-30)

        def slope() -> tuple[float, Sequence[Tensor]]:
            reached.clear()
            model(images)
            distance = (reached[0] - wanted).square().sum() / energy
            return float(distance.detach()), torch.autograd.grad(distance, [images])

        return descend(
            slope,
            images,
            [],
            iterations=self.iterations,
            step=self.step,
            tv=self.tv,
            value_range=seen.value_range,
            report=reporter(progress, number, self.restarts, self.iterations),
        )


def read_features(layer: LinearLayer, labels: Tensor) -> Tensor:
    """The inputs of a last layer behind its gradient: one row for each label, float64, shape `(n, features)`.

    Raises:
        Refused: no biases, or nothing of the layer is seen.
    """
    if layer.bias is None or layer.bias_seen is None:
        raise Refused(f"head-only: layer {layer.name!r} has no biases, expected some")
    pairs = layer.weight_seen & layer.bias_seen[:, None]
    weight, bias = torch.where(pairs, layer.weight, 0), torch.where(layer.bias_seen, layer.bias, 0)
    if not bias.any():
        raise Refused(f"head-only: the gradient of layer {layer.name!r} is hidden or zero")
    if len(labels) == 1 or len(bias) == 1:
        energy = pairs.double().T @ bias.square()
        return ((weight.T @ bias) / energy.clamp(min=1e-300)).expand(len(labels), -1)
    rows = weight[labels] / torch.where(bias[labels] == 0, 1e-30, bias[labels])[:, None]
    return rows
