"""Plain federated rounds in numpy: no protocol, no encoding. What every protected run is compared with."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fl_runtime import models
from fl_runtime.data import Federation
from fl_runtime.metrics import Evaluation, evaluate
from fl_runtime.seeds import derive
from fl_runtime.trainer import Trainer


def plain_round(trainer, weights, clients, *, training, algorithm, seed):
    """One round over `(name, rows)` pairs: the mean in float64, weighted by rows."""
    updates = [
        trainer.train(weights, rows, training=training, algorithm=algorithm, seed=derive(seed, "train", name))
        for name, rows in clients
    ]
    rows = sum(update.rows for update in updates)
    messages = [algorithm.message(update) for update in updates]
    mean = {
        name: (sum(u.rows * m[name].astype(np.float64) for u, m in zip(updates, messages, strict=True)) / rows)
        for name in weights
    }
    return algorithm.step(weights, {name: value.astype(np.float32) for name, value in mean.items()})


def plain_run(federation: Federation, model, *, training, algorithm, rounds: int, seed: int) -> Evaluation:
    built = models.build(model, shape=federation.shape, classes=len(federation.classes), seed=seed)
    trainer = Trainer(built)
    weights = trainer.weights()
    clients = [(client.name, client.train) for client in federation.clients]
    for number in range(rounds):
        weights = plain_round(
            trainer, weights, clients, training=training, algorithm=algorithm, seed=derive(seed, "round", number)
        )
    return evaluate(federation, lambda features: trainer.predict(weights, features))


@pytest.fixture(name="plain_round")
def _plain_round() -> Callable:
    return plain_round


@pytest.fixture(name="plain_run")
def _plain_run() -> Callable[..., Evaluation]:
    return plain_run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets named by SECAGG_DATA; the test is skipped where there is none."""
    folder = os.environ.get("SECAGG_DATA")
    if not folder:
        pytest.skip("SECAGG_DATA is not set: the folder that holds heart_disease/ and pneumoniamnist/")
    if not Path(folder).is_dir():
        pytest.skip(f"SECAGG_DATA={folder} is not a folder")
    return Path(folder)
