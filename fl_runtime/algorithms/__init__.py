"""Federated algorithms: one file, one class each, chosen by `name` in the experiment's [algorithm]."""

from typing import Annotated

from pydantic import Field

from fl_runtime.algorithms.algorithm import Algorithm
from fl_runtime.algorithms.fedavg import FedAvg
from fl_runtime.algorithms.fedprox import FedProx

AnyAlgorithm = Annotated[FedAvg | FedProx, Field(discriminator="name")]

__all__ = ["Algorithm", "AnyAlgorithm", "FedAvg", "FedProx"]
