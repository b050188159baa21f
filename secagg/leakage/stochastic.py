"""Layers that draw: dropout with a mask that can be held, and the variational bottleneck of PRECODE.

`held` replaces the draw, so that an attack can look for what was drawn as it looks for the images.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class Drawing(Protocol):
    """A layer with a draw of its own in each pass in train mode; `held`, where given, takes its place."""

    held: Tensor | None


class HeldDropout(nn.Module):
    """Dropout with probability `p`, or multiplication with `held`, of the input's shape."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.held: Tensor | None = None

    def forward(self, features: Tensor) -> Tensor:
        if self.held is not None:
            return features * self.held
        return torch.dropout(features, self.p, self.training)


class VariationalBottleneck(nn.Module):
    """Features to a mean and a log variance, a normal draw from those, and back to features.

    Scheliga et al. 2022, PRECODE (arXiv 2108.04725). It draws in eval mode as well: its noise is the defence.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.encode = nn.Linear(features, 2 * width)
        self.decode = nn.Linear(width, features)
        self.held: Tensor | None = None

    def forward(self, features: Tensor) -> Tensor:
        mean, log_variance = self.encode(features).chunk(2, dim=1)
        noise = torch.randn_like(mean) if self.held is None else self.held
        return torch.as_tensor(self.decode(mean + noise * (log_variance / 2).exp()))
