"""One client's local training under DP-SGD: Poisson batches, clipped sums, noise, and each step charged first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dp.sample.clipping import Clipper, Criterion, zeroed_gradients
from dp.sample.models import probe
from dp.sample.optimizer import DiscreteNoiseOptimizer
from dp.sample.poisson import sampler_of
from secagg.errors import Refused


class PrivateSteps:
    """Iterate for Poisson batches, and give each to `step`. Use it as a context, so that hooks leave the model.

    `charge` is called before anything of a step depends on its samples. `twin` is a copy of the model for
    `dp.sample.models.probe`, None where it was probed before; `proven` is called when the probe has decided.

    Attributes:
        mode: how gradients are clipped: "book-keeping", or one of Opacus' modes.
        noise_multiplier: sigma over the clipping norm.
    """

    def __init__(
        self,
        model: nn.Module,
        clipper: Clipper,
        optimizer: DiscreteNoiseOptimizer,
        loader: DataLoader[Any],
        criterion: Criterion,
        *,
        charge: Callable[[], None],
        twin: nn.Module | None,
        proven: Callable[[], None],
    ) -> None:
        self.mode = clipper.name
        self.noise_multiplier: float = optimizer.noise_multiplier
        self._model, self._clipper, self._optimizer = model, clipper, optimizer
        self._loader, self._criterion, self._charge = loader, criterion, charge
        self._twin, self._proven = twin, proven
        self._drawn: tuple[Any, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clipper.close()

    def __len__(self) -> int:
        return len(sampler_of(self._loader))

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for inputs, targets in self._loader:
            self._drawn = inputs, targets
            yield inputs, targets

    def step(self, inputs: Any, targets: Any, *, correct: Callable[[], None] = lambda: None) -> Tensor:
        """One step on the batch just drawn, an empty one too. Returns the losses, float `(n,)`, which are private.

        `correct` is called when each `.grad` holds the noisy mean gradient, before the optimiser acts on it: for
        terms that depend on weights alone, such as FedProx's.

        Raises:
            Refused: the batch is not the one drawn (D1), the criterion or the model is not per-sample (D8), or no
                secure noise is to be had (D2, D3).
            InvalidUpdate: the sum cannot be held on the grid.

        Guarantee: the noisy gradient is one Gaussian release over a Poisson sample, as charged.
        """
        if self._drawn is None or not _same_samples(self._drawn, inputs, targets):
            raise Refused(
                f"dp-sgd: this batch of {len(inputs)} is not the Poisson sample last drawn: take batches by iterating, "
                "and each for one step; inputs may be changed on the way, or moved, but not targets as well"
            )
        self._drawn = None
        # Before anything depends on the samples: what is charged and never released costs budget, the reverse privacy.
        self._charge()
        if self._twin is not None and len(inputs) > 1:
            self._probe(self._twin, inputs, targets)
        losses = self._clipped(inputs, targets)
        self._optimizer.pre_step()
        correct()
        self._optimizer.original_optimizer.step()
        return losses

    def _probe(self, twin: nn.Module, inputs: Any, targets: Any) -> None:
        clip_l2 = self._optimizer.max_grad_norm
        if probe(self._model, twin, self._clipper, self._criterion, inputs, targets, clip_l2=clip_l2):
            self._twin = None
            self._proven()

    def _clipped(self, inputs: Any, targets: Any) -> Tensor:
        if len(inputs):
            return self._clipper.clipped_sum(self._criterion, inputs, targets)
        zeroed = zeroed_gradients(self._optimizer.params)
        return next(iter(zeroed.values())).new_zeros(0)


def _same_samples(drawn: tuple[Any, Any], inputs: Any, targets: Any) -> bool:
    """Whether this is the batch that was drawn, with its inputs augmented perhaps, or moved to a device."""
    if len(inputs) != len(drawn[0]):
        return False
    return inputs is drawn[0] or targets is drawn[1] or torch.equal(targets.cpu(), drawn[1].cpu())
