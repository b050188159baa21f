"""The obvious twin of per-sample clipping: one sample at a time, by autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Named = dict[str, Tensor]


def gradients_alone(model: nn.Module, criterion: Callable[..., Tensor], inputs: Any, targets: Any) -> list[Named]:
    """Each sample's gradient, from a batch of one."""
    named = dict(model.named_parameters())
    found = []
    for at in range(len(inputs)):
        loss = criterion(model(inputs[at : at + 1]), targets[at : at + 1])[0]
        gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        found.append(
            {
                name: torch.zeros_like(named[name]) if gradient is None else gradient
                for name, gradient in zip(named, gradients, strict=True)
            }
        )
    return found


def norm(gradient: Named) -> float:
    return float(
        torch.sqrt(sum((part.double().square().sum() for part in gradient.values()), torch.zeros(()).double()))
    )


def clipped_sum(gradients: list[Named], clip_l2: float) -> Named:
    weights = [min(1.0, clip_l2 / max(norm(gradient), clip_l2)) for gradient in gradients]
    return {
        name: sum((w * g[name] for w, g in zip(weights, gradients, strict=True)), torch.zeros_like(gradients[0][name]))
        for name in gradients[0]
    }


def distance(found: Named, expected: Named) -> float:
    """Relative to the norm of what was expected."""
    return norm({name: found[name] - expected[name] for name in expected}) / max(norm(expected), 1e-30)


def sums_of(model: nn.Module) -> Named:
    """What a clipper left behind."""
    return {name: own.grad.clone() for name, own in model.named_parameters() if own.grad is not None}
