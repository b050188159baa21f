"""Defences that change the model: dropout, PRECODE's bottleneck, and BatchNorm statistics that stay at home."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from secagg.leakage.attack import Observation, Unsupported
from secagg.leakage.defences.defence import Defence
from secagg.leakage.layers import head_name
from secagg.leakage.parameters import Count, Share, check
from secagg.leakage.stochastic import VariationalBottleneck


@dataclass(frozen=True)
class Dropout(Defence):
    """Dropout in front of the last linear layer: its mask changes the gradient, in train mode only.

    An attack looks for the mask beside the images (Scheliga et al. 2023, arXiv 2208.06163).
    """

    p: Share = 0.5

    name: ClassVar[str] = "dropout"

    def __post_init__(self) -> None:
        check(self)

    def model(self, model: nn.Module, *, shape: tuple[int, ...], seed: int) -> nn.Module:
        """See `Defence`. `Unsupported` for a model that does not end in a linear layer."""
        return _before_head(model, nn.Dropout(self.p), head_name(model, shape, what=self.name))


@dataclass(frozen=True)
class Precode(Defence):
    """A variational bottleneck of `width` in front of the last linear layer; it draws noise in every pass.

    Scheliga et al. 2022 (arXiv 2108.04725), without the term of their loss that keeps the noise large. An attack looks
    for the noise beside the images (after Balunović et al. 2022, arXiv 2111.04706).
    """

    width: Count = 256

    name: ClassVar[str] = "precode"

    def __post_init__(self) -> None:
        check(self)

    def model(self, model: nn.Module, *, shape: tuple[int, ...], seed: int) -> nn.Module:
        """See `Defence`. `Unsupported` for a model that does not end in a linear layer."""
        name = head_name(model, shape, what=self.name)
        features = model.get_submodule(name).in_features
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            bottleneck = VariationalBottleneck(int(features), self.width)  # type: ignore[arg-type]
        return _before_head(model, bottleneck.to(next(model.parameters()).dtype), name)


@dataclass(frozen=True)
class WithheldStatistics(Defence):
    """The running statistics of BatchNorm layers stay with the client (SiloBN: Andreux et al. 2020; FedBN: Li et al.
    2021).

    The adversary has the weights only. It takes the statistics from its own candidates, or assumes the initial ones.
    """

    assumed: Literal["candidates", "initial"] = "candidates"

    name: ClassVar[str] = "withheld-statistics"

    def __post_init__(self) -> None:
        check(self)

    def share(self, seen: Observation, images: Tensor, chance: torch.Generator) -> Observation:
        """See `Defence`. `Unsupported` for a model without BatchNorm."""
        model = copy.deepcopy(seen.model)
        layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if not layers:
            raise Unsupported(f"{self.name}: the model has no BatchNorm layer, expected at least one")
        for layer in layers:
            layer.reset_running_stats()
            if self.assumed == "candidates":
                layer.train()
        return replace(seen, model=model, statistics=None)


def _before_head(model: nn.Module, layer: nn.Module, name: str) -> nn.Module:
    model = copy.deepcopy(model)
    layer.train(model.training)
    head = model.get_submodule(name)
    if not name:
        return nn.Sequential(layer, head).train(model.training)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Sequential(layer, head))
    return model
