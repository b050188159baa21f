"""Model inconsistency: all clients but one get a model with a dead layer, and the sum of its gradients is the one's.

Pasquini et al. 2022, "Eluding Secure Aggregation in Federated Learning via Model Inconsistency" (arXiv 2111.07380).
Behind a ReLU that is never above zero nothing is learned: the gradient of its layer, and of everything that only acts
through it, is exactly zero. A secure sum over such gradients and the gradient of one client with the true model is
that client's gradient, whatever hides the single terms.

It succeeds wherever the sum does not depend on the model that a client was shown. `secagg` binds the model's digest
into every round; what becomes of a server that shows two models stands in `Guarantees.two_specs`.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from secagg.leakage.attack import Unsupported


def with_dead_layer(model: nn.Sequential, layer: str) -> nn.Sequential:
    """A copy of `model` whose `layer`, a linear or convolutional one in front of a ReLU, gives nothing but zeros.

    Raises:
        Unsupported: no such layer, or another kind of layer, or no ReLU behind it; the layer is named.
    """
    names = [name for name, _ in model.named_children()]
    if layer not in names:
        raise Unsupported(f"model inconsistency: the model has no layer {layer!r} (layers: {', '.join(names)})")
    place = names.index(layer)
    found = model[place]
    if not isinstance(found, nn.Linear | nn.Conv2d) or found.bias is None:
        raise Unsupported(f"model inconsistency: layer {layer!r} is {found.__class__.__name__}, expected a linear or "
                      "convolutional one with a bias")  # fmt: skip
    if place + 1 == len(names) or not isinstance(model[place + 1], nn.ReLU):
        raise Unsupported(f"model inconsistency: no ReLU follows layer {layer!r}, so that nothing is dead behind it")
    dead = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in dead[place].named_parameters():
            parameter.fill_(-1.0 if name == "bias" else 0.0)
    return dead


def isolated(total: NDArray[np.float64], model: nn.Module, layer: str) -> NDArray[np.float64]:
    """The coordinates of `layer` in a flat vector over `model.parameters()`: there the sum is the victim's alone."""
    start, parts = 0, []
    for name, parameter in model.named_parameters():
        stop = start + parameter.numel()
        if name.startswith(f"{layer}."):
            parts.append(total[start:stop])
        start = stop
    return np.concatenate(parts)
