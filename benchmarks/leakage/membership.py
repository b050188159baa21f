"""Membership inference, three attacks: `python -m benchmarks.leakage.membership` (about two minutes on one core).

Two populations: the embedded digits, too few for a rate of 0.1 %, and a drawn one of 20,000 labelled points (ten
Gaussian classes, one label in five at random), half of them members, with 10,000 non-members. The target and 16 shadow
models are the same small network, each trained on a random half. Each line: TPR with its exact binomial interval.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_runtime.data import digits
from secagg.leakage.attack import generator
from secagg.leakage.membership.attacks import lira, loss_threshold, rmia
from secagg.leakage.membership.roc import Roc

SHADOWS = 16


@dataclass(frozen=True)
class Population:
    """Features `(n, d)` and labels, the first `audited` of them in question, the others the attacker's own."""

    name: str
    features: Tensor
    labels: Tensor
    audited: int
    epochs: int


def drawn(count: int = 20_000, extra: int = 2_000, classes: int = 10, dimensions: int = 40) -> Population:
    chance = generator(0, "population")
    centres = torch.randn(classes, dimensions, generator=chance) * 0.6
    labels = torch.randint(classes, (count + extra,), generator=chance)
    features = centres[labels] + torch.randn(count + extra, dimensions, generator=chance)
    wrong = torch.rand(count + extra, generator=chance) < 0.2
    labels[wrong] = torch.randint(classes, (int(wrong.sum()),), generator=chance)
    return Population("drawn points", features, labels, count, epochs=12)


def digits_population() -> Population:
    data = digits.load()
    features = torch.from_numpy(np.concatenate([data.train.features, data.test.features])).flatten(1)
    labels = torch.from_numpy(np.concatenate([data.train.labels, data.test.labels]))
    order = torch.randperm(len(labels), generator=generator(0, "digits"))
    return Population("digits", features[order], labels[order], 1400, epochs=60)


def losses_of_model(population: Population, members: Tensor, seed: int) -> NDArray[np.float64]:
    """Train on the members and return the loss of every example."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(population.features.shape[1], 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(population.epochs):
        for batch in members[torch.randperm(len(members))].split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(population.features[batch]), population.labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        outputs = model(population.features)
        return nn.functional.cross_entropy(outputs, population.labels, reduction="none").double().numpy()


def audit(population: Population) -> None:
    started = time.perf_counter()
    chance = generator(1, population.name)
    halves = [torch.randperm(population.audited, generator=chance)[: population.audited // 2]]
    for _ in range(SHADOWS // 2):  # shadows in pairs, so that every example is in half of them
        halves += torch.randperm(population.audited, generator=chance).split(population.audited // 2)
    inside = np.zeros((len(halves), population.audited), bool)
    for row, half in zip(inside, halves, strict=True):
        row[half.numpy()] = True
    every = np.stack([losses_of_model(population, half, seed) for seed, half in enumerate(halves)])
    audited, others = every[:, : population.audited], every[:, population.audited :]
    member = inside[0]
    scores = {
        "loss threshold": loss_threshold(audited[0]),
        "LiRA": lira(audited[0], audited[1:], inside[1:]),
        "RMIA": rmia(audited[0], audited[1:], others[0], others[1:], inside=inside[1:]),
    }
    print(
        f"\n{population.name}: {member.sum()} members, {(~member).sum()} non-members, {SHADOWS} shadow models, "
        f"{time.perf_counter() - started:.0f} s\n"
    )
    for name, values in scores.items():
        roc = Roc.of(values, member)
        print(f"{name:15} AUC {roc.auc():.3f}")
        for fpr in (0.01, 0.001):
            rate = roc.at(fpr)
            interval = "" if rate.interval is None else f" [{rate.interval.low:.4f}, {rate.interval.high:.4f}]"
            print(f"{'':15} {rate}{interval}")


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    audit(digits_population())
    audit(drawn())


if __name__ == "__main__":
    main()
