"""A step of DP-SGD beside a plain one, and beside Opacus' own, in one run.

    python -m benchmarks.dp.dp_sgd [--case NAME]... [--repeat R] [--seconds S] [--json FILE]

`plain` is PyTorch's step on a batch. `dp-sgd` is the whole step of the component: secret sampling, clipping by
book-keeping, discrete noise, charging. `Opacus hooks`, `functorch` and `ghost` are the steps of Opacus' `PrivacyEngine`
with its own noise, which costs less and is not secure. All take SGD steps on batches of one size, read by index.

One thread, and no page faults: freed memory is kept, as it is in a run whose evaluations take large blocks. Rounds take
turns: in each, everybody takes steps for about `--seconds`, so that a busy machine slows all alike. Milliseconds of CPU
a step, medians over rounds; ratios are the medians of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from opacus import PrivacyEngine
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dp.sample.component import SampleLevel, SampleLevelParameters
from dp.sample.losses import cross_entropy, dice_cross_entropy

OPACUS = ("hooks", "functorch", "ghost")
LR, CLIP_L2, NOISE_MULTIPLIER = 1e-3, 1.0, 1.0
Step = Callable[[], object]
PerSample = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A model, its loss, and a batch."""

    model: Callable[[], nn.Module]
    loss: PerSample
    batch: int
    shape: tuple[int, ...]
    labels: tuple[int, ...] = ()
    classes: int = 10

    def data(self) -> TensorDataset:
        inputs = torch.randn(self.batch, *self.shape)
        return TensorDataset(inputs, torch.randint(0, self.classes, (self.batch, *self.labels)))


def tutorial_cnn() -> nn.Module:
    """The CNN of Opacus' MNIST tutorial: 26,010 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, 2, padding=3),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def lenet() -> nn.Module:
    """LeNet-5 with ReLU and max pooling: 61,706 parameters, most of them in linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def small_cnn() -> nn.Module:
    """The `small_cnn` of experiments, for 28x28: two convolutions with GroupNorm."""
    from fl_runtime.models import SmallCnn, build

    return build(SmallCnn(), shape=(1, 28, 28), classes=10, seed=0)


def unet() -> nn.Module:
    """MONAI's UNet with a residual unit a level and GroupNorm: 206,197 parameters."""
    from monai.networks.nets import UNet

    return UNet(2, 1, 2, (16, 32, 64, 128), (2, 2, 2), num_res_units=1, norm=("group", {"num_groups": 2}))


CASES = {
    "LeNet, batch 64": Case(lenet, cross_entropy, 64, (1, 28, 28)),
    "LeNet, batch 256": Case(lenet, cross_entropy, 256, (1, 28, 28)),
    "tutorial CNN, batch 64": Case(tutorial_cnn, cross_entropy, 64, (1, 28, 28)),
    "tutorial CNN, batch 256": Case(tutorial_cnn, cross_entropy, 256, (1, 28, 28)),
    "small_cnn, batch 64": Case(small_cnn, cross_entropy, 64, (1, 28, 28)),
    "small_cnn, batch 256": Case(small_cnn, cross_entropy, 256, (1, 28, 28)),
    "MONAI UNet, 64x64, batch 16": Case(unet, dice_cross_entropy, 16, (1, 64, 64), (1, 64, 64), classes=2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    results = {name: measure(CASES[name], options.repeat, options.seconds) for name in options.case or CASES}
    show(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def keep_freed_memory() -> None:
    """Take 24 MiB and give them back: glibc returns no smaller block to the system from then on."""
    torch.zeros(6 << 20)


def measure(case: Case, repeat: int, seconds: float) -> dict[str, dict[str, float]]:
    """Milliseconds a step, the ratio to plain, and how many times as fast `dp-sgd` is, by who trains."""
    steps = {"plain": plain(case), "dp-sgd": ours(case), **{f"Opacus {mode}": opacus(case, mode) for mode in OPACUS}}
    counts = {name: max(2, round(seconds / cpu_of(step, 3))) for name, step in steps.items()}
    rounds = [{name: cpu_of(step, counts[name]) for name, step in steps.items()} for _ in range(repeat)]
    return {
        name: {
            "ms": 1e3 * statistics.median(each[name] for each in rounds),
            "to plain": statistics.median(each[name] / each["plain"] for each in rounds),
            "to dp-sgd": statistics.median(each[name] / each["dp-sgd"] for each in rounds),
        }
        for name in steps
    }


def cpu_of(step: Step, count: int) -> float:
    """Seconds of CPU of one step, the mean over `count`."""
    before = time.process_time()
    for _ in range(count):
        step()
    return (time.process_time() - before) / count


def plain(case: Case) -> Step:
    model, data = case.model(), case.data()
    sgd = torch.optim.SGD(model.parameters(), lr=LR)

    def step() -> None:
        inputs, targets = data[torch.randperm(case.batch)]
        sgd.zero_grad()
        torch.autograd.backward(case.loss(model(inputs), targets).mean())
        sgd.step()

    return step


def ours(case: Case) -> Step:
    """At sampling rate 1, so that every batch is whole."""
    private = SampleLevel(SampleLevelParameters(noise_multiplier=NOISE_MULTIPLIER, clip_l2=CLIP_L2))
    model = private.prepare(case.model())
    loader = private.loader(case.data(), batch_size=case.batch, steps=1_000_000)
    sgd = torch.optim.SGD(model.parameters(), lr=LR)
    steps = private.wrap(model, sgd, loader, case.loss)
    batches = iter(steps)
    return lambda: steps.step(*next(batches))


class Reduced(nn.Module):
    """A per-sample loss as Opacus takes it: with a `reduction` that it may set."""

    def __init__(self, per_sample: PerSample) -> None:
        super().__init__()
        self.per_sample, self.reduction = per_sample, "mean"

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = self.per_sample(outputs, targets)
        return losses if self.reduction == "none" else losses.mean()


def opacus(case: Case, mode: str) -> Step:
    model, data = case.model(), case.data()
    private: Any = PrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=LR),
        criterion=Reduced(case.loss),
        data_loader=DataLoader(data, batch_size=case.batch),
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=CLIP_L2,
        poisson_sampling=False,
        grad_sample_mode=mode,
    )
    module, optimizer, criterion = private[:3] if mode == "ghost" else (*private[:2], Reduced(case.loss))

    def step() -> None:
        inputs, targets = data[torch.randperm(case.batch)]
        optimizer.zero_grad()
        criterion(module(inputs), targets).backward()
        optimizer.step()

    return step


def show(results: dict[str, dict[str, dict[str, float]]]) -> None:
    table = Table("case", "plain, ms", "dp-sgd", *(f"Opacus {mode}" for mode in OPACUS), "best Opacus over dp-sgd")
    for name, found in results.items():
        ratios = [f"{found[who]['to plain']:.2f}" for who in list(found)[1:]]
        best = min(found[f"Opacus {mode}"]["to dp-sgd"] for mode in OPACUS)
        table.add_row(name, f"{found['plain']['ms']:.2f}", *ratios, f"{best:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
