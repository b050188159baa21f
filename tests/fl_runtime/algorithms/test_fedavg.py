import numpy as np
import pytest
import torch

from fl_runtime.algorithms import Algorithm, FedAvg, FedProx
from fl_runtime.data import Rows
from fl_runtime.models import Mlp, build
from fl_runtime.trainer import Trainer, classification_loss
from fl_runtime.training import Training
from fl_runtime.update import LocalUpdate


class Quadratic(torch.nn.Module):
    """f(x) = a/2 (x - b)^2 for a row (a, b): the output is the loss itself."""

    def __init__(self):
        super().__init__()
        self.x = torch.nn.Parameter(torch.zeros(1))

    def forward(self, rows):
        return rows[:, 0] / 2 * (self.x - rows[:, 1]) ** 2


def fixed_point(algorithm, plain_round, rounds=150):
    """Problem Q: f1 = x^2/2, f2 = 9 (x - 1)^2/2, equal weights, lr 0.05, 20 local steps; the optimum is 0.9."""
    trainer = Trainer(Quadratic(), loss=lambda outputs, labels: outputs.mean())
    sites = {"f1": (1.0, 0.0), "f2": (9.0, 1.0)}
    clients = [(name, Rows(np.array([row], np.float32), np.zeros(1, np.int64))) for name, row in sites.items()]
    weights = trainer.weights()
    training = Training(local_steps=20, batch_size=1, lr=0.05)
    for _ in range(rounds):
        weights = plain_round(trainer, weights, clients, training=training, algorithm=algorithm, seed=0)
    return float(weights["x"][0])


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [(FedAvg(), 0.6092), (FedProx(mu=0.0), 0.6092), (FedProx(mu=1.0), 0.6720), (FedProx(mu=10.0), 0.8390)],
)
def test_fixed_points_of_problem_q(algorithm, expected, plain_round):
    assert fixed_point(algorithm, plain_round) == pytest.approx(expected, abs=5e-5)


def test_one_full_batch_step_is_the_pooled_gradient_step(plain_round):
    """FedSGD: with E = 1 and full batches, FedAvg weighted by rows equals one step on the pooled data."""
    rng = np.random.default_rng(0)
    sizes = {"a": 5, "b": 17, "c": 40}
    shards = {
        name: Rows(rng.normal(size=(n, 6)).astype(np.float32), rng.integers(0, 3, n)) for name, n in sizes.items()
    }
    trainer = Trainer(build(Mlp(hidden=(8,)), shape=(6,), classes=3, seed=1))
    weights = trainer.weights()
    training = Training(local_epochs=1, batch_size=1000, lr=0.5)
    after = plain_round(trainer, weights, shards.items(), training=training, algorithm=FedAvg(), seed=0)

    pooled = build(Mlp(hidden=(8,)), shape=(6,), classes=3, seed=1)
    features = torch.tensor(np.concatenate([rows.features for rows in shards.values()]))
    labels = torch.tensor(np.concatenate([rows.labels for rows in shards.values()]))
    classification_loss(pooled(features), labels).backward()
    for name, parameter in pooled.named_parameters():
        expected = (parameter - 0.5 * parameter.grad).detach().numpy()
        assert np.abs(expected - weights[name]).max() > 1e-3
        np.testing.assert_allclose(after[name], expected, atol=1e-6)


def test_server_step_adds_the_mean_times_the_server_rate():
    weights, mean = {"w": np.array([1, 2], np.float32)}, {"w": np.array([0.5, -1], np.float32)}
    assert FedAvg().step(weights, mean)["w"].tolist() == [1.5, 1.0]
    half = FedAvg(server_lr=0.5).step(weights, mean)["w"]
    assert half.tolist() == [1.25, 1.5]
    assert half.dtype == np.float32


def test_what_the_algorithms_declare():
    for algorithm in (FedAvg(), FedProx(mu=1.0)):
        assert isinstance(algorithm, Algorithm)
        assert (algorithm.sum_only, algorithm.client_state, algorithm.requires) == (True, False, ())
        assert any("mean" in line for line in algorithm.reveals)
    update = LocalUpdate({"w": np.ones(2, np.float32)}, rows=3, steps=4, loss=0.5)
    assert FedAvg().message(update) is update.delta
