"""How much of an image came back: similarity of pairs, matching, identification and leakage beyond a prior.

Images are floats of shape `(n, channels, height, width)`; every figure is one for each image, float64, shape `(n,)`.

References: SSIM: Wang et al. 2004. Matching of batches: Hungarian method (Kuhn 1955). RDLV: relative data leakage value
(Hatamizadeh et al. 2022, arXiv 2202.06924). The learned distance is in `lpips`: it takes weights from disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from secagg.errors import Refused
from secagg.leakage.attack import check_images

PSNR_CAP_DB = 150.0
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5

Range = tuple[float, float]


def mse(images: Tensor, originals: Tensor, *, value_range: Range = (0.0, 1.0)) -> Tensor:
    """Mean squared error of each image, in units of the range: 0 is equal, 1 is black against white.

    Raises:
        Refused: the shapes differ, or a value is outside the range (as for every figure of this module).
    """
    first, second = unit_pair(images, originals, value_range)
    return (first - second).square().flatten(1).mean(1)


def psnr(images: Tensor, originals: Tensor, *, value_range: Range = (0.0, 1.0)) -> Tensor:
    """Peak signal-to-noise ratio in dB, the peak being the width of the range; an exact image gets 150 dB."""
    return (-10 * mse(images, originals, value_range=value_range).log10()).clamp(max=PSNR_CAP_DB)


def ssim(images: Tensor, originals: Tensor, *, value_range: Range = (0.0, 1.0)) -> Tensor:
    """Structural similarity, 1 for equal images: Gaussian window of 11 pixels and sigma 1.5, K1 = 0.01, K2 = 0.03.

    Only windows inside the image count. A smaller image gets the largest odd window that fits.
    """
    first, second = unit_pair(images, originals, value_range)
    if first.dim() != 4 or min(first.shape[2:]) < 3:
        raise Refused(f"images: SSIM takes shape (n, channels, height, width) of 3x3 or more, got {list(first.shape)}")
    side = min(SSIM_WINDOW, *(size - (size + 1) % 2 for size in first.shape[2:]))
    at = torch.arange(side, dtype=torch.float64) - side // 2
    line = torch.exp(-at.square() / (2 * SSIM_SIGMA**2))
    line /= line.sum()
    channels = first.shape[1]
    window = torch.outer(line, line).expand(channels, 1, side, side)

    def local_mean(values: Tensor) -> Tensor:
        return F.conv2d(values, window, groups=channels)

    mean1, mean2 = local_mean(first), local_mean(second)
    variance1 = local_mean(first * first) - mean1 * mean1
    variance2 = local_mean(second * second) - mean2 * mean2
    covariance = local_mean(first * second) - mean1 * mean2
    c1, c2 = 0.01**2, 0.03**2
    light = (2 * mean1 * mean2 + c1) / (mean1 * mean1 + mean2 * mean2 + c1)
    texture = (2 * covariance + c2) / (variance1 + variance2 + c2)
    index: Tensor = light * texture
    return index.flatten(1).mean(1)


def match(images: Tensor, originals: Tensor, *, value_range: Range = (0.0, 1.0)) -> Tensor:
    """Which reconstruction stands for which original: int64, shape `(n,)`, so that `images[match]` pairs up.

    Of all one-to-one assignments, the one with the least total squared error. It orders a batch; never use it to choose
    between restarts. There may be more images than originals.
    """
    check_images(images, value_range)
    check_images(originals, value_range, what="originals")
    if len(images) < len(originals) or images.shape[1:] != originals.shape[1:]:
        raise Refused(f"images: shape {list(images.shape)} cannot be matched with originals {list(originals.shape)}")
    cost = torch.cdist(originals.double().flatten(1), images.double().flatten(1)).square()
    _, chosen = linear_sum_assignment(cost.numpy())
    return torch.as_tensor(chosen, dtype=torch.int64)


def correlation(
    images: Tensor, gallery: Tensor, *, value_range: Range = (0.0, 1.0), variants: Iterable[Tensor] = ()
) -> Tensor:
    """Correlation of the pixels of each image with each of a gallery, -1 to 1: float64, shape `(n, m)`.

    Brightness and contrast do not change it. It is 0 for an image without contrast.

    Args:
        gallery: shape `(m, channels, height, width)`.
        variants: the gallery in other guises, each of its shape: of an image the likest guise counts.
    """
    check_images(images, value_range)
    check_images(gallery, value_range, what="gallery")
    if images.shape[1:] != gallery.shape[1:]:
        raise Refused(f"gallery: shape {list(gallery.shape)} does not fit images {list(images.shape)}")
    unit = _unit(images)
    likeness = unit @ _unit(gallery).T
    for variant in variants:
        if variant.shape != gallery.shape:
            raise Refused(f"variants: shape {list(variant.shape)}, but the gallery has {list(gallery.shape)}")
        likeness = torch.maximum(likeness, unit @ _unit(variant).T)
    return likeness


def identified(
    images: Tensor,
    gallery: Tensor,
    truth: Tensor,
    *,
    top: int = 1,
    value_range: Range = (0.0, 1.0),
    variants: Iterable[Tensor] = (),
) -> Tensor:
    """Whether each reconstruction points to its original among the images of a gallery. bool, shape `(n,)`.

    The nearest by `correlation`: `truth[i]` must be among the
    `top` best of `gallery`, shape `(m, channels, height, width)`. Blind guessing finds it with chance `top / m`. An
    image without contrast points to nothing.

    Args:
        truth: the place of each original in the gallery, int64, shape `(n,)`.
        variants: as for `correlation`.
    """
    likeness = correlation(images, gallery, value_range=value_range, variants=variants)
    if truth.shape != (len(images),):
        raise Refused(f"truth: shape {list(truth.shape)}, expected one place for each of {len(images)} images")
    if not 0 < top <= len(gallery) or truth.min() < 0 or truth.max() >= len(gallery):
        raise Refused(f"gallery: top {top} and truth must lie within its {len(gallery)} images")
    right = likeness.gather(1, truth[:, None])
    # An equal rival counts against: ties would otherwise identify everybody.
    rivals = (likeness >= right).sum(1) - 1
    return (rivals < top) & (right[:, 0] > 0)


def rdlv(similarity: Tensor, prior: Tensor) -> Tensor:
    """What a reconstruction gives away beyond a prior: `(similarity - prior) / prior`, 0 where it adds nothing.

    Args:
        similarity: of each reconstruction to its original (SSIM, say), shape `(n,)`.
        prior: the same measure of the best that can be had without the update (the mean image of public data, say).

    Raises:
        Refused: a prior that is not positive: the ratio has no meaning there.
    """
    if similarity.shape != prior.shape or not (prior > 0).all():
        raise Refused("prior: expected one positive similarity for each image")
    return (similarity - prior) / prior


def label_accuracy(found: Tensor, truth: Tensor, *, measure: Literal["existence", "counts"]) -> float:
    """How well labels were inferred, as a share, in no order. int64, shape `(n,)` each.

    `existence`: classes about whose presence the two agree, among all that occur in either. `counts`: labels of the
    batch that were found, each as often as it occurs.
    """
    if found.shape != truth.shape or not len(truth):
        raise Refused(f"labels: expected as many as there are examples, got {list(found.shape)} of {list(truth.shape)}")
    classes = int(max(found.max(), truth.max())) + 1
    mine, real = (torch.bincount(labels, minlength=classes) for labels in (found, truth))
    if measure == "existence":
        either = (mine > 0) | (real > 0)
        return float(((mine > 0) & (real > 0)).sum() / either.sum())
    return float(torch.minimum(mine, real).sum() / len(truth))


def unit_pair(images: Tensor, originals: Tensor, value_range: Range) -> tuple[Tensor, Tensor]:
    """Both in float64, the range brought to [0, 1]; `Refused` as for `mse`."""
    if images.shape != originals.shape:
        raise Refused(f"images: shape {list(images.shape)}, but the originals have {list(originals.shape)}")
    check_images(images, value_range)
    check_images(originals, value_range, what="originals")
    low, high = value_range
    return (images.double() - low) / (high - low), (originals.double() - low) / (high - low)


def _unit(images: Tensor) -> Tensor:
    """Each image as a vector of mean 0 and length 1; one without contrast stays 0. Shape `(n, values)`."""
    flat = images.double().flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    length = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    unit: Tensor = centred / length.clamp(min=1e-12)
    return unit
