"""Sign descent under total variation: the optimiser of Geiping et al. 2020, for any slope; and the best of restarts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from secagg.errors import Refused
from secagg.leakage.attack import Observation, Progress, Reconstruction

HISTORY = 100
DECAYS = (3 / 8, 5 / 8, 7 / 8)
EXTRA_STEP = 0.1

Slope = Callable[[], tuple[float, Sequence[Tensor]]]


@dataclass(frozen=True)
class Descent:
    """The best point of one trajectory of so many iterations.

    `extras` are the variables beside the images, class logits first where labels are looked for.
    """

    images: Tensor
    extras: tuple[Tensor, ...]
    objective: float
    distance: float
    history: tuple[float, ...]
    iterations: int


def best_of(
    restarts: int, restart: Callable[[int], Descent], *, labels: Tensor | None, tolerance: float
) -> Reconstruction:
    """The restart with the least objective: what it found, and how it and the others went.

    Args:
        restart: called with the numbers from 0 on.
        labels: of the images; None takes the likeliest class of the first of the extras.
        tolerance: the distance up to which the attack holds that it converged.
    """
    began = time.perf_counter()
    runs = [restart(number) for number in range(restarts)]
    best = min(runs, key=lambda run: run.objective)
    return Reconstruction(
        best.images.float(),
        best.extras[0].argmax(1) if labels is None else labels,
        best.objective,
        history=best.history,
        restarts=tuple(run.objective for run in runs),
        iterations=sum(run.iterations for run in runs),
        seconds=time.perf_counter() - began,
        converged=best.distance <= tolerance,
    )


def descend(
    slope: Slope,
    images: Tensor,
    extras: Sequence[Tensor],
    *,
    iterations: int,
    step: float,
    tv: float,
    value_range: tuple[float, float],
    report: Callable[[int, float], None] = lambda _, __: None,
) -> Descent:
    """Change `images` and `extras` in place, and return the point with the least distance + tv * total variation.

    Adam on the sign of the slope, with a step that decays tenfold at 3/8, 5/8 and 7/8 of the iterations, inside the
    value range. The extras take plain Adam steps. The objective can rise once the step decays: the best of all points
    is kept, the last one included.

    Args:
        slope: the distance at the present point, and its slope by the images and each extra in turn.
        step: of the first iterations, and `tv`: both in units of the range's width.

    Raises:
        Refused: total variation is asked for, and `images` has not the shape `(n, channels, height, width)`.
    """
    if tv and images.dim() != 4:
        shape = list(images.shape[1:])
        raise Refused(f"tv is {tv}: total variation needs shape (channels, height, width), got {shape}: set it to 0")
    low, high = value_range
    width = high - low
    optimizer = torch.optim.Adam([{"params": [images], "lr": step * width}])
    if extras:
        optimizer.add_param_group({"params": list(extras), "lr": EXTRA_STEP})
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [int(iterations * share) for share in DECAYS])
    best, best_distance = float("inf"), float("inf")
    kept: list[Tensor] = []
    history = []
    for iteration in range(iterations + 1):
        distance, slopes = slope()
        roughness, rough_slope = total_variation(images.detach() / width) if tv else (0.0, 0.0)
        objective = distance + tv * roughness
        if objective < best or not kept:
            best, best_distance = objective, distance
            kept = [variable.detach().clone() for variable in (images, *extras)]
        if iteration % max(1, iterations // HISTORY) == 0:
            history.append(objective)
            report(iteration, objective)
        if iteration == iterations:
            break
        images.grad = (slopes[0] + (tv / width) * rough_slope).sign_()
        for extra, extra_slope in zip(extras, slopes[1:], strict=True):
            extra.grad = extra_slope
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            images.clamp_(low, high)
    return Descent(kept[0], tuple(kept[1:]), best, best_distance, tuple(history), iterations)


@torch.no_grad()
def total_variation(images: Tensor) -> tuple[float, Tensor]:
    """Mean absolute difference of neighbouring pixels, across plus down, and its slope. Shape `(n, c, h, w)`.

    Rudin, Osher, Fatemi 1992: natural images have few edges, candidates made of noise have many.
    """
    across, down = images[..., 1:] - images[..., :-1], images[..., 1:, :] - images[..., :-1, :]
    slope = torch.zeros_like(images)
    step = across.sign() / across.numel()
    slope[..., 1:] += step
    slope[..., :-1] -= step
    step = down.sign() / down.numel()
    slope[..., 1:, :] += step
    slope[..., :-1, :] -= step
    # An image of one row has no neighbours down.
    return float(sum(gap.abs().mean() for gap in (across, down) if gap.numel())), slope


def random_images(count: int, seen: Observation, chance: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Candidates to start from: normal around the middle of the range with a quarter of its width, cut to the range."""
    low, high = seen.value_range
    noise = torch.randn((count, *seen.shape), generator=chance, dtype=torch.float64)
    return (noise * (high - low) / 4 + (high + low) / 2).clamp(low, high).to(dtype).requires_grad_()


def random_logits(seen: Observation, chance: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Class logits to start from where labels are to be found with the images: shape `(examples, classes)`."""
    logits = torch.randn((seen.examples, seen.classes), generator=chance, dtype=torch.float64)
    return logits.to(dtype).requires_grad_()


def reporter(progress: Progress | None, restart: int, restarts: int, iterations: int) -> Callable[[int, float], None]:
    """`progress` seen from within one restart."""

    def report(iteration: int, objective: float) -> None:
        if progress:
            progress(restart * iterations + iteration, restarts * iterations, objective)

    return report
