"""Per-sample clipping: what every mode has in common (Abadi et al. 2016, algorithm 1, arXiv 1607.00133)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from secagg.errors import Refused

Criterion = Callable[[Any, Any], Tensor]


class Clipper(Protocol):
    """A way to the sum of clipped per-sample gradients of one model."""

    name: str
    parameters: Sequence[nn.Parameter]

    def clipped_sum(self, criterion: Criterion, inputs: Any, targets: Any) -> Tensor:
        """Leave the sum of clipped per-sample gradients in every `.grad`. Returns the losses, `(n,)`, detached.

        A sample whose gradient is NaN or infinite adds nothing, and its loss is NaN: that it was there must not show.

        Raises:
            Refused: the criterion does not return one loss a sample, or a layer does not see one row a sample.
        """

    def close(self) -> None:
        """Take out of the model whatever was put into it."""


def clipping_weights(norms: Tensor, clip_l2: float, dtype: torch.dtype) -> Tensor:
    """min(1, clip_l2 / norm), `(n,)` of the gradients' `dtype`, from finite gradient norms `(n,)`."""
    return (clip_l2 / norms.clamp(min=clip_l2)).to(dtype)


def require_rows(model: nn.Module, rows: Mapping[nn.Parameter, Tensor], count: int) -> None:
    """Raise `Refused` unless what each parameter has of single samples, `rows`, is of `count` of them (D8).

    A layer that is given a sample's positions as rows of the batch would have each of them clipped alone.
    """
    for name, parameter in model.named_parameters():
        if parameter in rows and len(rows[parameter]) != count:
            raise Refused(
                f"dp-sgd: the layer of {name!r} saw {len(rows[parameter])} rows for {count} samples, and each would be "
                "clipped alone; give it the batch as its first dimension, and positions as another"
            )


def without_spoilt(clipper: Clipper, criterion: Criterion, inputs: Any, targets: Any, finite: Tensor) -> Tensor:
    """`clipper.clipped_sum` of the samples with `finite` gradients alone, bool `(n,)`. Losses of the others are NaN.

    An error would tell that one sample was among them, which no noise hides.
    """
    losses = torch.full((len(finite),), torch.nan)
    if bool(finite.any()):
        losses[finite] = clipper.clipped_sum(criterion, inputs[finite], targets[finite]).float()
    else:
        zeroed_gradients(clipper.parameters)
    return losses


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


def trainable(model: nn.Module) -> Sequence[nn.Parameter]:
    """The parameters that training moves."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def zeroed_gradients(parameters: Iterable[nn.Parameter]) -> dict[nn.Parameter, Tensor]:
    """The `.grad` of each, made where there is none, and zero. Kept in place: it may be a view."""
    gradients = {}
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients[parameter] = parameter.grad.zero_()
    return gradients
