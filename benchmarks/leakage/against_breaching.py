"""Inverting gradients beside breaching 0.1.2: equal model, images, iterations and seeds; CPU seconds an iteration
and PSNR.

    python -m venv PEER && PEER/bin/pip install breaching==0.1.2 "torch==2.13.0"
    SECAGG_DATA=... PEER/bin/python -m benchmarks.leakage.against_breaching [--iterations N] [--seeds S] [--json FILE]

Both run in one process of one thread, by turns, on an untrained ConvNet of width 16 at 32x32, one image, known label,
with the original's own setting (cosine, signed Adam) and, for the peer, total variation at 1e-4. Images are
normalised by public means, as the peer does it. PSNR is ours for both, of one image at a time.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.leakage import images as sources
from benchmarks.leakage.models import Normalised, convnet
from secagg.leakage import Observation, mean_interval, observe, psnr
from secagg.leakage.attacks import InvertingGradients

PEER_TV = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", choices=["chests", "cells", "digits"], default="chests")
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    breaching = import_breaching()
    source = getattr(sources, options.images)
    images, labels = source(options.seeds)
    public = source(300, seed=99)[0]
    # The peer takes colour images only: grey ones enter as three equal channels, for both.
    images, public = (pixels.expand(-1, 3, -1, -1) for pixels in (images, public))
    mean, std = public.mean((0, 2, 3)), public.std((0, 2, 3))
    prior = psnr(public.mean(0, keepdim=True).expand_as(images), images)
    rows = []
    for seed in range(options.seeds):
        image, label = images[seed : seed + 1], labels[seed : seed + 1]
        torch.manual_seed(seed)
        network = convnet(image.shape[1], 10).eval()
        seen = observe(Normalised(mean, std, network).eval(), image, label)
        turns = [("ours", ours), ("breaching", lambda *given: theirs(breaching, *given))]
        row: dict[str, Any] = {"seed": seed, "prior_db": float(prior[seed])}
        for name, attack in turns if seed % 2 == 0 else turns[::-1]:
            guess, seconds = attack(seen, network, mean, std, options.iterations, seed)
            row |= {f"{name}_db": float(psnr(guess, image)), f"{name}_s": seconds / options.iterations}
        rows.append(row)
        print(
            f"{seed:3}  ours {row['ours_db']:6.2f} dB {row['ours_s']:.4f} s   "
            f"breaching {row['breaching_db']:6.2f} dB {row['breaching_s']:.4f} s   prior {row['prior_db']:6.2f} dB",
            flush=True,
        )
    gain = mean_interval([row["ours_db"] - row["breaching_db"] for row in rows], [row["seed"] for row in rows])
    ratio = statistics.median(row["ours_s"] / row["breaching_s"] for row in rows)
    print(f"paired gain {gain.value:.2f} dB [{gain.low:.2f}, {gain.high:.2f}]; CPU seconds an iteration x{ratio:.2f}")
    if options.json:
        options.json.write_text(json.dumps({"settings": vars(options) | {"json": None}, "rows": rows}, indent=1) + "\n")


def ours(
    seen: Observation, network: nn.Module, mean: Tensor, std: Tensor, iterations: int, seed: int
) -> tuple[Tensor, float]:
    """Our reconstruction, and the CPU seconds of all iterations."""
    began = time.process_time()
    guess = InvertingGradients(iterations=iterations)(seen, seed=seed)
    return guess.images, time.process_time() - began


def theirs(
    breaching: Any, seen: Observation, network: nn.Module, mean: Tensor, std: Tensor, iterations: int, seed: int
) -> tuple[Tensor, float]:
    """The peer's reconstruction of the same gradient, brought back to [0, 1], and the CPU seconds of all iterations."""
    overrides = [f"optim.max_iterations={iterations}", f"regularization.total_variation.scale={PEER_TV}"]
    config = breaching.get_attack_config("invertinggradients", overrides)
    attacker = breaching.attacks.prepare_attack(network, nn.CrossEntropyLoss(), config)
    metadata = SimpleNamespace(shape=seen.shape, mean=mean.tolist(), std=std.tolist(), modality="vision")
    sent = {"parameters": list(network.parameters()), "buffers": list(network.buffers()), "metadata": metadata}
    shared = {
        "gradients": list(seen.gradient),
        "buffers": None,
        "metadata": {"num_data_points": seen.examples, "labels": seen.labels, "local_hyperparams": None},
    }
    torch.manual_seed(seed)
    began = time.process_time()
    guess, _ = attacker.reconstruct([sent], [shared], server_secrets={})
    seconds = time.process_time() - began
    pixels = guess["data"] * std[:, None, None] + mean[:, None, None]
    return pixels.clamp(0, 1), seconds


# Kept for the life of the process: an operator goes when its library does.
_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")


def import_breaching() -> Any:
    """The peer. The compiled operators that its torchvision lacks beside a plain torch are declared, never called."""
    for name in ("nms", "qnms"):
        _OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    warnings.filterwarnings("ignore", module="breaching")
    import breaching

    logging.disable(logging.INFO)
    return breaching


if __name__ == "__main__":
    main()
