"""The two linear layers that give data away in closed form: the one that reads the image, and the head."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from secagg.leakage.attack import Observation, Unsupported, generator


@dataclass(frozen=True, eq=False)
class LinearLayer:
    """One linear layer of an observation: its module in the attacked model, and what was seen of it.

    Attributes:
        index: of its weight in `model.parameters()`.
        weight, bias: the gradient, shapes `(out, in)` and `(out,)`; `bias` is None for a layer without.
        weight_seen, bias_seen: booleans of the same shapes.
    """

    name: str
    module: nn.Linear
    index: int
    weight: Tensor
    bias: Tensor | None
    weight_seen: Tensor
    bias_seen: Tensor | None


def first_layer(seen: Observation, attack: str) -> tuple[LinearLayer, Tensor, Tensor]:
    """The linear layer whose input is the image, flattened, and that input as `offset + scale * image`.

    `offset` and `scale` have shape `(in,)`: a fixed normalisation before the layer is allowed.

    Raises:
        Unsupported: the first layer with parameters is not linear, or more than an affine map of each pixel stands
            before it.
    """
    name, inputs = _run(seen.model, seen.shape, first=True, what=attack)
    offset, white, noise, pixels = inputs[0], inputs[1], inputs[2], _probes(seen.model, seen.shape)[2].flatten()
    scale = white - offset
    straight = offset.shape == pixels.shape and torch.allclose(noise, offset + scale * pixels, rtol=1e-4, atol=1e-4)
    if not straight or not (scale != 0).all():
        raise Unsupported(
            f"{attack}: layer {name!r} does not read the image itself, expected only flattening or a fixed "
            f"normalisation before it"
        )
    return _seen_of(seen, name), offset, scale


def head(seen: Observation, attack: str) -> LinearLayer:
    """The linear layer that gives the outputs.

    Raises:
        Unsupported: the model does not end in a linear layer.
    """
    return _seen_of(seen, head_name(seen.model, seen.shape, what=attack))


def head_name(model: nn.Module, shape: tuple[int, ...], *, what: str) -> str:
    """The name of the linear layer that gives the model's outputs; `what` asks for it, and is named in errors.

    Raises:
        Unsupported: the model does not end in a linear layer.
    """
    return _run(model, shape, first=False, what=what)[0]


def _run(model: nn.Module, shape: tuple[int, ...], *, first: bool, what: str) -> tuple[str, Tensor]:
    """The name of the first or the last layer that ran on the probes, and its input, shape `(3, in)`."""
    model = copy.deepcopy(model).eval()
    ran: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ran.append((layer, inputs[0], output))

    for module in model.modules():
        if next(module.parameters(recurse=False), None) is not None:
            module.register_forward_hook(note)
    with torch.no_grad():
        outputs = model(_probes(model, shape))
    layer, inputs, output = ran[0 if first else -1]
    at = next(name for name, module in model.named_modules() if module is layer)
    if not isinstance(layer, nn.Linear):
        place = "first" if first else "last"
        raise Unsupported(f"{what}: the {place} layer {at!r} is {type(layer).__name__}, expected Linear")
    if not first and not torch.equal(output, outputs):
        raise Unsupported(f"{what}: something follows layer {at!r}, expected its outputs to be the model's")
    if inputs.dim() != 2:
        raise Unsupported(f"{what}: layer {at!r} reads inputs of shape {list(inputs.shape)}, expected (n, features)")
    return at, inputs


def _probes(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Black, white (0 and 1, whatever the range) and noise."""
    noise = torch.rand(shape, generator=generator(0, "probe"), dtype=torch.float64)
    return torch.stack([torch.zeros_like(noise), torch.ones_like(noise), noise]).to(next(model.parameters()).dtype)


def _seen_of(seen: Observation, name: str) -> LinearLayer:
    prefix = f"{name}." if name else ""
    places = {parameter: index for index, (parameter, _) in enumerate(seen.model.named_parameters())}
    module = cast(nn.Linear, seen.model.get_submodule(name))

    def of(parameter: str) -> tuple[Tensor, Tensor]:
        index = places[prefix + parameter]
        gradient = seen.gradient[index].double()
        mask = torch.ones_like(gradient, dtype=torch.bool) if seen.visible is None else seen.visible[index]
        return gradient, mask

    weight, weight_seen = of("weight")
    bias, bias_seen = of("bias") if module.bias is not None else (None, None)
    return LinearLayer(name, module, places[prefix + "weight"], weight, bias, weight_seen, bias_seen)
