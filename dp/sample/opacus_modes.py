"""Per-sample clipping by Opacus: its hooks, functorch and ghost modes behind one interface.

They clip what book-keeping has no rule for, and stand beside it in tests and benchmarks.
"""

from __future__ import annotations

from typing import Any

import torch
from opacus.grad_sample.grad_sample_module import GradSampleHooks
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleHooksFastGradientClipping
from torch import Tensor, nn

from dp.sample.clipping import (
    Criterion,
    clipping_weights,
    require_per_sample,
    require_rows,
    trainable,
    without_spoilt,
    zeroed_gradients,
)
from secagg.errors import Refused


class PerSampleGradients:
    """Forms every sample's gradient, `(n, parameters)` in memory, then clips and adds.

    Args:
        functorch: by vmap over every layer, instead of Opacus' formulas where it has one.
    """

    def __init__(self, model: nn.Module, clip_l2: float, *, functorch: bool) -> None:
        self.name = "functorch" if functorch else "hooks"
        self._model, self._clip_l2 = model, clip_l2
        self.parameters = trainable(model)
        self._hooks = _attach(lambda: GradSampleHooks(model, loss_reduction="sum", force_functorch=functorch))

    def clipped_sum(self, criterion: Criterion, inputs: Any, targets: Any) -> Tensor:
        """As `dp.sample.clipping.Clipper` says. Raises `Refused` for a parameter without per-sample gradients (D8)."""
        sums = zeroed_gradients(self.parameters)
        for parameter in sums:
            vars(parameter)["grad_sample"] = None
        losses = require_per_sample(criterion(self._model(inputs), targets), inputs)
        torch.autograd.backward(losses.sum())
        found = {parameter: vars(parameter)["grad_sample"] for parameter in sums}
        _require_all(self._model, {p for p, total in sums.items() if found[p] is None and bool(total.any())})
        gradients = {parameter: each.flatten(1) for parameter, each in found.items() if each is not None}
        each_norm = {p: torch.linalg.vector_norm(each, dim=1, dtype=torch.float64) for p, each in gradients.items()}
        require_rows(self._model, each_norm, len(losses))
        norms = torch.linalg.vector_norm(torch.stack(list(each_norm.values())), dim=0)
        if not bool((finite := norms.isfinite()).all()):
            return without_spoilt(self, criterion, inputs, targets, finite)
        weights = clipping_weights(norms, self._clip_l2, losses.dtype)
        for parameter, total in sums.items():
            if parameter in gradients:
                total.copy_((weights @ gradients[parameter]).view_as(parameter))
        return losses.detach()

    def close(self) -> None:
        self._hooks.cleanup()


class Ghost:
    """Opacus' ghost clipping: norms from a first backward pass, the clipped sum from a second (arXiv 2110.05679)."""

    name = "ghost"

    def __init__(self, model: nn.Module, clip_l2: float) -> None:
        self._model, self._clip_l2 = model, clip_l2
        self.parameters = trainable(model)
        self._hooks = _attach(
            lambda: GradSampleHooksFastGradientClipping(model, loss_reduction="sum", max_grad_norm=clip_l2)
        )

    def clipped_sum(self, criterion: Criterion, inputs: Any, targets: Any) -> Tensor:
        """As `dp.sample.clipping.Clipper` says. Raises `Refused` for a parameter without a norm (D8)."""
        for parameter in self.parameters:
            vars(parameter)["_norm_sample"] = None
        losses = require_per_sample(criterion(self._model(inputs), targets), inputs)
        torch.autograd.backward(losses.sum(), retain_graph=True)
        _require_all(self._model, {p for p in self.parameters if vars(p)["_norm_sample"] is None})
        require_rows(self._model, {p: vars(p)["_norm_sample"] for p in self.parameters}, len(losses))
        norms = self._hooks.get_norm_sample()
        if not bool((finite := norms.isfinite()).all()):
            return without_spoilt(self, criterion, inputs, targets, finite)
        weights = clipping_weights(norms, self._clip_l2, losses.dtype)
        zeroed_gradients(self.parameters)
        self._hooks.disable_hooks()
        torch.autograd.backward((weights * losses).sum())
        self._hooks.enable_hooks()
        return losses.detach()

    def close(self) -> None:
        self._hooks.cleanup()


def _require_all(model: nn.Module, unclipped: set[nn.Parameter]) -> None:
    """Refuse gradients that would reach the sum around the clip."""
    if unclipped:
        names = [name for name, parameter in model.named_parameters() if parameter in unclipped]
        raise Refused(f"dp-sgd: {', '.join(names)}: used outside a layer, so that no clip covers it")


def _attach(make: Any) -> Any:
    try:
        return make()
    except NotImplementedError as error:
        raise Refused(f"dp-sgd: Opacus cannot clip this model: {str(error).splitlines()[0]}") from None
