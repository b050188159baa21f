"""What an adversary holds, what an attack makes of it, and the one interface of all gradient-inversion attacks.

    seen = Observation(model, gradient, shape=(1, 32, 32), examples=1, labels=labels)
    guess = InvertingGradients(iterations=4000)(seen, seed=0)
    print(psnr(guess.images, originals, value_range=seen.value_range))

An attack sees the observation and nothing else: no original, and so no choice of the best by looking at it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secagg.errors import Refused

Loss = Callable[[Tensor, Tensor], Tensor]
Progress = Callable[[int, int, float], None]


class Unsupported(Refused):
    """An attack or a defence does not apply to this model: it names the layer, and what it needs instead."""


@dataclass(frozen=True)
class LocalTraining:
    """What a client did before it sent: `epochs` passes of plain SGD at rate `lr` over batches of `batch_size`.

    The last batch of a pass is smaller where `batch_size` does not divide the number of examples.
    """

    epochs: int
    batch_size: int
    lr: float

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise Refused(f"local.{name} is {getattr(self, name)}, expected 1 or more")
        if not 0 < self.lr < math.inf:
            raise Refused(f"local.lr is {self.lr}, expected a positive number")

    def steps(self, examples: int) -> int:
        """SGD steps over so many examples."""
        return self.epochs * math.ceil(examples / self.batch_size)


def class_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats; one output column is the logit of class 1.

    Args:
        outputs: logits, shape `(n, classes)`, or `(n, 1)` for two classes.
        targets: class numbers, int64, shape `(n,)`, or probabilities, shape `(n, classes)`.
    """
    if outputs.shape[1] > 1:
        return F.cross_entropy(outputs, targets)
    positive = targets[:, 1] if targets.dim() == 2 else targets
    return F.binary_cross_entropy_with_logits(outputs[:, 0], positive.to(outputs.dtype))


@dataclass(frozen=True, eq=False)
class Observation:
    """What one adversary sees of one update, and what it knows beside it.

    `model` is in the state that the clients received: weights, buffers, and train or eval mode. No attack alters it.
    `gradient` follows `model.parameters()`; it is the mean gradient over the examples or, with `local`, the weights
    that were sent out minus the weights that came back. A sum over clients is given as its mean, `examples` counting
    the rows of all.

    Attributes:
        shape: of one example, `(channels, height, width)` for images.
        examples: how many examples are behind the gradient.
        value_range: the smallest and largest value that an example can hold.
        labels: class numbers, int64, shape `(examples,)`, or None where they are unknown.
        local: the local training behind an update, or None for a gradient.
        loss: called as `loss(outputs, targets)`; see `class_loss`.
        visible: masks of the coordinates the adversary sees, one boolean tensor a parameter; None is all. The others
            are zero in `gradient`.
        noise_std: the standard deviation of noise that is known to be on each coordinate.
        statistics: mean and biased variance over the batch of what entered each BatchNorm layer, in the order of
            `model.modules()`, where the adversary has them.
        candidates: images among which the examples are, shape `(m, *shape)`, where the adversary has such a set.

    Raises:
        Refused: at creation, for a field that does not fit the model. It names the field and the parameter.
    """

    model: nn.Module
    gradient: Sequence[Tensor]
    shape: tuple[int, ...]
    examples: int
    value_range: tuple[float, float] = (0.0, 1.0)
    labels: Tensor | None = None
    local: LocalTraining | None = None
    loss: Loss = class_loss
    visible: Sequence[Tensor] | None = None
    noise_std: float = 0.0
    statistics: Sequence[tuple[Tensor, Tensor]] | None = None
    candidates: Tensor | None = None

    def __post_init__(self) -> None:
        self._check_parameters("gradient", self.gradient)
        if self.visible is not None:
            self._check_parameters("visible", self.visible)
        if self.examples < 1:
            raise Refused(f"examples is {self.examples}, expected 1 or more")
        low, high = self.value_range
        if not -math.inf < low < high < math.inf:
            raise Refused(f"value_range is {self.value_range}, expected two finite numbers, the smaller first")
        if self.labels is not None:
            check_labels(self.labels, self.examples, self.classes)
        if not 0 <= self.noise_std < math.inf:
            raise Refused(f"noise_std is {self.noise_std}, expected 0 or more")
        if self.candidates is not None:
            check_images(self.candidates, self.value_range, what="candidates")
            if self.candidates.shape[1:] != self.shape:
                raise Refused(f"candidates: shape {list(self.candidates.shape)}, expected {['m', *self.shape]}")

    def _check_parameters(self, field: str, tensors: Sequence[Tensor]) -> None:
        named = list(self.model.named_parameters())
        if len(tensors) != len(named):
            raise Refused(f"{field} has {len(tensors)} tensors, expected one for each of {len(named)} parameters")
        for (name, parameter), tensor in zip(named, tensors, strict=True):
            if tensor.shape != parameter.shape:
                raise Refused(f"{field} of {name!r} has shape {list(tensor.shape)}, not {list(parameter.shape)}")
            if not torch.isfinite(tensor).all():
                raise Refused(f"{field} of {name!r} holds NaN or Inf")

    @cached_property
    def classes(self) -> int:
        """How many classes the model tells apart."""
        return count_classes(self.model, self.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Of the model's parameters."""
        return next(self.model.parameters()).dtype

    def with_labels(self, labels: Tensor | None) -> Observation:
        """The same with other labels: inferred ones, or None."""
        return replace(self, labels=labels)

    def oblivious(self) -> Observation:
        """The same for an adversary that does not know of the defence: hidden coordinates look like zeros."""
        return replace(self, visible=None, noise_std=0.0)


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What an attack made of an observation.

    Attributes:
        images: float32, shape `(examples, *shape)`, within the value range, in no particular order.
        labels: int64, shape `(examples,)`: the class of each image.
        objective: what the attack minimised, at `images`; the restart with the least was kept.
        history: the objective at even distances along the kept restart.
        restarts: the objective that each restart reached.
        iterations: of all restarts together; 0 for a closed form.
        seconds: wall time.
        converged: whether the attack itself holds that it succeeded. It cannot see the originals.
        chosen: whether the images were chosen from given candidates, not made: who they are may be right, how clear
            they are says nothing.
    """

    images: Tensor
    labels: Tensor
    objective: float
    history: tuple[float, ...] = ()
    restarts: tuple[float, ...] = ()
    iterations: int = 0
    seconds: float = 0.0
    converged: bool = True
    chosen: bool = False


class Attack(Protocol):
    """One attack with its settings: a frozen dataclass, so that the settings can be logged and hashed."""

    @property
    def name(self) -> str:
        """As reports print it."""

    @property
    def needs(self) -> tuple[str, ...]:
        """What the adversary must know or be able to do, in plain words."""

    def __call__(self, seen: Observation, /, *, seed: int, progress: Progress | None = None) -> Reconstruction:
        """Reconstruct the examples behind `seen`. Equal arguments give equal results on one machine.

        `progress` is called as `progress(done, total, objective)`.

        Raises:
            Unsupported: the model is not of the kind that the attack works on. The layer is named.
            Refused: the observation lacks what the attack needs.
        """


def generator(seed: int, *labels: str | int) -> torch.Generator:
    """An independent stream for each use of chance, named by `labels`. Never a source of secrets."""
    text = "\x1f".join(f"{type(label).__name__}:{label}" for label in (seed, *labels))
    digest = hashlib.sha256(b"secagg/v1/leakage-seed" + text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def check_images(images: Tensor, value_range: tuple[float, float], *, what: str = "images") -> None:
    """Raise `Refused` unless all values are finite and within the range: shape `(n, ...)`, any float dtype."""
    low, high = value_range
    if not images.is_floating_point() or images.dim() < 2 or not len(images):
        raise Refused(f"{what}: expected floats of shape (n, ...), got {images.dtype}{list(images.shape)}")
    # `not (a and b)`, so that NaN is refused too.
    if not (images.min() >= low and images.max() <= high):
        raise Refused(f"{what}: values from {images.min():.4g} to {images.max():.4g}, expected {low:g} to {high:g}")


def count_classes(model: nn.Module, shape: Sequence[int]) -> int:
    """How many classes a model tells apart: its outputs for examples of `shape`, and 2 where it has a single one.

    Raises:
        Refused: the model does not take such examples.
    """
    state = {name: buffer.clone() for name, buffer in model.named_buffers()}
    probe = torch.zeros((2, *shape), dtype=next(model.parameters()).dtype)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs = torch.func.functional_call(model, state, (probe,))
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise Refused(f"images: the model does not take examples of shape {list(shape)}: {reason}") from None
    return max(2, int(outputs.shape[1]))


def check_labels(labels: Tensor, examples: int, classes: int) -> None:
    """Raise `Refused` unless the labels are class numbers of the model, int64, shape `(examples,)`."""
    if labels.dtype != torch.int64 or labels.shape != (examples,):
        raise Refused(f"labels is {labels.dtype}{list(labels.shape)}, expected int64[{examples}]")
    if not (labels.min() >= 0 and labels.max() < classes):
        raise Refused(f"labels run from {labels.min()} to {labels.max()}, the model has classes 0 to {classes - 1}")
