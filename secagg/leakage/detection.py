"""What a client can notice of a model that was made to spy on it, before it trains on it.

`inspect` reads the weights, and with some of the client's own inputs the activations; `compare` holds a model against
the one of the round before. Both return findings, each with its layer; none means that nothing was noticed.

| finding | what it is | whose work |
|---|---|---|
| parallel rows | most rows of a layer measure the same, under different biases | imprint (Fowl et al. 2022) |
| mirrored rows | a row's positive weights are its negative ones, scaled | trap weights (Boenisch et al. 2021) |
| copying kernels | convolutions that copy one value, or are zero | kernels for each client (Zhao et al. 2023) |
| dead units | next to no unit behind a ReLU is ever above zero | model inconsistency (Pasquini et al. 2022) |
| rare units | next to all units answer to few of the inputs | traps of any making |
| replaced kernels | a layer has nothing left of what it was a round ago | any of them, brought in late |

It is a look at known attacks in their published form, and no guarantee: a server that knows these rules can add
noise to its rows, draw its magnitudes anew, or spread its work over layers. `benchmarks/leakage/detection.py` measures
how often honest models are flagged, and how often attacks are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from secagg.errors import Refused

Kind = Literal["parallel rows", "mirrored rows", "copying kernels", "dead units", "rare units", "replaced kernels"]
MIN_ROWS, MIN_COLUMNS, MIN_INPUTS = 4, 8, 32
_RELUS = (torch.relu, nn.functional.relu, Tensor.relu, torch.relu_, Tensor.relu_)


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
        dead: the share of units that no input brings above zero.
        rate: a unit is rare if a smaller share of inputs brings it above zero.
        rare: the share of rare units.
        kept: two rounds' rows are of one layer if their median cosine is above this.
    """

    cosine: float = 0.9
    parallel: float = 0.5
    mirror: float = 1e-3
    mirrored: float = 0.1
    energy: float = 0.999
    copying: float = 0.25
    dead: float = 0.95
    rate: float = 0.1
    rare: float = 0.9
    kept: float = 0.2


LIMITS = Limits()


@dataclass(frozen=True)
class Finding:
    """What was noticed: `share` is the part of the layer's rows, kernels or units that show it, 0 to 1."""

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
        Refused: the model has no linear or convolutional layer, or there are too few inputs.
    """
    findings = [finding for name, layer in _layers(model) for finding in _weights(name, layer, limits)]
    if inputs is not None:
        findings += _units(model, inputs, limits)
    return tuple(findings)


def compare(before: nn.Module, after: nn.Module, *, limits: Limits = LIMITS) -> tuple[Finding, ...]:
    """Which layers of `after` have nothing left of `before`, the model of an earlier round.

    Raises:
        Refused: the models differ in their layers; the layer is named.
    """
    earlier = dict(_layers(before))
    findings = []
    for name, layer in _layers(after):
        if name not in earlier or earlier[name].weight.shape != layer.weight.shape:
            raise Refused(f"detection: layer {name!r} is not the one of the round before")
        cosines = nn.functional.cosine_similarity(_rows(earlier[name]), _rows(layer), dim=1)
        if cosines.median() < limits.kept:
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
    return layer.weight.detach().flatten(1).float()


def _weights(name: str, layer: _Layer, limits: Limits) -> Iterator[Finding]:
    rows = _rows(layer)
    if rows.shape[0] < MIN_ROWS or rows.shape[1] < MIN_COLUMNS:
        return
    if (share := _parallel(rows, limits)) > limits.parallel:
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


class _Relus(TorchFunctionMode):
    """Notes, for each ReLU that a forward pass goes through, how often each unit is above zero."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _RELUS and args[0].ndim >= 2:
            active = (args[0] > 0).flatten(2).float().mean(2) if args[0].ndim > 2 else (args[0] > 0).float()
            self.rates.append(active.mean(0))
        return func(*args, **(kwargs or {}))


def _units(model: nn.Module, inputs: Tensor, limits: Limits) -> Iterator[Finding]:
    if len(inputs) < MIN_INPUTS:
        raise Refused(f"detection: {len(inputs)} inputs, expected {MIN_INPUTS} at least")
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), _Relus() as relus:
            model(inputs)
    finally:
        model.train(training)
    for place, rates in enumerate(relus.rates):
        if len(rates) < MIN_ROWS:
            continue
        if (share := float((rates == 0).float().mean())) > limits.dead:
            yield Finding(f"ReLU {place + 1}", "dead units", share)
        elif (share := float((rates < limits.rate).float().mean())) > limits.rare:
            yield Finding(f"ReLU {place + 1}", "rare units", share)
