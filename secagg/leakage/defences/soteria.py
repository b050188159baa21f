"""Soteria: hide the features that tell most about the image.

Sun et al. 2021, "Soteria: Provable Defense against Privacy Leakage in Federated Learning from Representation
Perspective" (arXiv 2012.06043).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from secagg.leakage.attack import Observation
from secagg.leakage.defences.defence import Defence, hide
from secagg.leakage.layers import head_name
from secagg.leakage.parameters import Share, check


@dataclass(frozen=True)
class Soteria(Defence):
    """The columns of the last layer's gradient are set to zero for the `share` of features r with the largest
    |r| / |dr/dx|, on average over the batch. All other layers are shared as they are.

    The adversary knows the columns by their zeros, and does without them (Balunović et al. 2022, arXiv 2111.04706).
    """

    share_hidden: Share = 0.5

    name: ClassVar[str] = "soteria"

    def __post_init__(self) -> None:
        check(self)

    def share(self, seen: Observation, images: Tensor, chance: torch.Generator) -> Observation:
        """See `Defence`. `Unsupported` for a model that does not end in a linear layer."""
        name = head_name(seen.model, seen.shape, what=self.name)
        score = telling(seen.model, name, images)
        columns = score.topk(round(self.share_hidden * len(score))).indices
        visible = [torch.ones_like(g, dtype=torch.bool) for g in seen.gradient]
        names = [parameter for parameter, _ in seen.model.named_parameters()]
        visible[names.index(f"{name}.weight" if name else "weight")][:, columns] = False
        return hide(seen, visible)


def telling(model: nn.Module, head: str, images: Tensor) -> Tensor:
    """|r| / |dr/dx| of each feature that enters the layer `head`, the mean over the images: shape `(features,)`.

    A feature that is 0 tells nothing.
    """
    model = copy.deepcopy(model).eval()
    entered: list[Tensor] = []
    model.get_submodule(head).register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    leaf = images.detach().clone().requires_grad_()
    model(leaf)
    features = entered[0]
    scores = torch.zeros_like(features)
    for index in range(features.shape[1]):
        # Examples do not mix in eval mode, so that one pass serves the batch.
        (slope,) = torch.autograd.grad(features[:, index].sum(), leaf, retain_graph=True)
        length = slope.flatten(1).norm(dim=1)
        value = features[:, index].detach().abs()
        scores[:, index] = torch.where(value > 0, value / length.clamp(min=1e-12), 0)
    return scores.mean(0)
