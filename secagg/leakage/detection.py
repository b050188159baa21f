"""What a client can notice of a model that was made to spy on it, before it trains on it.

`inspect` reads the weights, and with some of the client's own inputs the activations; `compare` holds a model against
the one of the round before. Both return findings, each with its layer; none means that nothing was noticed.

| finding | what it is | whose work |
|---|---|---|
| parallel rows | most rows of a layer that is not the last measure the same | imprint (Fowl et al. 2022) |
| mirrored rows | a row's positive weights are its negative ones, scaled | trap weights (Boenisch et al. 2021) |
| copying kernels | convolutions that copy one value, or are zero | kernels for each client (Zhao et al. 2023) |
| dead units | next to no unit of a layer answers to any input | model inconsistency (Pasquini et al. 2022) |
| rare units | next to all units answer to few of the inputs | traps of any making |
| replaced kernels | a layer has nothing left of what it was a round ago | any of them, brought in late |
| not finite | weights are NaN or infinite | none; whoever computes with them computes nothing |

A unit answers to an input where its activation function has a slope, so that a gradient comes through: behind a ReLU
where it is above zero, behind a sigmoid where it is not saturated. The functions are known by name (`ACTIVATIONS`);
one that is written out, such as `x * (x > 0)`, is not looked at.

It is a look at known attacks in their published form, and no guarantee: a server that knows these rules can add
noise to its rows, draw its magnitudes anew, or spread its work over layers. `benchmarks/leakage/detection.py` measures
how often honest models are flagged, and how often attacks are.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from secagg.errors import Refused

Kind = Literal[
    "parallel rows", "mirrored rows", "copying kernels", "dead units", "rare units", "replaced kernels", "not finite"
]
MIN_ROWS, MIN_COLUMNS, MIN_INPUTS = 4, 8, 32
ACTIVATIONS = frozenset({
    "celu", "clamp", "clamp_max", "clamp_min", "clip", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish",
    "hardtanh", "leaky_relu", "log_sigmoid", "logsigmoid", "mish", "prelu", "relu", "relu6", "rrelu", "selu", "sigmoid",
    "silu", "softplus", "softshrink", "softsign", "tanh", "tanhshrink", "threshold",
})  # fmt: skip
"""Functions of torch that act on each value alone, as modules, functions or methods, in place or not."""


@dataclass(frozen=True)
class Limits:
    """From where on a layer is suspicious.

    Attributes:
        cosine: two rows are parallel above this.
        parallel: the share of rows with a parallel one.
        mirror: how much the ratio of paired magnitudes may vary, relative to itself.
        mirrored: the share of mirrored rows.
        energy: a kernel copies if its largest value has this share of its energy.
        copying: the share of copying and of zero kernels.
        slope: a unit answers to an input where its activation function's slope is above this.
        dead: the share of units that answer to no input.
        rate: a unit is rare if it answers to a smaller share of inputs.
        rare: the share of rare units.
        kept: two rounds' rows are of one layer if their median cosine is above this.
    """

    cosine: float = 0.9
    parallel: float = 0.5
    mirror: float = 1e-3
    mirrored: float = 0.1
    energy: float = 0.999
    copying: float = 0.25
    slope: float = 1e-3
    dead: float = 0.95
    rate: float = 0.1
    rare: float = 0.9
    kept: float = 0.2


LIMITS = Limits()


@dataclass(frozen=True)
class Finding:
    """What was noticed: `share` is the part of the layer's rows, kernels, units or weights that show it, 0 to 1.

    Units are those of the activation function behind the layer.
    """

    layer: str
    kind: Kind
    share: float

    def __str__(self) -> str:
        return f"{self.layer}: {self.kind}, {100 * self.share:.0f} %"


def inspect(model: nn.Module, inputs: Tensor | None = None, *, limits: Limits = LIMITS) -> tuple[Finding, ...]:
    """What is suspicious about `model`.

    Args:
        model: as it was received; it is left as it is, its mode included.
        inputs: some of the client's own, shape `(n, *shape)`, n >= 32; without them units are not looked at.

    Raises:
        Refused: the model has no linear or convolutional layer, or the inputs are too few, not finite, or of a shape
            that it does not take; both shapes are named.
    """
    if broken := tuple(_not_finite(model)):
        return broken
    layers = _layers(model)
    findings = [
        finding for name, layer in layers for finding in _weights(name, layer, limits, output=layer is layers[-1][1])
    ]
    if inputs is not None:
        findings += _units(model, inputs, limits)
    return tuple(findings)


def compare(before: nn.Module, after: nn.Module, *, limits: Limits = LIMITS) -> tuple[Finding, ...]:
    """Which layers of `after` have nothing left of `before`, the model of an earlier round.

    Raises:
        Refused: the models differ in their layers; the layer is named.
    """
    if broken := (*_not_finite(before), *_not_finite(after)):
        return broken
    earlier = dict(_layers(before))
    findings = []
    for name, layer in _layers(after):
        if name not in earlier or earlier[name].weight.shape != layer.weight.shape:
            raise Refused(f"detection: layer {name!r} is not the one of the round before")
        rows = _rows(earlier[name])
        if len(rows) < MIN_ROWS or rows.shape[1] < MIN_COLUMNS:
            continue
        there = rows.any(1)  # a row of zeros has nothing that could be replaced
        cosines = nn.functional.cosine_similarity(rows[there], _rows(layer)[there], dim=1)
        if len(cosines) and cosines.median() < limits.kept:
            findings.append(Finding(name, "replaced kernels", float((cosines < limits.kept).float().mean())))
    return tuple(findings)


class _Layer(nn.Module):
    """A layer with a weight, as far as this module needs one."""

    weight: Tensor


def _layers(model: nn.Module) -> list[tuple[str, _Layer]]:
    kinds: tuple[Any, ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    found: list[Any] = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, kinds)]
    if not found:
        raise Refused("detection: the model has no linear or convolutional layer to look at")
    return found


def _rows(layer: _Layer) -> Tensor:
    """The layer's rows, each with 1 as its largest magnitude, so that no scale hides it; zero ones stay zero."""
    rows = layer.weight.detach().flatten(1)
    return (rows / rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)).float()


def _not_finite(model: nn.Module) -> Iterator[Finding]:
    for name, module in model.named_modules():
        weights = [parameter.detach().isfinite() for parameter in module.parameters(recurse=False)]
        bad = sum(int((~finite).sum()) for finite in weights)
        if bad:
            yield Finding(name, "not finite", bad / sum(finite.numel() for finite in weights))


def _weights(name: str, layer: _Layer, limits: Limits, *, output: bool) -> Iterator[Finding]:
    rows = _rows(layer)
    if rows.shape[0] < MIN_ROWS or rows.shape[1] < MIN_COLUMNS:
        return
    # Training moves the rows of all classes that nobody has alike.
    if not output and (share := _parallel(rows, limits)) > limits.parallel:
        yield Finding(name, "parallel rows", share)
    if (share := _mirrored(rows, limits)) > limits.mirrored:
        yield Finding(name, "mirrored rows", share)
    if not isinstance(layer, nn.Linear):
        energy = rows.square()
        alone = energy.max(1).values >= limits.energy * energy.sum(1)  # a kernel of zeros, too
        if (share := float(alone.float().mean())) > limits.copying:
            yield Finding(name, "copying kernels", share)


def _parallel(rows: Tensor, limits: Limits) -> float:
    """The share of rows, zero ones apart, that have a parallel one."""
    rows = rows[rows.norm(dim=1) > 0]
    if len(rows) < MIN_ROWS:
        return 0.0
    unit = nn.functional.normalize(rows, dim=1)
    twins = 0
    for part in torch.split(unit, 1024):
        # Every row is parallel to itself.
        twins += int(((part @ unit.T > limits.cosine).sum(1) > 1).sum())
    return twins / len(rows)


def _mirrored(rows: Tensor, limits: Limits) -> float:
    """The share of rows whose positive weights are their negative ones, in another order and scaled."""
    mirrored = 0
    for row in rows:
        up, down = row[row > 0].sort().values, (-row[row < 0]).sort().values
        if len(up) == len(down) >= MIN_COLUMNS // 2:
            ratio = up / down
            mirrored += int(ratio.std() <= limits.mirror * ratio.mean())
    return mirrored / len(rows)


class _Slopes(TorchFunctionMode):
    """Notes, for each activation function that a forward pass goes through, how often each unit answers.

    `rates` has the layer that was gone through last, and of its units the shares of inputs.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits
        self._layer = "input"
        self.rates: list[tuple[str, Tensor]] = []

    def enter(self, name: str, layer: _Layer, arguments: tuple[Any, ...]) -> None:
        """A layer's hook. Raises `Refused` if it cannot take what it is given."""
        self._layer = name
        given, width = tuple(arguments[0].shape), layer.weight.shape[1] * getattr(layer, "groups", 1)
        if isinstance(layer, nn.Linear):
            fits, expected = given[-1:] == (width,), f"(..., {width})"
        else:
            fits = len(given) == layer.weight.ndim and given[1] == width
            expected = f"(n, {width}, {', '.join('*' * (layer.weight.ndim - 2))})"
        if not fits:
            raise Refused(f"layer {name!r} was given {given}, expected {expected}")

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "").strip("_") in ACTIVATIONS:
            values, *others = args or (kwargs["input"],)
            if values.ndim >= 2 and values.is_floating_point():
                further = {name: value for name, value in kwargs.items() if name not in ("input", "out")}
                self._note(values, lambda copied: func(copied, *others, **further))
        return func(*args, **kwargs)

    def _note(self, values: Tensor, function: Any) -> None:
        with torch.enable_grad():
            at = values.detach().requires_grad_()
            (slopes,) = torch.autograd.grad(function(at.clone()).sum(), at)
        answers = (slopes.abs() > self._limits.slope).float()
        self.rates.append((self._layer, (answers.flatten(2).mean(2) if answers.ndim > 2 else answers).mean(0)))


def _units(model: nn.Module, inputs: Tensor, limits: Limits) -> Iterator[Finding]:
    for layer, rates in _rates(model, inputs, limits):
        if len(rates) < MIN_ROWS:
            continue
        if (share := float((rates == 0).float().mean())) > limits.dead:
            yield Finding(layer, "dead units", share)
        elif (share := float((rates < limits.rate).float().mean())) > limits.rare:
            yield Finding(layer, "rare units", share)


def _rates(model: nn.Module, inputs: Tensor, limits: Limits) -> list[tuple[str, Tensor]]:
    if inputs.ndim < 2 or len(inputs) < MIN_INPUTS:
        raise Refused(f"detection: inputs of shape {tuple(inputs.shape)}, expected {MIN_INPUTS} inputs at least")
    if not inputs.isfinite().all():
        raise Refused("detection: an input is not finite")
    slopes = _Slopes(limits)
    hooks = [layer.register_forward_pre_hook(functools.partial(slopes.enter, name)) for name, layer in _layers(model)]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), slopes:
            model(inputs)
    except (Refused, RuntimeError, ValueError, IndexError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Refused(f"detection: inputs of shape {tuple(inputs.shape)} do not go through the model: {why}") from None
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    return slopes.rates
