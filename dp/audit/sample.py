"""The audit of `dp-sgd`: canaries are samples, and the auditor sees every noisy gradient.

The model is linear in its input, so that the gradient of a sample is the sample itself: the claim is for any model, and
this one leaks most. Its weights are split over tensors, as layers' are. A canary that is out is a row of zeros: the
number of rows is public. What `dp-sgd` stands before (`dp-sgd+smpc`) is not run: the claim does not count on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from dp.audit.canaries import Cohort, scores, sign
from secagg.protocol import Training

CANARIES, COHORT = 8192, 1024
_TENSORS = 16


class Samples:
    """Canaries that are samples. Each cohort is a client of its own, which trains on nothing else.

    Args:
        training: the component.
        canaries: how many there are to be.
        steps: of local training.
        sampling_rate: the chance of a sample to be in a step; rounded to a whole number of samples.
    """

    def __init__(self, training: Training, *, canaries: int | None, steps: int, sampling_rate: float) -> None:
        self._training, self._steps, self._runs = training, steps, 0
        self.parameters = training.parameters
        self.canaries = canaries or CANARIES
        self.cohort = min(COHORT, self.canaries)
        self._batch_size = max(1, round(sampling_rate * self.cohort))
        self.sampling_rate = self._batch_size / self.cohort

    def observe(self, cohort: Cohort, progress: Callable[[], object]) -> NDArray[np.float64]:
        """Train on the cohort, and score each canary: float64 `(n,)`. Raises what training does."""
        training, count, clip_l2 = self._training, cohort.present.size, float(self.parameters["clip_l2"])
        self._runs += 1
        size = {"batch_size": self._batch_size, "steps": self._steps}
        owner = f"cohort-{self._runs}"
        noise_multiplier = float(training.charge(rows=count, owner=owner, **size)["noise_multiplier"])
        rows = torch.from_numpy(cohort.contributions(clip_l2))
        model = training.prepare(Linear(rows.shape[1]))
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        loader = training.loader(TensorDataset(rows, torch.ones(count)), **size)
        seen = np.empty((self._steps, count))
        with training.wrap(model, optimizer, loader, torch.mul, owner=owner) as private:
            for step, (inputs, ones) in enumerate(private):
                private.step(inputs, ones * sign(step))
                noisy = torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters()])
                seen[step] = sign(step) * self._batch_size * cohort.projections(noisy.numpy(), clip_l2)
                progress()
        return scores(seen, noise_multiplier=noise_multiplier, sampling_rate=self.sampling_rate)

    def claim(self) -> Mapping[str, Any]:
        """What the component says that its costliest client has spent."""
        return self._training.spent()


class Linear(nn.Module):
    """<weights, input> of inputs `(n, size)`: outputs `(n,)`. The weights are in 16 tensors or fewer."""

    def __init__(self, size: int) -> None:
        super().__init__()
        tensors = min(_TENSORS, size)
        self.layers = nn.ModuleList(nn.Linear(size // tensors, 1, bias=False) for _ in range(tensors))

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs."""
        pieces = inputs.chunk(len(self.layers), dim=1)
        return torch.stack([layer(piece)[:, 0] for layer, piece in zip(self.layers, pieces, strict=True)]).sum(0)
