"""Models, by name. Two classes get one logit, more get one each; no model keeps running statistics.

Importing this module is light: torch is loaded when a model is built.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fl_runtime.section import Section
from secagg.errors import Refused

if TYPE_CHECKING:
    from torch import nn

Width = Annotated[int, Field(ge=1, le=65536)]


class Logistic(Section):
    """Logistic (two classes) or softmax regression on the flattened features."""

    name: Literal["logistic"] = "logistic"

    def layers(self, shape: tuple[int, ...], outputs: int) -> list[nn.Module]:
        from torch import nn

        return [nn.Flatten(), nn.Linear(math.prod(shape), outputs)]


class Mlp(Section):
    """Fully connected layers of widths `hidden` with ReLU between, on the flattened features."""

    name: Literal["mlp"] = "mlp"
    hidden: Annotated[tuple[Width, ...], Field(strict=False, min_length=1, max_length=16)] = (64,)

    def layers(self, shape: tuple[int, ...], outputs: int) -> list[nn.Module]:
        from torch import nn

        widths = (math.prod(shape), *self.hidden)
        stack: list[nn.Module] = [nn.Flatten()]
        for before, after in itertools.pairwise(widths):
            stack += [nn.Linear(before, after), nn.ReLU()]
        return [*stack, nn.Linear(widths[-1], outputs)]


class SmallCnn(Section):
    """Two blocks of 3x3 convolution, normalisation, ReLU and 2x2 pooling, then one linear layer.

    For images `(channels, height, width)` of at least 4x4; `channels` are the widths of the two blocks.
    `norm` is GroupNorm, or BatchNorm over the batch at hand, without running statistics: in either case, statistics of
    a client's data never become part of its model.
    """

    name: Literal["small_cnn"] = "small_cnn"
    channels: Annotated[tuple[Width, Width], Field(strict=False)] = (8, 16)
    norm: Literal["group", "batch"] = "group"

    def layers(self, shape: tuple[int, ...], outputs: int) -> list[nn.Module]:
        from torch import nn

        if len(shape) != 3 or min(shape[1:]) < 4:
            raise Refused(f"model.name: 'small_cnn' takes images of at least 4x4, not features of shape {shape}")
        stack: list[nn.Module] = []
        widths = (shape[0], *self.channels)
        for before, after in itertools.pairwise(widths):
            grouped = self.norm == "group"
            norm = (
                nn.GroupNorm(math.gcd(4, after), after) if grouped else nn.BatchNorm2d(after, track_running_stats=False)
            )
            stack += [nn.Conv2d(before, after, 3, padding=1, bias=False), norm, nn.ReLU(), nn.MaxPool2d(2)]
        pooled = self.channels[-1] * (shape[1] // 4) * (shape[2] // 4)
        return [*stack, nn.Flatten(), nn.Linear(pooled, outputs)]


AnyModel = Annotated[Logistic | Mlp | SmallCnn, Field(discriminator="name")]


def build(model: Logistic | Mlp | SmallCnn, *, shape: tuple[int, ...], classes: int, seed: int) -> nn.Sequential:
    """The model for samples of `shape` and so many `classes`, initialised as torch does from `seed`.

    The output has shape `(n, 1)` for two classes (the logit of class 1), else `(n, classes)`. The global random
    state is left as it was. Raises `Refused` where the model does not fit the data.
    """
    import torch

    if classes < 2:
        raise Refused(f"model: expected at least 2 classes, the data set has {classes}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return torch.nn.Sequential(*model.layers(shape, 1 if classes == 2 else classes))


def count_parameters(model: Logistic | Mlp | SmallCnn, *, shape: tuple[int, ...], classes: int) -> int:
    """How many parameters `build` would make, counted without allocating them."""
    import torch

    with torch.device("meta"):
        layers = model.layers(shape, 1 if classes == 2 else classes)
    return sum(parameter.numel() for layer in layers for parameter in layer.parameters())
