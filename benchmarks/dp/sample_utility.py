"""What sample-level privacy costs in accuracy: the experiments of `examples/`, plain and at epsilon 1, 3 and 8.

    SECAGG_DATA=/path/to/data python -m benchmarks.dp.sample_utility [--repeat R] [--json FILE]

The same settings at every epsilon, chosen on other runs, by looking: no epsilon paid for that. Runs differ by their
noise and their batches alone, which follow from no seed; medians, with the least and the most, over repeats.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fl_runtime.config import load
from fl_runtime.run import run_experiment

EXAMPLES = Path(__file__).parents[2] / "examples"
EPSILONS = (1.0, 3.0, 8.0)
PRIVATE = ("privacy.backend=dp-sgd", "privacy.target_delta=1e-4", "privacy.clip_l2=0.5", "training.batch_size=64")
CASES: dict[str, tuple[str, ...]] = {
    "digits": ("training.lr=0.2",),
    "pneumonia": ("training.lr=0.005",),
}
METRICS = ("accuracy", "auc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {name: {"none": [score(name, "privacy.backend=plain")]} for name in CASES}
    for name, settings in CASES.items():
        for epsilon in EPSILONS:
            private = (*PRIVATE, *settings, f"privacy.target_epsilon={epsilon}")
            results[name][f"{epsilon:g}"] = [score(name, *private) for _ in range(options.repeat)]
    show(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def score(name: str, *settings: str) -> dict[str, float]:
    """Accuracy and AUC on the clients' test rows after the last round."""
    overall = run_experiment(load(EXAMPLES / f"{name}.toml", settings)).final.overall
    return {metric: getattr(overall, metric) for metric in METRICS}


def show(results: dict[str, dict[str, list[dict[str, float]]]]) -> None:
    table = Table("experiment", "epsilon", *METRICS)
    for name, found in results.items():
        for epsilon, runs in found.items():
            table.add_row(name, epsilon, *(spread([run[metric] for run in runs]) for metric in METRICS))
    Console().print(table)


def spread(values: list[float]) -> str:
    middle = f"{statistics.median(values):.3f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
