"""What a client can do to leak less. The base class does nothing: it is the undefended control of every evaluation.

A defence acts at three places, and each has its own method: on the model before the client trains, on the examples,
and on what is shared. `share` also writes down, in the observation, what an adversary who knows the defence can use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from secagg.leakage.attack import Observation


@dataclass(frozen=True)
class Defence:
    """No defence, and the interface of all of them: a frozen dataclass of settings."""

    name: ClassVar[str] = "none"

    def model(self, model: nn.Module, *, shape: tuple[int, ...], seed: int) -> nn.Module:
        """The model that clients train instead, a copy where it differs. `shape` is that of one example.

        Raises:
            Unsupported: the defence does not fit the model. The layer is named.
        """
        return model

    def examples(self, images: Tensor, value_range: tuple[float, float], chance: torch.Generator) -> Tensor:
        """What the client trains on in place of its images, of the same shape and range."""
        return images

    def variants(self, images: Tensor, value_range: tuple[float, float]) -> Iterator[Tensor]:
        """What may stand in for each image, as far as its picture differs: whoever knows the defence compares with all.

        Each variant is of all images, shape `(n, *shape)`; here the images themselves. They come one after the other,
        so that a gallery needs no room for all at once.
        """
        yield images

    def share(self, seen: Observation, images: Tensor, chance: torch.Generator) -> Observation:
        """What leaves the client in place of `seen`, with what an adversary who knows the defence can use."""
        return seen


def hide(seen: Observation, visible: list[Tensor]) -> Observation:
    """The observation with only the coordinates in `visible`, booleans in the order of the parameters."""
    kept = [torch.where(mask, tensor, 0) for mask, tensor in zip(visible, seen.gradient, strict=True)]
    before = seen.visible or [torch.ones_like(mask) for mask in visible]
    return replace(seen, gradient=kept, visible=[old & new for old, new in zip(before, visible, strict=True)])
