"""Training on transformed images, so that what leaks is not the original.

Gao et al. 2021, "Privacy-preserving Collaborative Learning with Automatic Transformation Search" (arXiv 2011.12505).
The policies here are fixed: the paper's search for the policy with the best score is not done.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from secagg.errors import Refused
from secagg.leakage.defences.defence import Defence
from secagg.leakage.parameters import check

Policy = Literal["flip", "shift", "rotate", "contrast", "invert"]


@dataclass(frozen=True)
class Transformation(Defence):
    """Each image is changed by chance: the policies in turn, with parameters of its own.

    `flip`: left and right, or not. `shift`: by up to a quarter of the image, black behind. `rotate`: by up to 45
    degrees. `contrast`: by a factor from 0.3 to 1 around the image's mean. `invert`: black for white, or not.

    An attack reconstructs the transformed image, at full quality; whether that still tells who it is has to be measured
    by identification, not by PSNR against the original.
    """

    policies: tuple[Policy, ...] = ("flip", "shift", "contrast")

    name: ClassVar[str] = "transformation"

    def __post_init__(self) -> None:
        check(self)

    def examples(self, images: Tensor, value_range: tuple[float, float], chance: torch.Generator) -> Tensor:
        """See `Defence`. Images of shape `(n, channels, height, width)`."""
        if images.dim() != 4:
            raise Refused(f"{self.name}: expected images (n, channels, height, width), got {list(images.shape)}")
        low, high = value_range
        unit = (images - low) / (high - low)
        for policy in self.policies:
            unit = _apply(policy, unit, torch.rand((2, len(images)), generator=chance).to(unit.dtype))
        return (unit * (high - low) + low).clamp(low, high)

    def variants(self, images: Tensor, value_range: tuple[float, float]) -> Iterator[Tensor]:
        """Every combination of the policies on a grid: shifts at most a pixel apart, angles at most 5 degrees.

        Contrast is left as it is, since correlation does not change with it.
        """
        low, high = value_range
        steps = [_grid(policy, images.shape[2:]) for policy in self.policies if policy != "contrast"]
        for numbers in itertools.product(*steps):
            unit = (images - low) / (high - low)
            chosen = (policy for policy in self.policies if policy != "contrast")
            for policy, pair in zip(chosen, numbers, strict=True):
                unit = _apply(policy, unit, torch.tensor(pair, dtype=unit.dtype)[:, None].expand(2, len(images)))
            yield (unit * (high - low) + low).clamp(low, high)


def _grid(policy: Policy, sides: tuple[int, ...]) -> list[tuple[float, float]]:
    """The uniform numbers of a policy that stand for all it can do."""
    if policy in ("flip", "invert"):
        return [(0.25, 0.0), (0.75, 0.0)]
    if policy == "rotate":
        return [(turn, 0.0) for turn in torch.linspace(0, 1, 19).tolist()]
    # Half the image from end to end; a small image is shifted by less than its pixels.
    across, down = (torch.linspace(0, 1, max(17, side // 2 + 1)).tolist() for side in reversed(sides))
    return list(itertools.product(across, down))


def _apply(policy: Policy, images: Tensor, uniform: Tensor) -> Tensor:
    """One policy, on images in [0, 1], with two uniform numbers an image: shape `(2, n)`."""
    first, second = uniform
    if policy == "flip":
        return torch.where(first[:, None, None, None] < 0.5, images.flip(3), images)
    if policy == "invert":
        return torch.where(first[:, None, None, None] < 0.5, 1 - images, images)
    if policy == "contrast":
        mean = images.mean((1, 2, 3), keepdim=True)
        flatter: Tensor = mean + (images - mean) * (0.3 + 0.7 * first)[:, None, None, None]
        return flatter
    zero, one = torch.zeros_like(first), torch.ones_like(first)
    if policy == "shift":
        # The image is two units wide.
        rows = [one, zero, first - 0.5, zero, one, second - 0.5]
    else:
        angle = (2 * first - 1) * (math.pi / 4)
        rows = [angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero]
    grid = F.affine_grid(torch.stack(rows, 1).reshape(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
