"""What client-level privacy costs on `digits`, 1,000 clients: accuracy at epsilon 1, 3, 8, by who adds the noise.

    python -m benchmarks.dp.client_utility [--clients N] [--rounds R] [--repeat K] [--json FILE]

Softmax regression (650 parameters); every client has one or two of 1,500 rows and takes one full-batch step a round,
all clients take part, and the last 297 rows are the test. Clipping, rotation, rounding and noise are the layer's own
(`dp+smpc`); sums are added up here, since no protocol changes one. Distributed noise is calibrated to 90 % survivors
less 5 % colluders. Means over repeats, and their spread.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

from secagg.layered import Layered, fit_encoding
from secagg.protocol import SecureSum
from secagg.registry import Composition, build

EPSILONS = (1.0, 3.0, 8.0)
DELTA = 1e-4
CLIP_L2, LEARNING_RATE = 0.5, 4.0
TRAIN_ROWS, CLASSES = 1500, 10
Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    survivors, colluders = math.ceil(options.clients * 0.9), options.clients // 20
    placements = {
        "server": {"noise": "server", "rotation": True},
        "distributed": {"survivors": survivors, "colluders": colluders},
        "local": {"noise": "local", "rotation": True},
    }
    figures: dict[str, list[list[float]]] = {"none": [repeated(None, options)]}
    for name, parameters in placements.items():
        figures[name] = [repeated({**parameters, "target_epsilon": epsilon}, options) for epsilon in EPSILONS]
    show(figures, options)
    if options.json:
        options.json.write_text(json.dumps({"epsilons": EPSILONS, "accuracy": figures}, indent=1) + "\n")


def repeated(parameters: dict[str, object] | None, options: argparse.Namespace) -> list[float]:
    """The accuracies of so many runs; without parameters, of training without privacy."""
    composition = None
    if parameters is not None:
        known = {"target_delta": DELTA, "rounds": options.rounds, "clip_l2": CLIP_L2}
        composition = build("dp+smpc", {**known, **parameters})
    return [trained(composition, options.clients, options.rounds, seed) for seed in range(options.repeat)]


def trained(composition: Composition | None, clients: int, rounds: int, seed: int) -> float:
    """Test accuracy after so many rounds."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(labels.size)
    rows = np.hstack([pixels[order] / 16, np.ones((labels.size, 1))])
    truth = np.eye(CLASSES)[labels[order]]
    dealt = [np.arange(client, TRAIN_ROWS, clients) for client in range(clients)]
    weights = np.zeros((rows.shape[1], CLASSES))
    total = Total(composition, clients, weights.size)
    for _ in range(rounds):
        updates = []
        for own in dealt:
            error = softmax(rows[own] @ weights) - truth[own]
            updates.append(-(rows[own].T @ error / own.size).astype(np.float32).reshape(-1))
        weights = weights + LEARNING_RATE * total.mean(updates).reshape(weights.shape)
    guessed = (rows[TRAIN_ROWS:] @ weights).argmax(axis=1)
    return float((guessed == labels[order][TRAIN_ROWS:]).mean())


class Total:
    """The mean of a round, through the layer of `composition`, or without any."""

    def __init__(self, composition: Composition | None, clients: int, size: int) -> None:
        self._clients = clients
        self._layer = None
        if composition is None:
            return
        assert isinstance(composition.backend, Layered)
        (self._layer,) = composition.backend.layers
        self._encoding = fit_encoding(
            composition.backend, clients=clients, value_bound=CLIP_L2, size=size, divisor=clients
        )

    def mean(self, updates: list[NDArray[np.float32]]) -> Floats:
        if self._layer is None:
            clipped = [x * min(1, CLIP_L2 / np.linalg.norm(x)) for x in updates]
            whole: Floats = np.mean(clipped, axis=0)
            return whole
        layer, encoding = self._layer, self._encoding
        rng = np.random.default_rng().bytes
        total = np.zeros(updates[0].size, np.int64)
        for update in updates:
            integers = encoding.encode(layer.before(update, encoding)).integers
            total += layer.onto(integers, encoding, rng)
        released = layer.after(SecureSum(total, self._clients, (), encoding), rng)
        return released.mean().astype(np.float64)


def softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def show(figures: dict[str, list[list[float]]], options: argparse.Namespace) -> None:
    table = Table(title=f"accuracy on digits, {options.clients:,} clients, {options.rounds} rounds, delta {DELTA:g}")
    table.add_column("noise")
    for epsilon in EPSILONS:
        table.add_column(f"epsilon {epsilon:g}", justify="right")
    for name, row in figures.items():
        table.add_row(name, *(f"{np.mean(runs):.3f} ± {np.std(runs):.3f}" for runs in row))
    Console().print(table)


if __name__ == "__main__":
    main()
