"""Which classes are in a batch, and how often: from the gradient of the last layer alone.

With p the predicted and y the true probabilities, the cross-entropy's gradient at the last layer's biases is the batch
mean of p - y: negative only where a class is present.

- `IDLG`: one example. Zhao et al. 2020 (arXiv 2001.02610).
- `ILRG`: a batch, one step. Ma et al. 2023, "Instance-wise Batch Label Restoration via Gradients".
- `RLU`: local updates, and trained networks. Chen & Vikalo 2024, "Recovering Labels from Local Updates".
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from scipy.optimize import nnls
from torch import Tensor, nn

from secagg.errors import Refused
from secagg.leakage.attack import Observation, Unsupported, class_loss, generator
from secagg.leakage.attacks.inverting import one_step
from secagg.leakage.layers import LinearLayer, head

SURROGATES = 256
EXACTLY = 1e3


class LabelAttack(Protocol):
    """Labels of an observation: int64, shape `(examples,)`, sorted."""

    @property
    def name(self) -> str:
        """As reports print it."""

    def __call__(self, seen: Observation, /, *, seed: int = 0) -> Tensor:
        """Infer the labels.

        Raises:
            Unsupported: the model does not end in a linear layer of the kind that is needed. The layer is named.
            Refused: the loss is not the cross-entropy, or the last layer's gradient is hidden.
        """


@dataclass(frozen=True)
class IDLG:
    """The one class whose logit the gradient would raise."""

    name: ClassVar[str] = "idlg"

    def __call__(self, seen: Observation, /, *, seed: int = 0) -> Tensor:
        """The label of one example, exactly; see `LabelAttack`. `Refused` for more than one example or step."""
        one_step(seen, self.name)
        if seen.examples != 1:
            raise Refused(f"{self.name}: the gradient is of {seen.examples} examples, expected 1")
        layer = _head(seen, self.name)
        if layer.bias is not None:
            raised = -layer.bias
        else:
            # Each row is (p - y) h^T: its sign along the common direction tells p - y.
            rows = layer.weight
            strongest = rows[rows.norm(dim=1).argmax()]
            raised = -rows @ strongest
            if len(rows) > 1 and (raised > 0).sum() != 1:
                raised = -raised
        if len(raised) == 1:
            return torch.tensor([int(raised[0] > 0)])
        return raised.argmax()[None]


@dataclass(frozen=True)
class ILRG:
    """Solve for the counts: each class's embedding is read off its row, and the network says what it predicts there.

    Needs biases and at least two outputs. Best while the network is untrained, when predictions hardly depend on the
    example.
    """

    name: ClassVar[str] = "ilrg"

    def __call__(self, seen: Observation, /, *, seed: int = 0) -> Tensor:
        """The labels of a batch; see `LabelAttack`. `Refused` for several local steps."""
        one_step(seen, self.name)
        layer = _head(seen, self.name)
        if layer.bias is None or len(layer.bias) < 2:
            raise Unsupported(f"{self.name}: layer {layer.name!r} has no biases or one output, expected both: use RLU")
        embeddings = layer.weight / torch.where(layer.bias == 0, 1e-30, layer.bias)[:, None]
        logits = F.linear(embeddings, layer.module.weight.double(), layer.module.bias.double())
        lr = 1.0 if seen.local is None else seen.local.lr
        return _labels(logits.softmax(1).detach(), seen.examples * layer.bias / lr, seen.examples)


@dataclass(frozen=True, eq=False)
class RLU:
    """Solve for the counts with predictions on surrogate images, averaged over the two ends of local training.

    `images` and `labels` are public examples; without them, noise in the value range stands in for every class, which
    does for an untrained network only. This follows the paper's idea, not its Monte Carlo simulation of each epoch.
    """

    images: Tensor | None = None
    labels: Tensor | None = None

    name: ClassVar[str] = "rlu"

    def __call__(self, seen: Observation, /, *, seed: int = 0) -> Tensor:
        """The labels behind a gradient or an update; see `LabelAttack`. `Unsupported` for a head without biases."""
        layer = _head(seen, self.name)
        if layer.bias is None:
            raise Unsupported(f"{self.name}: layer {layer.name!r} has no biases, expected some")
        models = [copy.deepcopy(seen.model)]
        slope = layer.bias
        if seen.local is not None:
            models.append(copy.deepcopy(seen.model))
            with torch.no_grad():
                for parameter, change in zip(models[1].parameters(), seen.gradient, strict=True):
                    parameter.sub_(change)
            slope = slope / (seen.local.lr * seen.local.steps(seen.examples))
        ends = [self._predictions(model, seen, seed) for model in models]
        predicted, spread = (torch.stack(parts).mean(0) for parts in zip(*ends, strict=True))
        if len(slope) == 1:
            slope = torch.cat([-slope, slope])
        return _labels(predicted, slope * seen.examples, seen.examples, spread)

    @torch.no_grad()
    def _predictions(self, model: nn.Module, seen: Observation, seed: int) -> tuple[Tensor, Tensor]:
        """Mean and variance of the predicted probabilities for examples of each class, `(classes, classes)` each."""
        low, high = seen.value_range
        if self.images is None or self.labels is None:
            noise = torch.rand((SURROGATES, *seen.shape), generator=generator(seed, self.name), dtype=torch.float64)
            images, labels = (low + (high - low) * noise).to(seen.dtype), None
        else:
            images, labels = self.images.to(seen.dtype), self.labels
        outputs = model(images).double()
        chances = outputs.softmax(1) if outputs.shape[1] > 1 else torch.cat([-outputs, outputs], 1).sigmoid()
        whole = torch.ones(len(chances), dtype=torch.bool)
        rows = [whole if labels is None or not (labels == c).any() else labels == c for c in range(seen.classes)]
        means = torch.stack([chances[chosen].mean(0) for chosen in rows])
        return means, torch.stack([chances[chosen].var(0, correction=0) for chosen in rows])


def _head(seen: Observation, attack: str) -> LinearLayer:
    if seen.loss not in (class_loss, F.cross_entropy):
        raise Refused(f"{attack}: the loss is not the cross-entropy, expected class_loss")
    layer = head(seen, attack)
    if not layer.weight_seen.all() or (layer.bias_seen is not None and not layer.bias_seen.all()):
        raise Refused(f"{attack}: the gradient of layer {layer.name!r} is hidden in part, expected all of it")
    return layer


def _labels(predicted: Tensor, slope: Tensor, examples: int, spread: Tensor | None = None) -> Tensor:
    """Sorted labels whose counts n best fit sum_c n_c (predicted_c - onehot_c) = slope and sum_c n_c = examples.

    Where predictions vary from example to example, the fit gives way to equal counts as far as the variance says: a
    confident network's gradient hardly depends on its labels.

    Args:
        predicted: mean probabilities for an example of each class, shape `(classes, classes)`.
        slope: the gradient at the biases times the number of examples, shape `(classes,)`.
        spread: variance of the probabilities, of the same shape as `predicted`; None is 0.
    """
    classes, even = len(slope), examples / len(slope)
    noise = torch.zeros(classes) if spread is None else even * spread.sum(0)
    deviation = (noise.double() + 1e-6).sqrt()
    prior = math.sqrt(even * (1 - 1 / classes))
    fit = (predicted.double().T - torch.eye(classes)) / deviation[:, None]
    system = torch.cat([fit, torch.eye(classes) / prior, EXACTLY * torch.ones((1, classes))])
    right = torch.cat(
        [slope.double() / deviation, torch.full((classes,), even / prior), torch.tensor([EXACTLY * examples])]
    )
    counts = torch.from_numpy(nnls(system.numpy(), right.numpy())[0])
    counts = counts * examples / counts.sum() if counts.sum() > 0 else torch.full((classes,), examples / classes)
    whole = counts.floor().long()
    missing = examples - int(whole.sum())
    # The largest remainders get what rounding down left over.
    whole[(counts - whole).argsort(descending=True)[:missing]] += 1
    return torch.arange(classes).repeat_interleave(whole)
