"""The task of a round: everything from the server that can influence an update, as one blob of bytes.

Its digest is `RoundSpec.task`. A client computes the digest from the bytes it received and reads its work from
the same bytes, so that no setting can reach it around the spec (Pasquini et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from fl_runtime.algorithms import Algorithm, AnyAlgorithm
from fl_runtime.training import Training
from secagg import record
from secagg.errors import Refused
from secagg.settings import read_settings
from secagg.spec import task_digest

_ALGORITHM: TypeAdapter[Any] = TypeAdapter(AnyAlgorithm)


@dataclass(frozen=True)
class Task:
    """The global weights (flat float32), the algorithm and the settings of local training."""

    round: int
    weights: NDArray[np.float32] = field(repr=False)
    algorithm: Algorithm
    training: Training

    def to_bytes(self) -> bytes:
        """What the server sends to every client of the round."""
        return record.encode(
            {
                "round": self.round,
                "weights": self.weights,
                "algorithm": self.algorithm.model_dump(mode="json"),
                "training": self.training.model_dump(mode="json"),
            }
        )

    @classmethod
    def from_bytes(cls, body: bytes) -> Task:
        """Read a task. Raises `Refused` for anything but a task."""
        try:
            fields = record.decode(body)
            number, weights = fields["round"], fields["weights"]
            algorithm, training = fields["algorithm"], fields["training"]
        except (record.Malformed, KeyError) as error:
            raise Refused(f"task: not readable: {error}") from None
        if not (isinstance(weights, np.ndarray) and weights.dtype == np.float32 and weights.ndim == 1):
            raise Refused("task: expected flat float32 weights")
        try:
            chosen = _ALGORITHM.validate_python(algorithm)
        except ValueError as error:
            raise Refused(f"task: unknown algorithm: {str(error).splitlines()[0]}") from None
        return cls(number, weights, chosen, read_settings(Training, training, where="task"))


def digest_of(task: bytes) -> str:
    """The `RoundSpec.task` of these bytes."""
    return task_digest(task)


def model_digest(task: bytes) -> str:
    """The digest of the weights in a task and of what is done with them: the same in whatever round they come again."""
    fields = record.decode(task)
    return task_digest(b"model", str(fields.get("measure", "update")).encode(), fields["weights"].tobytes())
