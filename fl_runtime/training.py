"""Settings of local training."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fl_runtime.section import Section

Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Training(Section):
    """How a client trains in one round.

    Exactly one of `local_epochs` (passes over the client's rows, a smaller last batch included) and
    `local_steps` (optimiser steps; batches as in epochs, reshuffled whenever the rows are exhausted) is set.
    A `batch_size` of at least the client's rows is the full batch. Optimiser state lives for one round.
    """

    local_epochs: Count | None = None
    local_steps: Count | None = None
    batch_size: Count = 32
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: Annotated[float, Field(gt=0, le=1e3)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> Training:
        if (self.local_epochs is None) == (self.local_steps is None):
            raise ValueError("set exactly one of local_epochs and local_steps")
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum belongs to optimizer 'sgd', not to {self.optimizer!r}")
        return self

    def steps(self, rows: int) -> int:
        """The optimiser steps of a client with so many rows in one round."""
        return self.local_steps or math.ceil(rows / self.batch_size) * (self.local_epochs or 1)
