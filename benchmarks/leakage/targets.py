"""What each attack must reach without a defence, on real images: the controls of every evaluation.

    python -m benchmarks.leakage.targets [--only NAME]... [--seeds S] [--first F] [--iterations N] [--json FILE]

Chest X-rays from SECAGG_DATA, digits for the labels. Beside each figure stands what the mean public image would score,
which takes no attack at all. `--iterations` is for `inverting` and `local`; the targets are set for the defaults.
Seeds run from F; `local` takes eight minutes for each on one idle core. Ends with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.leakage.images import chests, digits
from benchmarks.leakage.models import Normalised, ResNet18, convnet, lenet
from secagg.leakage import (
    Interval,
    LocalTraining,
    Reconstruction,
    label_accuracy,
    match,
    mean_interval,
    observe,
    psnr,
    share_interval,
)
from secagg.leakage.attacks import (
    IDLG,
    ILRG,
    RLU,
    AnalyticLinear,
    DeepLeakage,
    HeadOnly,
    InvertingGradients,
    LocalStepsSimulation,
    Spear,
)

SIDE = 32
EXACT_DB = 60.0


@dataclass(frozen=True)
class Row:
    """One target: the figure, its interval over seeds, what was asked, and the mean image's figure."""

    name: str
    figure: str
    found: Interval
    target: float | None
    prior: float | None
    seconds: float

    @property
    def met(self) -> bool:
        """Whether the figure reaches the target."""
        return self.target is None or self.found.value >= self.target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(TARGETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    seeds = range(options.first, options.first + options.seeds)
    for name in options.only or TARGETS:
        for row in TARGETS[name](seeds, options.iterations):
            rows.append(row)
            target = "" if row.target is None else f" target {row.target:g} {'met' if row.met else 'MISSED'}"
            prior = "" if row.prior is None else f" mean image {row.prior:.1f}"
            found = f"{row.found.value:.2f} [{row.found.low:.2f}, {row.found.high:.2f}]"
            print(f"{row.name:16} {row.figure:44} {found}{target}{prior} ({row.seconds:.0f} s)", flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) | {"met": row.met} for row in rows], indent=1) + "\n")
    sys.exit(0 if all(row.met for row in rows) else 1)


def labels(seeds: range, _: int | None) -> list[Row]:
    """Existence and counts on an untrained network, ten classes, by method and batch."""
    rows = []
    cases = [("idlg", IDLG(), 1, None), ("ilrg", ILRG(), 24, None), ("ilrg", ILRG(), 64, None)]
    cases += [("rlu", RLU(), 64, None), ("rlu", RLU(), 64, LocalTraining(epochs=2, batch_size=16, lr=0.05))]
    for name, attack, batch, local in cases:
        began = time.perf_counter()
        scores: dict[str, list[float]] = {"existence": [], "counts": []}
        for seed in range(10 * seeds.start, 10 * seeds.stop):
            images, truth = digits(batch, side=SIDE, seed=seed)
            seen = observe(_small_cnn(seed), images, truth, local=local, know_labels=False, seed=seed)
            found = attack(seen, seed=seed)
            scores["existence"].append(label_accuracy(found, truth, measure="existence"))
            scores["counts"].append(label_accuracy(found, truth, measure="counts"))
        seconds = time.perf_counter() - began
        what = f"{name}, batch {batch}" + (", 8 local steps" if local else "")
        for measure, target in (("existence", 0.99), ("counts", 0.96)):
            found_share = mean_interval(scores[measure], range(len(scores[measure])))
            rows.append(Row("labels", f"{what}: {measure}", found_share, None if local else target, None, seconds))
    return rows


def analytic(seeds: range, _: int | None) -> list[Row]:
    """One image from a fully connected network."""

    def attack(seed: int) -> tuple[Reconstruction, Tensor]:
        images, truth = chests(1, seed=seed)
        return AnalyticLinear()(observe(_mlp(seed, images), images, truth)), images

    return _psnr("analytic", "MLP, batch 1: PSNR in dB", attack, seeds, 100.0)


def inverting(seeds: range, iterations: int | None) -> list[Row]:
    """One image from an untrained ConvNet of width 16."""

    def attack(seed: int) -> tuple[Reconstruction, Tensor]:
        images, truth = chests(1, seed=seed)
        torch.manual_seed(seed)
        model = _normalised(convnet(1, 2)).eval()
        return InvertingGradients(iterations=iterations or 4000)(observe(model, images, truth), seed=seed), images

    return _psnr("inverting", "ConvNet width 16, batch 1: PSNR in dB", attack, seeds, 20.0)


def deep(seeds: range, _: int | None) -> list[Row]:
    """One image from LeNet, the best of three restarts by the objective."""

    def attack(seed: int) -> tuple[Reconstruction, Tensor]:
        images, truth = chests(1, seed=seed)
        torch.manual_seed(seed)
        return DeepLeakage()(observe(lenet(1, 2), images, truth), seed=seed), images

    return _psnr("deep", "LeNet, best of 3 by objective: PSNR in dB", attack, seeds, 45.0)


def local(seeds: range, iterations: int | None) -> list[Row]:
    """Four images, four local steps of two, a network of ResNet-18's size."""

    def attack(seed: int) -> tuple[Reconstruction, Tensor]:
        images, truth = chests(4, seed=seed)
        torch.manual_seed(seed)
        model = _normalised(ResNet18(1, 2)).eval()
        seen = observe(model, images, truth, local=LocalTraining(epochs=2, batch_size=2, lr=1e-3), seed=seed)
        simulation = LocalStepsSimulation(iterations=iterations or 100, one_step=700, step=0.05, tv=1e-3)
        return simulation(seen, seed=seed), images

    return _psnr("local", "ResNet-18, 4 images, 4 steps of 2: PSNR in dB", attack, seeds, 20.8)


def spear(seeds: range, _: int | None) -> list[Row]:
    """Whole batches from a fully connected network: the share of images that are exact."""
    rows = []
    for batch, target in ((8, 1.0), (16, 1.0), (24, None)):
        began = time.perf_counter()
        exact = 0
        for seed in seeds:
            images, truth = chests(batch, seed=seed)
            guess = Spear()(observe(_mlp(seed, images, hidden=2), images, truth), seed=seed)
            exact += int((psnr(guess.images[match(guess.images, images)], images) > EXACT_DB).sum())
        found = share_interval(exact, len(seeds) * batch)
        what = f"batch {batch}: share over {EXACT_DB:g} dB"
        rows.append(Row("spear", what, found, target, None, time.perf_counter() - began))
    return rows


def head(seeds: range, _: int | None) -> list[Row]:
    """One image from the head's gradient alone: no target, what sharing one layer still leaks."""

    def attack(seed: int) -> tuple[Reconstruction, Tensor]:
        images, truth = chests(1, seed=seed)
        return HeadOnly()(observe(_small_cnn(seed, classes=2), images, truth), seed=seed), images

    return _psnr("head", "small CNN, head only, batch 1: PSNR in dB", attack, seeds, None)


TARGETS: dict[str, Callable[[range, int | None], list[Row]]] = {
    "labels": labels, "analytic": analytic, "inverting": inverting, "deep": deep, "local": local, "spear": spear,
    "head": head,
}  # fmt: skip


def _psnr(
    name: str, figure: str, attack: Callable[[int], tuple[Reconstruction, Tensor]], seeds: range, target: float | None
) -> list[Row]:
    """The mean PSNR over the images of all seeds, clustered by seed."""
    public = chests(300, seed=999)[0].mean(0, keepdim=True)
    began = time.perf_counter()
    found: list[float] = []
    prior: list[float] = []
    clusters: list[int] = []
    for seed in seeds:
        guess, images = attack(seed)
        found += psnr(guess.images[match(guess.images, images)], images).tolist()
        prior += psnr(public.expand_as(images), images).tolist()
        clusters += [seed] * len(images)
    seconds = time.perf_counter() - began
    return [Row(name, figure, mean_interval(found, clusters), target, sum(prior) / len(prior), seconds)]


def _normalised(model: nn.Module) -> nn.Module:
    public = chests(300, seed=999)[0]
    return Normalised(public.mean((0, 2, 3)), public.std((0, 2, 3)), model)


def _mlp(seed: int, images: Tensor, *, hidden: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    widths = [images[0].numel()] + hidden * [512]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return _normalised(nn.Sequential(*layers, nn.Linear(widths[-1], 2)))


def _small_cnn(seed: int, *, classes: int = 10) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * (SIDE // 2) ** 2, classes),
    )  # fmt: skip


if __name__ == "__main__":
    main()
