"""Was this example trained on? Three attacks on the finished model of a real federated training.

All rows of the data are shuffled anew in each repeat; a third of those in question are members. Shadow models are
trained by the same federation, backend and defence included, on random thirds. Nothing of the protocol
helps here: the finished model is public, and only noise in the training blurs it.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from fl_runtime.data.dataset import Rows
from fl_runtime.data.federation import federate
from fl_runtime.evaluation.cells import Cell
from fl_runtime.evaluation.malicious import parameters_of
from fl_runtime.evaluation.measured import Measured
from fl_runtime.evaluation.training import run_federation
from fl_runtime.evaluation.victims import dataset
from fl_runtime.seeds import derive, generator
from secagg.errors import Refused
from secagg.leakage.membership.attacks import lira, loss_threshold, rmia
from secagg.leakage.membership.roc import Roc

POPULATION = 0.15
THIRDS = 3
RATES = (0.01, 0.001)


def infer_members(cell: Cell) -> Measured:
    """Attack the finished model of the cell's training by `method`: "loss", "lira" or "rmia".

    Raises:
        Refused: an unknown parameter or method, or too few shadow models.
    """
    chosen = parameters_of(cell, method="rmia", shadows=6, rounds=cell.world.rounds)
    method, shadows = str(chosen["method"]), int(chosen["shadows"])
    if method not in ("loss", "lira", "rmia") or shadows < 6 or shadows % THIRDS:
        raise Refused(
            f"attack 'membership': {method!r} with {shadows} shadows, expected loss, lira or rmia with 6, 9, 12 ..."
        )
    trial = _Trial(cell, rounds=int(chosen["rounds"]))
    inside = np.stack([trial.members(model) for model in range(shadows + 1)])
    losses = np.stack([trial.losses(model, members) for model, members in enumerate(inside)])
    own, others = losses[:, : trial.audited], losses[:, trial.audited :]
    if method == "loss":
        scores = loss_threshold(own[0])
    elif method == "lira":
        scores = lira(own[0], own[1:], inside[1:])
    else:
        scores = rmia(own[0], own[1:], others[0], others[1:], inside=inside[1:])
    roc = Roc.of(scores, inside[0])
    needs = ["the finished model"] + (["to train shadow models on data of the same kind"] if method != "loss" else [])
    found = Measured(success="found", enough=0.0, blind={"found": RATES[0]}, needs=needs, sees=["the finished model"])
    found.mean("auc", roc.auc())
    for fpr in RATES:
        rate = roc.at(fpr)
        if rate.tpr is None:
            found.notes.append(str(rate))
        else:
            caught = round(rate.tpr * rate.members)
            name = "found" if fpr == RATES[0] else "found_at_0.1_percent"
            found.shares[name] = [1] * caught + [0] * (rate.members - caught)
    _audit(found, scores, inside[0])
    return found


def _audit(found: Measured, scores: NDArray[np.float64], member: NDArray[np.bool_]) -> None:
    """Hits and false alarms of a threshold that was set on other rows: what a lower bound of epsilon is made of."""
    first, second = np.arange(len(scores)) % 2 == 0, np.arange(len(scores)) % 2 == 1
    threshold = np.quantile(scores[first & ~member], 1 - RATES[0], method="higher")
    for name, rows in (("audit_hit", second & member), ("audit_false_alarm", second & ~member)):
        found.shares[name] = (scores[rows] > threshold).astype(int).tolist()


class _Trial:
    """The rows in question, the population beside them, and models trained on some of the former."""

    def __init__(self, cell: Cell, *, rounds: int) -> None:
        data = dataset(cell.world.model_dump_json())
        features = np.concatenate([data.train.features, data.test.features])
        labels = np.concatenate([data.train.labels, data.test.labels])
        order = generator(cell.world.seed, "membership", cell.repeat).permutation(len(labels))
        self.rows = Rows(features[order], labels[order])
        self.audited = len(order) - int(POPULATION * len(order))
        self._cell, self._data = cell, data
        self._world = cell.world.model_copy(update={"rounds": rounds})

    def members(self, model: int) -> NDArray[np.bool_]:
        """Which rows the target (0) or a shadow is trained on: bool of shape `(audited,)`.

        Three shadows share out the rows, so that each row is in one of them.
        """
        group, third = (0, 0) if model == 0 else ((model - 1) // THIRDS + 1, (model - 1) % THIRDS)
        order = generator(self._cell.world.seed, "members", self._cell.repeat, group).permutation(self.audited)
        inside = np.zeros(self.audited, bool)
        inside[np.array_split(order, THIRDS)[third]] = True
        return inside

    def losses(self, model: int, members: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Of every row under a model that was trained on the members."""
        chosen = self.rows.take(np.flatnonzero(members))
        data = dataclasses.replace(self._data, train=chosen)
        settings, seed = self._world.data, derive(self._cell.world.seed, "member model", self._cell.repeat, model)
        federation = federate(data, settings.partition, clients=settings.count, seed=seed, arguments=settings.arguments)
        job = self._cell.training().model_copy(update={"world": self._world})
        return run_federation(job, seed=seed, federation=federation).losses(self.rows)
