"""How good a model is: loss, accuracy and AUC, over all test rows and for each client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fl_runtime.data.dataset import Federation

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]
SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Scores:
    """Figures over `rows` test rows. `loss` is the mean cross-entropy in nats.

    A figure that the rows do not define is None, never NaN: everything for no rows, `auc` where only one class
    occurs, `loss` and `auc` where the model has diverged.
    """

    rows: int
    loss: float | None
    accuracy: float | None
    auc: float | None


@dataclass(frozen=True)
class Evaluation:
    """`overall`: the pooled test rows of the federation; `clients`: each client's own, by name."""

    overall: Scores
    clients: Mapping[str, Scores]

    def client_mean(self, figure: Literal["loss", "accuracy", "auc"]) -> float | None:
        """The unweighted mean over the clients for which `figure` is defined; None if it is for none."""
        defined = [value for s in self.clients.values() if (value := getattr(s, figure)) is not None]
        return float(np.mean(defined)) if defined else None

    def to_json(self) -> dict[str, Any]:
        """Plain values, for metrics.jsonl."""
        return asdict(self)


def evaluate(federation: Federation, predict: Predict) -> Evaluation:
    """Score `predict` (features to class probabilities `(n, classes)`) on all test rows and on each client's."""
    clients = {c.name: score(predict(c.test.features), c.test.labels) for c in federation.clients if len(c.test)}
    empty = Scores(0, None, None, None)
    return Evaluation(
        overall=score(predict(federation.test.features), federation.test.labels),
        clients={c.name: clients.get(c.name, empty) for c in federation.clients},
    )


def score(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> Scores:
    """Scores of class probabilities, shape `(n, classes)`, against labels, shape `(n,)`."""
    if not len(labels):
        return Scores(0, None, None, None)
    accuracy = float(np.mean(probabilities.argmax(axis=1) == labels))
    if not np.isfinite(probabilities).all():
        return Scores(len(labels), None, accuracy, None)
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    loss = float(-np.log(np.maximum(true, SMALLEST_PROBABILITY)).mean())
    return Scores(len(labels), loss, accuracy, area_under_curve(probabilities, labels))


def area_under_curve(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> float | None:
    """Area under the ROC curve: of class 1 for two classes, else the plain mean of one class against the rest.

    The mean is over the classes that occur; None if fewer than two do.
    """
    from sklearn.metrics import roc_auc_score

    present = np.unique(labels)
    if len(present) < 2:
        return None
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(labels, probabilities[:, 1]))
    return float(np.mean([roc_auc_score(labels == label, probabilities[:, label]) for label in present]))
