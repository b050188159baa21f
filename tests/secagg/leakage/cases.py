"""Tiny real cases: handwritten digits of 8x8, and networks that see them."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

SHAPE = (1, 8, 8)


def digits(count: int, *, first: int = 0) -> tuple[Tensor, Tensor]:
    raw = load_digits()
    images = torch.from_numpy(raw.images[first : first + count, None]).float() / 16
    return images, torch.from_numpy(raw.target[first : first + count]).long()


def cnn(*, seed: int = 0, norm: bool = False) -> nn.Sequential:
    """Convolutions with ReLU, and a linear layer."""
    torch.manual_seed(seed)
    middle: list[nn.Module] = [nn.BatchNorm2d(8)] if norm else []
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), *middle, nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(1024, 10),
    )  # fmt: skip


def mlp(*, seed: int = 0, width: int = 128, bias: bool = True, outputs: int = 10) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), Centre(), nn.Linear(64, width, bias=bias), nn.ReLU(), nn.Linear(width, outputs))


def smooth(*, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 12, 5, padding=2), nn.Sigmoid(), nn.Flatten(), nn.Linear(768, 10))


class Centre(nn.Module):
    """A fixed normalisation, as models have it."""

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - 0.3) / 0.4
