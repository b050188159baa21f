"""What a model drew for itself while it was trained, found together with the images.

Dropout masks: Scheliga et al. 2023, "Dropout is not all you need to prevent gradient leakage" (arXiv 2208.06163); the
noise of a variational bottleneck is treated alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secagg.leakage.attack import Observation, generator
from secagg.leakage.stochastic import HeldDropout, VariationalBottleneck


def learn_randomness(model: nn.Module, seen: Observation, dtype: torch.dtype, seed: int) -> list[Tensor]:
    """Hold every draw of `model` (changed in place) at a random one, and return the draws as variables.

    Each has the shape of the draw for all examples at once. Empty for a model that draws nothing.
    """
    if model.training:
        _replace_dropout(model)
    layers: list[HeldDropout | VariationalBottleneck] = []
    shapes: list[torch.Size] = []

    def note(layer: HeldDropout | VariationalBottleneck, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        layers.append(layer)
        if isinstance(layer, HeldDropout):
            shapes.append(output.shape)
        else:
            shapes.append(torch.Size((len(output), layer.decode.in_features)))

    hooks = [
        layer.register_forward_hook(note)
        for layer in model.modules()
        if isinstance(layer, VariationalBottleneck) or (isinstance(layer, HeldDropout) and layer.training)
    ]
    if not hooks:
        return []
    state = {name: buffer.clone() for name, buffer in model.named_buffers()}
    probe = torch.zeros((seen.examples, *seen.shape), dtype=dtype)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.func.functional_call(model, state, (probe,))
    for hook in hooks:
        hook.remove()
    chance = generator(seed, "randomness")
    for layer, shape in zip(layers, shapes, strict=True):
        draw = torch.randn(shape, generator=chance, dtype=torch.float64)
        if isinstance(layer, HeldDropout):
            # All kept to begin with: a mask of 1 is the expected one.
            draw = torch.ones_like(draw)
        layer.held = draw.to(dtype).requires_grad_()
    return [layer.held for layer in layers if layer.held is not None]


def _replace_dropout(model: nn.Module) -> None:
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.modules.dropout._DropoutNd) and child.training:
                setattr(parent, name, HeldDropout(child.p))
