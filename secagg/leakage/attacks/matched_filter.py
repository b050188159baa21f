"""Matched filter: which images of a given set are behind an update, by the correlation of gradients.

The classical detector of a known signal in white noise (Turin 1960), each candidate's gradient being a signal. It needs
far less of an update than a reconstruction does: noise that leaves no picture can still leave a name. It makes no
image, so that it says who is there and never how clear anybody is.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from secagg.errors import Refused
from secagg.leakage.attack import Observation, Progress, Reconstruction, generator


@dataclass(frozen=True)
class MatchedFilter:
    """For each example the candidate whose gradient, under the example's label, correlates best with what was seen.

    No candidate is chosen twice: of all assignments, the one with the largest total correlation (Kuhn 1955). An update
    of several local steps is compared with the gradient of the first. Its objective is 1 minus the mean correlation of
    the chosen, and it never holds that it converged.
    """

    name: ClassVar[str] = "matched-filter"
    needs: ClassVar[tuple[str, ...]] = ("a set of images among which the victims are", "labels")

    def __call__(self, seen: Observation, /, *, seed: int, progress: Progress | None = None) -> Reconstruction:
        """Choose; see `Attack`.

        Raises:
            Refused: no candidates, fewer than there are examples, or no labels.
        """
        if seen.candidates is None or len(seen.candidates) < seen.examples:
            given = 0 if seen.candidates is None else len(seen.candidates)
            raise Refused(f"candidates: {self.name} expects {seen.examples} images or more to choose from, got {given}")
        if seen.labels is None:
            raise Refused(f"labels: {self.name} expects known or inferred labels, got none")
        began = time.perf_counter()
        # In an order of chance: equal scores must not favour a place.
        candidates = seen.candidates[torch.randperm(len(seen.candidates), generator=generator(seed, self.name))]
        classes, example_class = torch.unique(seen.labels, return_inverse=True)
        scores = torch.zeros((len(classes), len(candidates)), dtype=torch.float64)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(generator(seed, self.name, "model").initial_seed())
            for row, label in enumerate(classes):
                for column, candidate in enumerate(candidates):
                    scores[row, column] = _correlation(seen, candidate[None], label[None])
                if progress:
                    progress(row + 1, len(classes), 1 - float(scores[: row + 1].max()))
        examples, chosen = linear_sum_assignment(scores[example_class].numpy(), maximize=True)
        mean = float(scores[example_class][examples, chosen].mean())
        return Reconstruction(
            candidates[torch.as_tensor(chosen)].float(),
            seen.labels,
            1 - mean,
            seconds=time.perf_counter() - began,
            converged=False,
            chosen=True,
        )


def _correlation(seen: Observation, image: Tensor, label: Tensor) -> float:
    """Cosine of the candidate's gradient with what was seen, over the coordinates that the adversary sees."""
    model: nn.Module = copy.deepcopy(seen.model)
    loss = seen.loss(model(image.to(seen.dtype)), label)
    inner = mine = theirs = 0.0
    masks = seen.visible or [torch.ones_like(part, dtype=torch.bool) for part in seen.gradient]
    for slope, part, mask in zip(
        torch.autograd.grad(loss, list(model.parameters())), seen.gradient, masks, strict=True
    ):
        g, y = slope.double() * mask, part.double() * mask
        inner += float((g * y).sum())
        mine += float(g.square().sum())
        theirs += float(y.square().sum())
    return inner / math.sqrt(mine * theirs) if mine and theirs else 0.0
