import math

import numpy as np
import pytest

from fl_runtime.data import Client, Federation, Rows
from fl_runtime.metrics import Scores, area_under_curve, evaluate, score


def pairwise_auc(scores, positive):
    """The definition: how often a positive outranks a negative, ties counting half."""
    above = scores[positive][:, None] - scores[~positive][None, :]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def probabilities(rows, classes, seed=0):
    raw = np.random.default_rng(seed).integers(1, 9, size=(rows, classes)).astype(np.float64)
    return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)


def test_binary_auc_is_the_pairwise_definition():
    p, labels = probabilities(60, 2), np.random.default_rng(1).integers(0, 2, 60)
    assert area_under_curve(p, labels) == pytest.approx(pairwise_auc(p[:, 1], labels == 1))


def test_multiclass_auc_is_the_mean_over_the_classes_that_occur():
    p, labels = probabilities(60, 4), np.random.default_rng(1).integers(0, 3, 60)
    expected = np.mean([pairwise_auc(p[:, c], labels == c) for c in range(3)])
    assert area_under_curve(p, labels) == pytest.approx(expected)


def test_loss_and_accuracy():
    p = np.array([[0.5, 0.5], [0.25, 0.75], [0.8, 0.2]], np.float32)
    scores = score(p, np.array([1, 1, 1]))
    assert scores.loss == pytest.approx(-(math.log(0.5) + math.log(0.75) + math.log(0.2)) / 3, rel=1e-6)
    assert scores.accuracy == pytest.approx(1 / 3)
    assert scores.auc is None, "one class has no ROC curve"
    assert scores.rows == 3


def test_certain_and_wrong_is_a_finite_loss():
    assert score(np.array([[1.0, 0.0]]), np.array([1])).loss == pytest.approx(-math.log(1e-7))


def test_undefined_figures_are_none():
    assert score(np.zeros((0, 2), np.float32), np.zeros(0, np.int64)) == Scores(0, None, None, None)
    diverged = score(np.full((4, 2), np.nan, np.float32), np.array([0, 1, 0, 1]))
    assert (diverged.loss, diverged.auc) == (None, None)


def test_evaluate_scores_the_pool_and_each_client():
    rows = Rows(np.array([[0.9], [0.2], [0.6], [0.4]], np.float32), np.array([1, 0, 1, 1]))
    parts = {"a": [0, 1], "b": [2, 3], "c": []}
    clients = tuple(Client(name, rows, rows.take(np.array(ids, np.int64))) for name, ids in parts.items())
    federation = Federation("toy", ("no", "yes"), (1,), clients, rows)
    result = evaluate(federation, lambda x: np.concatenate([1 - x, x], axis=1))
    assert result.overall.accuracy == 0.75
    assert result.overall.auc == 1.0
    assert [result.clients[name].accuracy for name in parts] == [1.0, 0.5, None]
    assert result.client_mean("accuracy") == 0.75
    assert result.client_mean("auc") == 1.0
    assert result.to_json()["clients"]["c"] == {"rows": 0, "loss": None, "accuracy": None, "auc": None}
