"""FedProx (Li et al. 2020, "Federated Optimization in Heterogeneous Networks", algorithm 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fl_runtime.algorithms.algorithm import Algorithm

if TYPE_CHECKING:
    import torch


class FedProx(Algorithm):
    """FedAvg whose clients minimise f_k(y) + mu/2 ‖y - x‖², so that skewed clients drift less.

    The norm is squared: its gradient mu (y - x) is linear and vanishes at y = x. mu = 0 is FedAvg bit for bit.
    """

    name: Literal["fedprox"] = "fedprox"
    mu: Annotated[float, Field(ge=0, le=1e6)]

    def correct(self, gradient: torch.Tensor, weights: torch.Tensor, anchor: torch.Tensor) -> None:
        if self.mu:
            gradient.add_(weights - anchor, alpha=self.mu)
