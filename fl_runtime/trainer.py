"""Local training in plain PyTorch: one reused model, all its weights and gradients views of two flat tensors.

Flat views make the optimiser step, an algorithm's gradient term and the update one vector operation each
instead of one per tensor, and batches are taken by index: about four times faster than a DataLoader on small models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl_runtime.algorithms.algorithm import Algorithm
from fl_runtime.data.dataset import Rows
from fl_runtime.training import Training
from fl_runtime.update import LocalUpdate, Tensors
from secagg.errors import Refused

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
PREDICT_BATCH = 1024


def classification_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy: of one logit a row for two classes, of one a class otherwise."""
    if outputs.shape[1] == 1:
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], labels.to(outputs.dtype))
    return nn.functional.cross_entropy(outputs, labels)


class Trainer:
    """Trains and evaluates one model for any number of clients in turn; holds no client's data or weights.

    Args:
        module: its trainable parameters must be float32. It is changed in place and belongs to the trainer.
        loss: of outputs and labels to a scalar, the mean over the batch.

    Raises:
        Refused: the model has buffers (BatchNorm's statistics), other than float32 or no parameters.
    """

    def __init__(self, module: nn.Module, *, loss: Loss = classification_loss) -> None:
        parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if buffer := next((name for name, _ in module.named_buffers()), None):
            raise Refused(f"model: buffer {buffer!r} is not trained by gradients; use GroupNorm instead of BatchNorm")
        if not parameters or any(p.dtype != torch.float32 for p in parameters.values()):
            raise Refused("model: expected float32 parameters, and at least one")
        self._module, self._loss = module, loss
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

    def train(
        self, weights: Tensors, rows: Rows, *, training: Training, algorithm: Algorithm, seed: int
    ) -> LocalUpdate:
        """Train from the global `weights` on a client's `rows`; the same arguments give the same bits.

        Raises:
            Refused: no rows, or weights of other names or shapes than the model's.
        """
        if not len(rows):
            raise Refused("training: the client has no rows")
        self._load(weights)
        anchor = self._weights.clone()
        features, labels = torch.from_numpy(rows.features), torch.from_numpy(rows.labels)
        optimizer = self._optimizer(training)
        self._module.train()
        total, steps = torch.zeros(()), 0
        with _one_thread_and_seed(seed):
            for batch in _batches(len(rows), training):
                self._gradient.zero_()
                loss = self._loss(self._module(features[batch]), labels[batch])
                torch.autograd.backward(loss)
                algorithm.correct(self._gradient, self._weights, anchor)
                optimizer.step()
                total += loss.detach()
                steps += 1
        delta = self._named((self._weights - anchor).numpy())
        return LocalUpdate(delta, rows=len(rows), steps=steps, loss=float(total) / steps)

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

    def _optimizer(self, training: Training) -> torch.optim.Optimizer:
        self._weights.grad = self._gradient
        if training.optimizer == "adam":
            return torch.optim.Adam([self._weights], lr=training.lr, foreach=False)
        return torch.optim.SGD([self._weights], lr=training.lr, momentum=training.momentum, foreach=False)

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


def _batches(rows: int, training: Training) -> Iterator[torch.Tensor]:
    """Indices of each step's batch: shuffled passes over the rows, as many as the settings ask for."""
    per_pass = math.ceil(rows / training.batch_size)
    left = training.local_steps or per_pass * (training.local_epochs or 1)
    while left > 0:
        yield from _cut(torch.randperm(rows), training.batch_size)[:left]
        left -= per_pass


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
