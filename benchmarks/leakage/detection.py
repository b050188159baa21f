"""A client's check: false alarms, and attacks that it sees: `python -m benchmarks.leakage.detection`.

Honest models: nine architectures, ten seeds, untrained, half-trained and trained, on the embedded digits and, where
SECAGG_DATA names the folder, on chest X-rays (28x28). Each is inspected with 64 inputs of the client's own, and held
against the models of all stages before. Attacked models: the published attacks, and versions of them that try to hide.
About three minutes on one core.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from fl_runtime.data import catalogue
from secagg.leakage.attack import generator
from secagg.leakage.detection import compare, inspect
from secagg.leakage.intervals import share_interval
from secagg.leakage.malicious.client_kernels import ClientKernels
from secagg.leakage.malicious.imprint import ImprintBlock, cuts_of
from secagg.leakage.malicious.inconsistency import with_dead_layer
from secagg.leakage.malicious.trap_weights import set_traps

SEEDS, INPUTS = 10, 64
Shape = tuple[int, int, int]


def mlp(shape: Shape, hidden: tuple[int, ...], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    widths = (shape[0] * shape[1] * shape[2], *hidden)
    stack: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(widths):
        stack += [nn.Linear(before, after), activation()]
    return nn.Sequential(*stack, nn.Linear(widths[-1], 10))


def convolutional(shape: Shape, *, norm: bool, wide: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    stack: list[nn.Module] = []
    channels = shape[0]
    for width in (wide, 2 * wide):
        stack += [nn.Conv2d(channels, width, 3, padding=1), *([nn.GroupNorm(4, width)] if norm else [])]
        stack += [activation(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*stack, nn.Flatten(), nn.Linear(channels * (shape[1] // 4) * (shape[2] // 4), 10))


ARCHITECTURES: dict[str, Callable[[Shape], nn.Sequential]] = {
    "logistic": lambda shape: mlp(shape, ()),
    "mlp 64": lambda shape: mlp(shape, (64,)),
    "mlp 256-128": lambda shape: mlp(shape, (256, 128)),
    "cnn 8-16, GroupNorm": lambda shape: convolutional(shape, norm=True, wide=8),
    "cnn 8-16": lambda shape: convolutional(shape, norm=False, wide=8),
    "cnn 32-64": lambda shape: convolutional(shape, norm=False, wide=32),
    "mlp 64, tanh": lambda shape: mlp(shape, (64,), nn.Tanh),
    "mlp 256-128, sigmoid": lambda shape: mlp(shape, (256, 128), nn.Sigmoid),
    "cnn 8-16, SiLU": lambda shape: convolutional(shape, norm=False, wide=8, activation=nn.SiLU),
}


def data_sets() -> Iterator[tuple[str, Tensor, Tensor]]:
    found = {"digits": None, "medmnist": None}
    if folder := os.environ.get("SECAGG_DATA"):
        found["medmnist"] = Path(folder) / "pneumoniamnist" / "pneumoniamnist_subset.npz"
    for name, path in found.items():
        if name == "digits" or path is not None:
            rows = catalogue.load(name, path).train
            yield name, torch.from_numpy(rows.features[:1400]), torch.from_numpy(rows.labels[:1400])


def train(model: nn.Sequential, images: Tensor, labels: Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def false_alarms() -> None:
    print(f"honest models, {SEEDS} seeds each: false alarms\n")
    alarms, models = Counter[str](), 0
    for data, images, labels in data_sets():
        shape: Shape = tuple(images.shape[1:])  # type: ignore[assignment]
        for name, build in ARCHITECTURES.items():
            flagged = Counter[str]()
            for seed in range(SEEDS):
                torch.manual_seed(seed)
                model = build(shape)
                own = images[torch.randperm(len(images))[:INPUTS]]
                earlier: list[nn.Sequential] = []
                for stage, epochs in (("untrained", 0), ("half-trained", 2), ("trained", 6)):
                    train(model, images, labels, epochs)
                    findings = [
                        *inspect(model, own),
                        *(found for before in earlier for found in compare(before, model)),
                    ]
                    earlier.append(copy.deepcopy(model))
                    models += 1
                    if findings:
                        flagged[stage] += 1
                        alarms.update({finding.kind for finding in findings})
            said = ", ".join(f"{count} {stage}" for stage, count in flagged.items()) or "none"
            print(f"{data:10} {name:22} {said}")
    total = share_interval(sum(alarms.values()), models)
    print(f"\nalarms by kind: {dict(alarms) or 'none'}")
    print(f"at most {100 * total.value:.2f} % of {models} models flagged [{total.low:.4f}, {total.high:.4f}]")


def noisy(model: nn.Sequential, layer: nn.Linear, share: float) -> nn.Sequential:
    """The same with noise on the layer's rows, of `share` of their spread."""
    with torch.no_grad():
        size = layer.weight.norm(dim=1, keepdim=True) / layer.weight.shape[1] ** 0.5
        layer.weight += share * size * torch.randn_like(layer.weight)
    return model


def imprint(images: Tensor, shape: Shape, *, bins: int = 64, noise: float = 0.0) -> nn.Sequential:
    block = ImprintBlock(shape, cuts_of(images, bins))
    return noisy(nn.Sequential(block, *mlp(shape, (64,))), block.bins, noise)


def traps(shape: Shape, seed: int, *, scale: float, noise: float = 0.0) -> nn.Sequential:
    model = mlp(shape, (500,))
    set_traps(model[1], scale=scale, generator=generator(seed, "traps"))
    return noisy(model, model[1], noise)  # type: ignore[arg-type]


def kernels(images: Tensor, shape: Shape) -> nn.Sequential:
    return nn.Sequential(ClientKernels(shape, cuts_of(images, 32), slot=1, slots=4), *mlp(shape, (64,)))


def dead(shape: Shape, activation: type[nn.Module], bias: float) -> nn.Sequential:
    model = mlp(shape, (64,), activation)
    nn.init.zeros_(model[1].weight)  # type: ignore[arg-type]
    nn.init.constant_(model[1].bias, bias)  # type: ignore[arg-type]
    return model


def detections() -> None:
    data, images, _ = next(data_sets())
    shape: Shape = tuple(images.shape[1:])  # type: ignore[assignment]
    attacks: dict[str, Callable[[int], nn.Sequential]] = {
        "imprint, 8 bins": lambda seed: imprint(images, shape, bins=8),
        "imprint, 256 bins": lambda seed: imprint(images, shape, bins=256),
        "imprint, rows 3 % noise": lambda seed: imprint(images, shape, noise=0.03),
        "imprint, rows 10 % noise": lambda seed: imprint(images, shape, noise=0.1),
        "imprint, rows 30 % noise": lambda seed: imprint(images, shape, noise=0.3),
        "traps, scale 0.95": lambda seed: traps(shape, seed, scale=0.95),
        "traps, scale 0.7": lambda seed: traps(shape, seed, scale=0.7),
        "traps, 0.95, 1 % noise": lambda seed: traps(shape, seed, scale=0.95, noise=0.01),
        "traps, 0.7, 1 % noise": lambda seed: traps(shape, seed, scale=0.7, noise=0.01),
        "kernels for each client": lambda seed: kernels(images, shape),
        "dead layer": lambda seed: with_dead_layer(mlp(shape, (64,)), "1"),
        "dead layer, SiLU": lambda seed: dead(shape, nn.SiLU, -20),
        "dead layer, tanh": lambda seed: dead(shape, nn.Tanh, 20),
        "dead layer, clamped": lambda seed: dead(shape, nn.ReLU6, 8),
    }
    print(f"\nattacked models on {data}, {SEEDS} seeds each: seen by the weights alone / with {INPUTS} own inputs\n")
    for name, build in attacks.items():
        seen = Counter[str]()
        what: set[str] = set()
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            model = build(seed)
            own = images[torch.randperm(len(images))[:INPUTS]]
            seen["weights"] += bool(inspect(model))
            findings = inspect(model, own)
            seen["inputs"] += bool(findings)
            what |= {finding.kind for finding in findings}
        print(f"{name:26} {seen['weights']:2} / {seen['inputs']:2} of {SEEDS}   {', '.join(sorted(what)) or '-'}")


def main() -> None:
    torch.set_num_threads(1)
    false_alarms()
    detections()


if __name__ == "__main__":
    main()
