"""FedAvg (McMahan et al. 2017, algorithm 1): the mean of local models, weighted by their rows."""

from __future__ import annotations

from typing import Literal

from fl_runtime.algorithms.algorithm import Algorithm


class FedAvg(Algorithm):
    """x <- sum p_k y_k, sent as D_k = y_k - x. The local gradient is left as it is.

    With one local full-batch step this is FedSGD, the pooled gradient step. `server_lr` other than 1 scales the
    mean update (Reddi et al. 2021, FedOpt with plain SGD).
    """

    name: Literal["fedavg"] = "fedavg"
