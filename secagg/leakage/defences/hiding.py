"""Sharing less: pruning, the head alone, or part of the coordinates under encryption.

The adversary knows which coordinates it sees. For pruning that is no extra assumption: they are the ones that are not
zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from secagg.leakage.attack import Observation
from secagg.leakage.defences.defence import Defence, hide
from secagg.leakage.layers import head_name
from secagg.leakage.parameters import Share, check


@dataclass(frozen=True)
class Pruning(Defence):
    """The `share` of coordinates that are smallest in size is set to zero (Zhu et al. 2019; Aji & Heafield 2017)."""

    share_pruned: Share

    name: ClassVar[str] = "pruning"

    def __post_init__(self) -> None:
        check(self)

    def share(self, seen: Observation, images: Tensor, chance: torch.Generator) -> Observation:
        """See `Defence`."""
        return hide(seen, largest(seen, 1 - self.share_pruned))


@dataclass(frozen=True)
class HeadSharing(Defence):
    """Only the last linear layer is shared; the others stay with the client or are frozen."""

    name: ClassVar[str] = "head-sharing"

    def share(self, seen: Observation, images: Tensor, chance: torch.Generator) -> Observation:
        """See `Defence`. `Unsupported` for a model that does not end in a linear layer."""
        prefix = head_name(seen.model, seen.shape, what=self.name)
        names = [name for name, _ in seen.model.named_parameters()]
        shared = [name.rpartition(".")[0] == prefix for name in names]
        return hide(seen, [torch.full_like(g, s, dtype=torch.bool) for g, s in zip(seen.gradient, shared, strict=True)])


@dataclass(frozen=True)
class SelectiveEncryption(Defence):
    """A share of the coordinates is encrypted and unseen: those largest in size, or any.

    "largest" goes by the client's own update: the best choice that a sensitivity map could approach. A real mask is
    agreed on before, and hides somewhat less (Jin et al. 2023, FedML-HE, arXiv 2303.10837).
    """

    share_encrypted: Share
    chosen: Literal["largest", "random"] = "largest"

    name: ClassVar[str] = "selective-encryption"

    def __post_init__(self) -> None:
        check(self)

    def share(self, seen: Observation, images: Tensor, chance: torch.Generator) -> Observation:
        """See `Defence`."""
        if self.chosen == "largest":
            return hide(seen, [~mask for mask in largest(seen, self.share_encrypted)])
        size = sum(g.numel() for g in seen.gradient)
        open_ = torch.ones(size, dtype=torch.bool)
        open_[torch.randperm(size, generator=chance)[: round(self.share_encrypted * size)]] = False
        return hide(seen, _like(open_, seen))


def largest(seen: Observation, share: float) -> list[Tensor]:
    """Masks of the `share` of coordinates that are largest in size, over all parameters together."""
    sizes = torch.cat([g.abs().flatten() for g in seen.gradient])
    mask = torch.zeros(len(sizes), dtype=torch.bool)
    mask[sizes.topk(round(share * len(sizes))).indices] = True
    return _like(mask, seen)


def _like(flat: Tensor, seen: Observation) -> list[Tensor]:
    parts = torch.split_with_sizes(flat, [g.numel() for g in seen.gradient])
    return [part.reshape(g.shape) for part, g in zip(parts, seen.gradient, strict=True)]
