"""Local training in plain PyTorch: one reused model, all its weights and gradients views of two flat tensors.

Flat views make the optimiser step, an algorithm's gradient term and the update one vector operation each
instead of one per tensor, and batches are taken by index: about four times faster than a DataLoader on small models.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import TensorDataset

from fl_runtime.algorithms.algorithm import Algorithm
from fl_runtime.data.dataset import Rows
from fl_runtime.training import Training
from fl_runtime.update import LocalUpdate, Tensors
from secagg.errors import Refused
from secagg.protocol import Training as PrivateTraining

Loss = Callable[..., torch.Tensor]
PREDICT_BATCH = 1024


def classification_loss(outputs: torch.Tensor, labels: torch.Tensor, *, reduction: str = "mean") -> torch.Tensor:
    """Cross-entropy: of one logit a row for two classes, of one a class otherwise. Its mean, or "none": `(n,)`."""
    if outputs.shape[1] == 1:
        truth = labels.to(outputs.dtype)
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], truth, reduction=reduction)
    return nn.functional.cross_entropy(outputs, labels, reduction=reduction)


class Trainer:
    """Trains and evaluates one model for any number of clients in turn; holds no client's data or weights.

    Args:
        module: its trainable parameters must be float32. It is changed in place and belongs to the trainer.
        loss: of outputs and labels to a scalar, the mean over the batch; with `reduction="none"`, to one a row.
        private: what acts where clients train (`dp-sgd`), or None.

    Raises:
        Refused: the model has buffers (BatchNorm's statistics), other than float32 or no parameters, or `private`
            cannot train it.
    """

    def __init__(
        self, module: nn.Module, *, loss: Loss = classification_loss, private: PrivateTraining | None = None
    ) -> None:
        if private is not None:
            module = private.prepare(module)
        parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if buffer := next((name for name, _ in module.named_buffers()), None):
            raise Refused(f"model: buffer {buffer!r} is not trained by gradients; use GroupNorm instead of BatchNorm")
        if not parameters or any(p.dtype != torch.float32 for p in parameters.values()):
            raise Refused("model: expected float32 parameters, and at least one")
        self._module, self._loss, self._private = module, loss, private
        self._shapes = {name: tuple(p.shape) for name, p in parameters.items()}
        self._weights = torch.cat([p.detach().reshape(-1) for p in parameters.values()])
        self._gradient = torch.zeros_like(self._weights)
        start = 0
        for p in parameters.values():
            place = slice(start, start := start + p.numel())
            p.data = self._weights[place].view_as(p)
            p.grad = self._gradient[place].view_as(p)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """A copy of the model's present weights, by name: at first, its initialisation."""
        return self._named(self._weights.numpy().copy())

    def model(self, weights: Tensors) -> nn.Module:
        """A copy of the model with these `weights`. Raises `Refused` for names or shapes other than the model's."""
        self._load(weights)
        return copy.deepcopy(self._module)

    def train(
        self,
        weights: Tensors,
        rows: Rows,
        *,
        training: Training,
        algorithm: Algorithm,
        seed: int,
        owner: str = "",
    ) -> LocalUpdate:
        """Train from the global `weights` on the `rows` of client `owner`.

        The same arguments give the same bits, except in private training: its batches and noise follow from no seed.

        Raises:
            Refused: no rows, or weights of other names or shapes than the model's.
        """
        if not len(rows):
            raise Refused("training: the client has no rows")
        self._load(weights)
        anchor = self._weights.clone()
        features, labels = torch.from_numpy(rows.features), torch.from_numpy(rows.labels)
        self._module.train()
        with _one_thread_and_seed(seed):
            if self._private is None:
                loss, steps = self._descend(features, labels, anchor, training=training, algorithm=algorithm)
            else:
                loss, steps = self._descend_privately(
                    self._private, TensorDataset(features, labels), anchor, training, algorithm, owner
                )
        delta = self._named((self._weights - anchor).numpy())
        return LocalUpdate(delta, rows=len(rows), steps=steps, loss=loss)

    def _descend(
        self,
        features: torch.Tensor,
        labels: torch.Tensor,
        anchor: torch.Tensor,
        *,
        training: Training,
        algorithm: Algorithm,
    ) -> tuple[float, int]:
        """Mean loss and number of the steps taken."""
        self._weights.grad = self._gradient
        optimizer = _optimizer([self._weights], training)
        total, steps = torch.zeros(()), 0
        for batch in _batches(len(labels), training):
            self._gradient.zero_()
            loss = self._loss(self._module(features[batch]), labels[batch])
            torch.autograd.backward(loss)
            algorithm.correct(self._gradient, self._weights, anchor)
            optimizer.step()
            total += loss.detach()
            steps += 1
        return float(total) / steps, steps

    def _descend_privately(
        self,
        private: PrivateTraining,
        data: TensorDataset,
        anchor: torch.Tensor,
        training: Training,
        algorithm: Algorithm,
        owner: str,
    ) -> tuple[float, int]:
        """The same number of steps, by what `private` makes of them; the loss is the mean over all samples drawn."""
        # Over the tensors of the model, views of the flat ones: clipping goes layer by layer.
        optimizer = _optimizer([p for p in self._module.parameters() if p.requires_grad], training)
        steps = training.steps(len(data))
        loader = private.loader(data, batch_size=training.batch_size, steps=steps)
        criterion = functools.partial(self._loss, reduction="none")
        total, drawn = torch.zeros(()), 0
        with private.wrap(self._module, optimizer, loader, criterion, owner=owner) as private_steps:
            for batch in private_steps:
                losses = private_steps.step(
                    *batch, correct=lambda: algorithm.correct(self._gradient, self._weights, anchor)
                )
                total += losses.nansum()
                drawn += len(losses)
        return float(total) / max(drawn, 1), steps

    def predict(self, weights: Tensors, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class probabilities, float32 of shape `(n, classes)`, of the model with these `weights`."""
        self._load(weights)
        self._module.eval()
        with torch.inference_mode(), _one_thread_and_seed(0):
            outputs = [self._module(part) for part in _cut(torch.from_numpy(features), PREDICT_BATCH)]
            logits = torch.cat(outputs)
            if logits.shape[1] == 1:
                logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
            probabilities: NDArray[np.float32] = logits.softmax(dim=1).numpy()
        return probabilities

    def _load(self, weights: Tensors) -> None:
        if {name: tuple(array.shape) for name, array in weights.items()} != self._shapes:
            raise Refused("weights: names or shapes differ from the model's")
        flat = np.concatenate([np.asarray(weights[name], np.float32).reshape(-1) for name in self._shapes])
        self._weights.copy_(torch.from_numpy(flat))

    def _named(self, flat: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        named, start = {}, 0
        for name, shape in self._shapes.items():
            named[name] = flat[start : (start := start + math.prod(shape))].reshape(shape)
        return named


def _optimizer(parameters: list[torch.Tensor], training: Training) -> torch.optim.Optimizer:
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=training.lr, foreach=False)
    return torch.optim.SGD(parameters, lr=training.lr, momentum=training.momentum, foreach=False)


def _batches(rows: int, training: Training) -> Iterator[torch.Tensor]:
    """Indices of each step's batch: shuffled passes over the rows, as many as the settings ask for."""
    left = training.steps(rows)
    while left > 0:
        batches = _cut(torch.randperm(rows), training.batch_size)[:left]
        yield from batches
        left -= len(batches)


def _cut(rows: torch.Tensor, size: int) -> list[torch.Tensor]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@contextmanager
def _one_thread_and_seed(seed: int) -> Iterator[None]:
    """One thread, so that sums have one order, and torch's CPU randomness from `seed`; both put back after."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
