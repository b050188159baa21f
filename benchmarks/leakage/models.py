"""The networks that gradient inversion is measured on, by the names of the literature."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


def lenet(channels: int, classes: int, *, side: int = 32) -> nn.Sequential:
    """The smooth LeNet of Zhu et al. 2019: three 5x5 convolutions with sigmoid, weights uniform in [-0.5, 0.5]."""
    widths, strides = (channels, 12, 12, 12), (2, 2, 1)
    layers: list[nn.Module] = []
    for before, after, stride in zip(widths[:-1], widths[1:], strides, strict=True):
        layers += [nn.Conv2d(before, after, 5, padding=2, stride=stride), nn.Sigmoid()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12 * (side // 4) ** 2, classes))
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    return model


def convnet(channels: int, classes: int, *, width: int = 16) -> nn.Sequential:
    """The ConvNet of Geiping et al. 2020 for 32x32: eight 3x3 convolutions with BatchNorm, two pools, one head."""
    layers: list[nn.Module] = []
    before = channels
    for times in (1, 2, 2, 4, 4, 4):
        layers += _block(before, times * width)
        before = times * width
    layers.append(nn.MaxPool2d(3))
    for times in (4, 4):
        layers += _block(before, times * width)
        before = times * width
    return nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), nn.Linear(36 * width, classes))


def _block(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]


class ResNet18(nn.Module):
    """ResNet-18 (He et al. 2016) with its 11 million parameters; `stem` 3 for small images, 7 with a pool for large."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        widths = (64, 64, 128, 256, 512)
        blocks: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            blocks += [_Residual(before, after, 1 if before == after else 2), _Residual(after, after, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(512, classes)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.stem(images))
        return torch.as_tensor(self.head(features.mean((2, 3))))


class _Residual(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.short: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.short = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.body(features) + self.short(features))


class Normalised(nn.Sequential):
    """A model behind a fixed normalisation by the public mean and deviation of each channel."""

    def __init__(self, mean: Tensor, std: Tensor, model: nn.Module) -> None:
        super().__init__(_Normalisation(mean, std), model)


class _Normalisation(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("std", std[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std
