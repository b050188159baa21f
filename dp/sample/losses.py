"""Losses of one value a sample, as per-sample clipping needs them.

Guarantee: sample i's loss depends on row i of the outputs and the targets alone.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from secagg.errors import Refused


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each sample: float `(n,)`.

    `outputs` are logits `(n, classes)`, `labels` int64 `(n,)`; or logits `(n, classes, *space)` and labels
    `(n, *space)`, averaged over space.
    """
    return functional.cross_entropy(outputs, labels, reduction="none").reshape(len(outputs), -1).mean(1)


def dice_cross_entropy(outputs: Tensor, labels: Tensor, *, smooth: float = 1e-5) -> Tensor:
    """Soft Dice loss plus cross-entropy of each sample, equally weighted: float `(n,)`.

    For segmentation: `outputs` are logits `(n, classes, *space)` and `labels` class numbers `(n, 1, *space)`; with
    one channel, logits of foreground and labels in {0, 1}. The Dice of a class is taken over the sample's space
    (Milletari et al. 2016, arXiv 1606.04797) and averaged over classes, background included. A library's DiceCE of the
    batch is not this: its mean has no per-sample gradients.

    Raises:
        Refused: `labels` have another shape.
    """
    count, classes, *space = outputs.shape
    if labels.shape != (count, 1, *space):
        raise Refused(f"labels have shape {tuple(labels.shape)}, expected {(count, 1, *space)}")
    if classes == 1:
        truth, shares = labels.to(outputs.dtype), outputs.sigmoid()
        entropy = functional.binary_cross_entropy_with_logits(outputs, truth, reduction="none")
    else:
        truth = functional.one_hot(labels[:, 0].long(), classes).movedim(-1, 1).to(outputs.dtype)
        shares = outputs.softmax(1)
        entropy = functional.cross_entropy(outputs, labels[:, 0].long(), reduction="none")
    truth, shares = truth.flatten(2), shares.flatten(2)
    overlap, size = (truth * shares).sum(2), truth.sum(2) + shares.sum(2)
    dice = 1 - (2 * overlap + smooth) / (size + smooth)
    return dice.mean(1) + entropy.reshape(count, -1).mean(1)
