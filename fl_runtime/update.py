"""What local training gives back, before an algorithm decides what of it leaves the client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class LocalUpdate:
    """One client's round: `delta` is local minus global weights, named float32 tensors.

    `rows` is the number of training rows (the weight of a weighted mean), `steps` the optimiser steps taken, and
    `loss` the mean training loss over them, without the algorithm's own terms. Nothing but what the algorithm's
    `message` returns is meant to leave the client.
    """

    delta: Tensors = field(repr=False)
    rows: int
    steps: int
    loss: float
