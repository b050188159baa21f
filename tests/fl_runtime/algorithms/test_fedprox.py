import numpy as np
import torch

from fl_runtime.algorithms import FedAvg, FedProx
from fl_runtime.data import Rows
from fl_runtime.models import Mlp, build
from fl_runtime.trainer import Trainer
from fl_runtime.training import Training


def updates(algorithms):
    rng = np.random.default_rng(3)
    features = np.maximum(rng.normal(size=(40, 6)), 0).astype(np.float32)
    features[:, 2] = 0  # weights of a dead input: exact zeros, of either sign, among the gradients
    rows = Rows(features, rng.integers(0, 3, 40))
    trainer = Trainer(build(Mlp(hidden=(8,)), shape=(6,), classes=3, seed=1))
    weights = trainer.weights()
    training = Training(local_epochs=3, batch_size=7, lr=0.2, momentum=0.5)
    return [trainer.train(weights, rows, training=training, algorithm=a, seed=5).delta for a in algorithms]


def test_mu_zero_is_fedavg_bit_for_bit():
    average, proximal = updates([FedAvg(), FedProx(mu=0.0)])
    assert {name: delta.tobytes() for name, delta in average.items()} == {
        name: delta.tobytes() for name, delta in proximal.items()
    }


def test_a_larger_mu_keeps_the_client_nearer_to_the_global_model():
    norms = [np.sqrt(sum((d**2).sum() for d in u.values())) for u in updates([FedProx(mu=m) for m in (0, 1, 4)])]
    assert norms[0] > norms[1] > norms[2] > 0


def test_the_term_is_the_gradient_of_the_squared_norm():
    weights, anchor = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 0.0])
    gradient = torch.tensor([1.0, 1.0])
    FedProx(mu=0.5).correct(gradient, weights, anchor)
    assert gradient.tolist() == [2.5, 3.0]  # an unsquared norm would give [1.3, 1.4]
