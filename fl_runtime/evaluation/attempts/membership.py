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
from fl_runtime.evaluation.attempts.measured import Attempt, Measured
from fl_runtime.evaluation.attempts.training import Trained, run_federation
from fl_runtime.evaluation.matrix.catalogue import build_attack
from fl_runtime.evaluation.matrix.cells import Cell
from fl_runtime.evaluation.matrix.world import dataset
from fl_runtime.seeds import derive, generator
from secagg.leakage.membership.attacks import lira, loss_threshold, rmia
from secagg.leakage.membership.roc import Roc

POPULATION = 0.15
THIRDS = 3
RATES = (0.01, 0.001)


def infer_members(cell: Cell) -> Measured:
    """Attack the finished model of the cell's training.

    Success is told with a threshold that is set on half of the rows, at one false alarm in a hundred, and tried on the
    others: what it finds of the members there, and how often it is wrong about non-members. Chosen and tried on the
    same rows it would look better than it is.
    """
    chosen = build_attack(cell.attack.kind, cell.attack.parameters)
    trial = _Trial(cell, rounds=chosen.rounds or cell.world.rounds)
    inside = np.stack([trial.members(model) for model in range(chosen.shadows + 1)])
    target = trial.train(0, inside[0])
    shadows = [trial.train(model, members) for model, members in enumerate(inside[1:], 1)]
    losses = np.stack([trained.losses(trial.rows) for trained in (target, *shadows)])
    own, others = losses[:, : trial.audited], losses[:, trial.audited :]
    needs = ["the finished model"]
    if chosen.method == "loss":
        scores = loss_threshold(own[0])
    elif chosen.method == "lira":
        scores = lira(own[0], own[1:], inside[1:])
    else:
        scores = rmia(own[0], own[1:], others[0], others[1:], inside=inside[1:])
    if chosen.method != "loss":
        needs.append("to train shadow models on data of the same kind")
    roc = Roc.of(scores, inside[0])
    rates = {f"tpr_at_{100 * fpr:g}_percent": roc.at(fpr) for fpr in RATES}
    attempt = Attempt(
        "the finished model",
        means={"auc": [roc.auc()]} | {name: [rate.tpr] for name, rate in rates.items() if rate.tpr is not None},
        shares=_held_out(scores, inside[0]),
        notes=(
            f"attacked: a model of its own, trained for {trial.rounds} rounds on {inside[0].sum()} rows",
            *(str(rate) for rate in rates.values() if rate.inconclusive),
        ),
    )
    return Measured.of(
        [attempt], needs=needs, by_chance=RATES[0], curves={"roc": roc.log_points()}, spent=target.spent(trial.rounds)
    )


def _held_out(scores: NDArray[np.float64], member: NDArray[np.bool_]) -> dict[str, list[int]]:
    first = np.arange(len(scores)) % 2 == 0
    threshold = np.quantile(scores[first & ~member], 1 - RATES[0], method="higher")
    tried = {"found": ~first & member, "false_alarms": ~first & ~member}
    return {name: (scores[rows] > threshold).astype(int).tolist() for name, rows in tried.items()}


class _Trial:
    """The rows in question, the population beside them, and models trained on some of the former."""

    def __init__(self, cell: Cell, *, rounds: int) -> None:
        data = dataset(cell.world)
        features = np.concatenate([data.train.features, data.test.features])
        labels = np.concatenate([data.train.labels, data.test.labels])
        order = generator(cell.world.seed, "membership", cell.repeat).permutation(len(labels))
        self.rows = Rows(features[order], labels[order])
        self.audited = len(order) - int(POPULATION * len(order))
        self._cell, self._data, self.rounds = cell, data, rounds
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

    def train(self, model: int, members: NDArray[np.bool_]) -> Trained:
        """A model on the members."""
        chosen = self.rows.take(np.flatnonzero(members))
        seed = derive(self._cell.world.seed, "member model", self._cell.repeat, model)
        job = self._cell.training().model_copy(update={"world": self._world})
        return run_federation(job, dataclasses.replace(self._data, train=chosen), seed=seed)
