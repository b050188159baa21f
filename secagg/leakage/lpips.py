"""LPIPS: how different two images look, by the features of a trained network, with weights from the user's disk.

Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (arXiv 1801.03924), in the
variant on AlexNet. Nothing is downloaded, and no weights are part of this package.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from secagg.errors import Refused
from secagg.leakage.metrics import Range, unit_pair

SMALLEST = 64
BATCH = 32
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)

# What torch raises for files that are cut off, altered, or would run code.
DAMAGE = (
    RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError,
    struct.error, pickle.UnpicklingError,
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """One convolution of AlexNet up to its ReLU. `halved`: whether a pooling of 3x3 by 2 comes before it."""

    name: str
    shape: tuple[int, ...]
    stride: int
    padding: int
    halved: bool


STAGES = (
    Stage("features.0", (64, 3, 11, 11), stride=4, padding=2, halved=False),
    Stage("features.3", (192, 64, 5, 5), stride=1, padding=2, halved=True),
    Stage("features.6", (384, 192, 3, 3), stride=1, padding=1, halved=True),
    Stage("features.8", (256, 384, 3, 3), stride=1, padding=1, halved=False),
    Stage("features.10", (256, 256, 3, 3), stride=1, padding=1, halved=False),
)
FEATURES = {f"{stage.name}.weight": stage.shape for stage in STAGES} | {
    f"{stage.name}.bias": stage.shape[:1] for stage in STAGES
}
HEADS = {f"lin{number}.model.1.weight": (1, stage.shape[0], 1, 1) for number, stage in enumerate(STAGES)}


@dataclass(frozen=True, eq=False)
class LPIPS:
    """The learned distance of images: 0 for equal ones, growing with the difference that people see.

    At each of the five stages, the features of every pixel are brought to length 1, and the squared differences are
    weighed by the head, averaged over the pixels and added up.

    Attributes:
        weights: by the names in `FEATURES` and `HEADS`, float64; see `load`.
    """

    weights: Mapping[str, Tensor]

    @classmethod
    def load(cls, path: str | Path, *, heads: str | Path | None = None) -> LPIPS:
        """Read the weights from files on disk: `.safetensors`, or a `.pt` or `.pth` that holds nothing but tensors.

        Args:
            path: AlexNet as torchvision lays it out: `features.N.weight` and `features.N.bias` for N of 0, 3, 6, 8
                and 10. What else it holds is left alone.
            heads: `lin0.model.1.weight` to `lin4.model.1.weight`; None where they are in the first file too.

        Raises:
            Refused: a file is missing, damaged or of another kind; a tensor is missing, of another shape, or holds NaN
                or Inf; a head holds a negative weight. The file and the tensor are named.
        """
        read = _read(Path(path), FEATURES) | _read(Path(path if heads is None else heads), HEADS)
        return cls(read)

    @torch.no_grad()
    def __call__(self, images: Tensor, originals: Tensor, *, value_range: Range = (0.0, 1.0)) -> Tensor:
        """The distance of each image to its original, shape `(n, channels, height, width)` to float64 `(n,)`.

        Three channels are colours; one is grey, and repeated to three. Images with a side under 64 pixels, too small
        for AlexNet, are enlarged first (bilinear, the shorter side to 64): figures for those compare with each other,
        not with the literature's.

        Raises:
            Refused: the shapes differ, a value is outside the range, or there are not one or three channels.
        """
        first, second = unit_pair(images, originals, value_range)
        if first.dim() != 4 or first.shape[1] not in (1, 3):
            raise Refused(f"images: LPIPS takes shape (n, 1 or 3, height, width), got {list(first.shape)}")
        parts = [slice(start, start + BATCH) for start in range(0, len(first), BATCH)]
        return torch.cat([self._distance(_prepared(first[part]), _prepared(second[part])) for part in parts])

    def _distance(self, first: Tensor, second: Tensor) -> Tensor:
        distance = torch.zeros(len(first), dtype=torch.float64)
        for stage, head in zip(STAGES, HEADS, strict=True):
            first, second = self._features(stage, first), self._features(stage, second)
            gap = (_unit(first) - _unit(second)).square()
            distance += F.conv2d(gap, self.weights[head]).mean((1, 2, 3))
        return distance

    def _features(self, stage: Stage, values: Tensor) -> Tensor:
        if stage.halved:
            values = F.max_pool2d(values, 3, 2)
        weight, bias = self.weights[f"{stage.name}.weight"], self.weights[f"{stage.name}.bias"]
        return F.relu(F.conv2d(values, weight, bias, stage.stride, stage.padding))


def _prepared(unit: Tensor) -> Tensor:
    """Images in [0, 1] as the network takes them: three channels of 64 pixels or more, shifted and scaled."""
    height, width = unit.shape[2:]
    if (shorter := min(height, width)) < SMALLEST:
        size = [round(height * SMALLEST / shorter), round(width * SMALLEST / shorter)]
        unit = F.interpolate(unit, size=size, mode="bilinear", align_corners=False)
    shift, scale = (torch.tensor(values, dtype=torch.float64).reshape(3, 1, 1) for values in (SHIFT, SCALE))
    prepared: Tensor = (2 * unit - 1 - shift) / scale
    return prepared


def _unit(features: Tensor) -> Tensor:
    """Every pixel's features brought to length 1; a pixel without any stays 0."""
    unit: Tensor = features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + 1e-10)
    return unit


def _read(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of these names and shapes, in float64."""
    held, read = _tensors(path, shapes), {}
    for name, shape in shapes.items():
        if name not in held:
            raise Refused(f"{path}: no tensor {name!r}, expected one of shape {list(shape)}")
        tensor = held[name]
        if not _dense_floats(tensor) or tensor.shape != shape:
            given = f"{tensor.dtype}{list(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise Refused(f"{path}: {name!r} is {given}, expected dense floats of shape {list(shape)}")
        read[name] = tensor.detach().double()
        if not torch.isfinite(read[name]).all():
            raise Refused(f"{path}: {name!r} holds NaN or Inf")
        if name in HEADS and (read[name] < 0).any():
            raise Refused(f"{path}: {name!r} holds a negative weight, which makes no distance")
    return read


def _dense_floats(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.layout == torch.strided
        and value.device.type == "cpu"
    )


def _tensors(path: Path, names: Iterable[str]) -> dict[str, Tensor]:
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise Refused(f"{path}: expected a file .safetensors, .pt or .pth with the weights of LPIPS")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in set(names).intersection(file.keys())}
        held = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise Refused(f"{path}: cannot be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise Refused(f"{path}: damaged: {error}") from None
    except DAMAGE:
        raise Refused(f"{path}: damaged, or holds more than tensors") from None
    if not isinstance(held, dict):
        raise Refused(f"{path}: holds {type(held).__name__}, expected tensors by name")
    return held
