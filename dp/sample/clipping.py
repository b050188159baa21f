"""Per-sample clipping: what every mode has in common (Abadi et al. 2016, algorithm 1, arXiv 1607.00133)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from secagg.errors import InvalidUpdate, Refused

Criterion = Callable[[Any, Any], Tensor]


class Clipper(Protocol):
    """A way to the sum of clipped per-sample gradients of one model."""

    name: str

    def clipped_sum(self, criterion: Criterion, inputs: Any, targets: Any) -> Tensor:
        """Leave the sum of clipped per-sample gradients in every `.grad`. Returns the losses, `(n,)`, detached.

        Raises:
            Refused: the criterion does not return one loss a sample.
            InvalidUpdate: a gradient is NaN or infinite.
        """

    def close(self) -> None:
        """Take out of the model whatever was put into it."""


def clipping_weights(norms: Tensor, clip_l2: float) -> Tensor:
    """min(1, clip_l2 / norm), float `(n,)`, from gradient norms `(n,)`.

    Raises:
        InvalidUpdate: a norm is NaN or infinite, which no clip bounds.
    """
    if not bool(torch.isfinite(norms).all()):
        raise InvalidUpdate("a sample's gradient is not finite; training diverged, try a lower training.lr")
    return (clip_l2 / (norms + 1e-6)).clamp(max=1.0)


def require_per_sample(losses: Tensor, inputs: Any) -> Tensor:
    """`losses` as they are. Raises `Refused` unless they are one a sample, shape `(n,)`.

    A mean over the batch, a batch Dice say, has no per-sample gradients: clipping it runs, and bounds nothing.
    """
    count = len(inputs)
    if losses.shape != (count,):
        raise Refused(
            f"dp-sgd: the criterion returned shape {tuple(losses.shape)}, expected one loss a sample, ({count},): "
            "use reduction='none', or dp.sample.losses"
        )
    return losses


def zeroed_gradients(parameters: Iterable[nn.Parameter]) -> dict[nn.Parameter, Tensor]:
    """The `.grad` of each, made where there is none, and zero. Kept in place: it may be a view."""
    gradients = {}
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients[parameter] = parameter.grad.zero_()
    return gradients
