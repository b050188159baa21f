"""Per-sample clipping in one forward and one backward pass: "book-keeping" (Bu et al. 2023, arXiv 2210.00038).

The forward pass keeps what enters each layer, the backward pass what returns at its output; it computes no gradient of
a parameter. From the two, `dp.sample.layers` finds each sample's gradient norm, hence its clipping weight, and then the
weighted sum. The second backward pass of ghost clipping is not needed.

Guarantee: what is left in each parameter's `.grad` is made of clipped pieces only. A use of a parameter outside its
layer adds nothing there; `dp.sample.models.probe` refuses such a model, which would be trained wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from dp.sample.clipping import (
    Criterion,
    clipping_weights,
    require_per_sample,
    require_rows,
    trainable,
    without_spoilt,
    zeroed_gradients,
)
from dp.sample.layers import Piece, rule_for
from secagg.errors import Refused


@dataclass(frozen=True)
class _Call:
    """One use of a layer: what entered it (and in which version), and where its output stands in the graph."""

    name: str
    inputs: Tensor
    version: int
    output: GradientEdge


class BookKeeping:
    """Clips the gradients of `model`'s samples to L2 norm `clip_l2`. It changes nothing in the model.

    Raises:
        Refused: a trainable parameter belongs to a layer without a rule; it is named (D8).
    """

    name = "book-keeping"

    def __init__(self, model: nn.Module, clip_l2: float) -> None:
        if unknown := without_rule(model):
            raise Refused(f"dp-sgd: no rule clips {', '.join(unknown)} (mode 'hooks' or 'functorch' may)")
        self._model, self._clip_l2 = model, clip_l2
        self._own = {name: own for name, layer in model.named_modules() if (own := _own_parameters(layer))}
        self._layers = {name: layer for name, layer in model.named_modules() if name in self._own}
        self.parameters = trainable(model)
        self._rules = {name: rule for name, layer in self._layers.items() if (rule := rule_for(layer)) is not None}

    def clipped_sum(self, criterion: Criterion, inputs: Any, targets: Any) -> Tensor:
        """Leave the sum of clipped per-sample gradients in every `.grad`. Returns the losses, `(n,)`, detached."""
        with _recording(self._layers) as calls:
            losses = require_per_sample(criterion(self._model(inputs), targets), inputs)
        gradients = torch.autograd.grad(losses.sum(), [call.output for call in calls], allow_unused=True)
        pieces = list(self._pieces(calls, gradients))
        squares = {parameter: piece.squared_norms() for parameter, piece in pieces}
        require_rows(self._model, squares, len(losses))
        norms = torch.stack([losses.new_zeros(len(losses), dtype=torch.float64), *squares.values()]).sum(0).sqrt()
        if not bool((finite := norms.isfinite()).all()):
            return without_spoilt(self, criterion, inputs, targets, finite)
        weights = clipping_weights(norms, self._clip_l2, losses.dtype)
        sums = zeroed_gradients(self.parameters)
        for parameter, piece in pieces:
            sums[parameter].copy_(piece.weighted_sum(weights).view_as(parameter))
        return losses.detach()

    def close(self) -> None:
        """Nothing is left behind in the model."""

    def _pieces(
        self, calls: Sequence[_Call], gradients: Sequence[Tensor | None]
    ) -> Iterator[tuple[nn.Parameter, Piece]]:
        seen: set[int] = set()
        for call, gradient in zip(calls, gradients, strict=True):
            if gradient is None:
                continue  # The output reached no loss: its gradient is zero.
            if call.inputs._version != call.version:
                raise Refused(f"dp-sgd: what entered layer {call.name!r} was changed in place; set inplace=False")
            layer = self._layers[call.name]
            own = self._own[call.name]
            for name, piece in self._rules[call.name](layer, call.inputs, gradient).items():
                if name not in own:
                    continue
                if id(own[name]) in seen:
                    raise Refused(
                        f"dp-sgd: parameter {call.name}.{name} is used twice in a pass, and its norm would be of each "
                        "use alone (mode 'hooks' or 'functorch' may clip it)"
                    )
                seen.add(id(own[name]))
                yield own[name], piece


def without_rule(model: nn.Module) -> list[str]:
    """The trainable parameters that no rule covers, by full name."""
    return [
        f"{prefix}.{name}".lstrip(".")
        for prefix, layer in model.named_modules()
        if rule_for(layer) is None
        for name in _own_parameters(layer)
    ]


def _own_parameters(layer: nn.Module) -> dict[str, nn.Parameter]:
    return {name: own for name, own in layer.named_parameters(recurse=False) if own.requires_grad}


@contextmanager
def _recording(layers: dict[str, nn.Module]) -> Iterator[list[_Call]]:
    calls: list[_Call] = []

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor], Tensor], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> None:
            entered = (inputs[0] if inputs else named["input"]).detach()
            # The edge and not the tensor: an in-place activation after the layer would move the tensor's place.
            calls.append(_Call(name, entered, entered._version, get_gradient_edge(output)))

        return hook

    handles = [layer.register_forward_hook(keep(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
