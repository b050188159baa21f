"""What an algorithm is: a client half and a server half around one protected sum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from fl_runtime.section import Section
from fl_runtime.update import LocalUpdate, Tensors

if TYPE_CHECKING:
    import torch


class Algorithm(Section):
    """Base of all algorithms, which are also their own settings. Its methods are the sum-only recipe.

    A client sends n_k D_k and n_k through the backend, D_k being what `message` returns and n_k its rows; the
    server learns the sums, hence the mean. A subclass is one file, and says what it needs and gives away:

    Attributes:
        sum_only: True if sums of contributions suffice; False needs single ones, and a sum backend refuses it.
        client_state: True if a client keeps something from round to round.
        requires: further demands, in words, each checked by whoever can.
        reveals: what the server learns beyond the model of each round.
    """

    sum_only: ClassVar[bool] = True
    client_state: ClassVar[bool] = False
    requires: ClassVar[tuple[str, ...]] = ()
    reveals: ClassVar[tuple[str, ...]] = ("the weighted mean of the updates", "the sum of the row counts")

    name: str
    clients_per_round: Annotated[int, Field(ge=1)] | None = None
    server_lr: Annotated[float, Field(gt=0, le=1e3)] = 1.0

    def correct(self, gradient: torch.Tensor, weights: torch.Tensor, anchor: torch.Tensor) -> None:
        """Change the client's `gradient` in place, before each optimiser step.

        All three are flat float32 tensors of shape `(parameters,)`: the gradient of the batch's mean loss, the
        client's weights y, and the round's global weights x.
        """

    def message(self, update: LocalUpdate) -> Tensors:
        """Client half: the named float32 tensors to protect and send."""
        return update.delta

    def step(self, weights: Tensors, mean: Tensors) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        """Server half: the next global weights from the mean of the messages, weighted by rows."""
        rate = np.float32(self.server_lr)
        return {name: weight + rate * mean[name] for name, weight in weights.items()}
