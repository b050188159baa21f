"""Per-sample clipping by Opacus: its hooks, functorch and ghost modes behind one interface.

They clip what book-keeping has no rule for, and stand beside it in tests and benchmarks.
"""

from __future__ import annotations

from typing import Any

import torch
from opacus.grad_sample.grad_sample_module import GradSampleHooks
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleHooksFastGradientClipping
from torch import Tensor, nn

from dp.sample.clipping import Criterion, clipping_weights, require_per_sample
from secagg.errors import Refused


class PerSampleGradients:
    """Forms every sample's gradient, `(n, parameters)` in memory, then clips and adds.

    Args:
        functorch: by vmap over every layer, instead of Opacus' formulas where it has one.
    """

    def __init__(self, model: nn.Module, clip_l2: float, *, functorch: bool) -> None:
        self.name = "functorch" if functorch else "hooks"
        self._model, self._clip_l2 = model, clip_l2
        self._hooks = _attach(lambda: GradSampleHooks(model, loss_reduction="sum", force_functorch=functorch))

    def clipped_sum(self, criterion: Criterion, inputs: Any, targets: Any) -> Tensor:
        """As `dp.sample.clipping.Clipper` says. Raises `Refused` for a parameter without per-sample gradients (D8)."""
        parameters = {name: own for name, own in self._model.named_parameters() if own.requires_grad}
        for own in parameters.values():
            own.grad_sample = None  # type: ignore[attr-defined]
            own.grad = None if own.grad is None else own.grad.zero_()
        losses = require_per_sample(criterion(self._model(inputs), targets), inputs)
        torch.autograd.backward(losses.sum())
        unclipped = [
            n
            for n, own in parameters.items()
            if own.grad is not None and own.grad_sample is None and bool(own.grad.any())
        ]  # type: ignore[attr-defined]
        if unclipped:
            raise Refused(f"dp-sgd: {', '.join(unclipped)}: used outside a layer, so that no clip covers it")
        gradients = {own: own.grad_sample for own in parameters.values() if own.grad_sample is not None}  # type: ignore[attr-defined]
        norms = torch.stack([torch.linalg.vector_norm(of.flatten(1), dim=1) for of in gradients.values()])
        weights = clipping_weights(torch.linalg.vector_norm(norms, dim=0), self._clip_l2)
        for own in parameters.values():
            if own.grad is None:
                own.grad = torch.zeros_like(own)
            if own in gradients:
                own.grad.copy_((weights @ gradients[own].flatten(1)).view_as(own))
        return losses.detach()

    def close(self) -> None:
        self._hooks.cleanup()


class Ghost:
    """Opacus' ghost clipping: norms from a first backward pass, the clipped sum from a second (arXiv 2110.05679)."""

    name = "ghost"

    def __init__(self, model: nn.Module, clip_l2: float) -> None:
        self._model, self._clip_l2 = model, clip_l2
        self._hooks = _attach(
            lambda: GradSampleHooksFastGradientClipping(model, loss_reduction="sum", max_grad_norm=clip_l2)
        )

    def clipped_sum(self, criterion: Criterion, inputs: Any, targets: Any) -> Tensor:
        """As `dp.sample.clipping.Clipper` says. Raises `Refused` for a parameter without a norm (D8)."""
        parameters = {name: own for name, own in self._model.named_parameters() if own.requires_grad}
        for own in parameters.values():
            own._norm_sample = None  # type: ignore[attr-defined]
        losses = require_per_sample(criterion(self._model(inputs), targets), inputs)
        torch.autograd.backward(losses.sum(), retain_graph=True)
        unclipped = [n for n, own in parameters.items() if own._norm_sample is None]  # type: ignore[attr-defined]
        if unclipped:
            raise Refused(f"dp-sgd: {', '.join(unclipped)}: used outside a layer, so that no clip covers it")
        weights = clipping_weights(self._hooks.get_norm_sample(), self._clip_l2)
        for own in parameters.values():
            own.grad = torch.zeros_like(own) if own.grad is None else own.grad.zero_()
        self._hooks.disable_hooks()
        torch.autograd.backward((weights * losses).sum())
        self._hooks.enable_hooks()
        return losses.detach()

    def close(self) -> None:
        self._hooks.cleanup()


def _attach(make: Any) -> Any:
    try:
        return make()
    except NotImplementedError as error:
        raise Refused(f"dp-sgd: Opacus cannot clip this model: {str(error).splitlines()[0]}") from None
