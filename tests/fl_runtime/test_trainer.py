import numpy as np
import pytest
import torch
from torch import nn

from fl_runtime.algorithms import FedAvg, FedProx
from fl_runtime.data import Rows
from fl_runtime.models import Mlp, SmallCnn, build
from fl_runtime.trainer import Trainer, classification_loss
from fl_runtime.training import Training
from secagg.errors import Refused


def some_rows(count=23, shape=(1, 8, 8), classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return Rows(rng.normal(size=(count, *shape)).astype(np.float32), rng.integers(0, classes, count))


def slow_twin(model, rows, training, *, mu, seed):
    """The obvious loop: one optimiser over the module's own parameters, the proximal term in the loss."""
    start = [p.detach().clone() for p in model.parameters()]
    features, labels = torch.tensor(rows.features), torch.tensor(rows.labels)
    if training.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=training.lr)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=training.lr, momentum=training.momentum)
    steps = 0
    limit = training.local_steps or training.local_epochs * -(-len(rows) // training.batch_size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        while steps < limit:
            order = torch.randperm(len(rows))
            for first in range(0, len(rows), training.batch_size):
                if steps == limit:
                    break
                batch = order[first : first + training.batch_size]
                optimizer.zero_grad()
                loss = classification_loss(model(features[batch]), labels[batch])
                distance = sum(((p - s) ** 2).sum() for p, s in zip(model.parameters(), start, strict=True))
                (loss + mu / 2 * distance).backward()
                optimizer.step()
                steps += 1
    deltas = [(p.detach() - s).numpy() for p, s in zip(model.parameters(), start, strict=True)]
    return dict(zip([name for name, _ in model.named_parameters()], deltas, strict=True)), steps


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        (Training(local_epochs=2, batch_size=5, lr=0.1), 10),
        (Training(local_epochs=1, batch_size=100, lr=0.1), 1),
        (Training(local_steps=12, batch_size=5, lr=0.05, momentum=0.9), 12),
        (Training(local_steps=3, batch_size=5, lr=0.05, momentum=0.9), 3),
        (Training(local_epochs=2, batch_size=4, optimizer="adam", lr=0.01), 12),
    ],
)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_flat_training_equals_the_obvious_loop(training, steps, classes, mu):
    rows = some_rows(classes=classes)
    trainer, twin = (
        make(build(SmallCnn(channels=(3, 4)), shape=(1, 8, 8), classes=classes, seed=4))
        for make in (Trainer, lambda module: module)
    )
    update = trainer.train(trainer.weights(), rows, training=training, algorithm=FedProx(mu=mu), seed=11)
    expected, taken = slow_twin(twin, rows, training, mu=mu, seed=11)
    assert update.steps == taken == steps
    assert update.rows == 23
    assert list(update.delta) == list(expected)
    for name, delta in update.delta.items():
        assert delta.dtype == np.float32
        assert np.abs(delta).max() > 0
        np.testing.assert_allclose(delta, expected[name], atol=2e-6)


def test_same_arguments_same_bits_whatever_came_between():
    rows, training = some_rows(), Training(local_epochs=2, batch_size=5, lr=0.1, momentum=0.9)
    trainer = Trainer(build(Mlp(hidden=(6,)), shape=(1, 8, 8), classes=3, seed=0))
    weights = trainer.weights()

    def train(seed):
        return trainer.train(weights, rows, training=training, algorithm=FedAvg(), seed=seed)

    first = train(1)
    kept = {name: delta.copy() for name, delta in first.delta.items()}
    other = train(2)
    trainer.predict(weights, rows.features)
    torch.manual_seed(77)
    again = train(1)
    assert all(np.array_equal(kept[name], again.delta[name]) for name in kept)
    assert all(np.array_equal(kept[name], first.delta[name]) for name in kept), "an update must not be overwritten"
    assert any(not np.array_equal(kept[name], other.delta[name]) for name in kept)
    assert first.loss == again.loss


def test_global_random_state_and_threads_are_left_alone():
    trainer = Trainer(nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 3)))
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    training = Training(local_epochs=1, lr=0.1)
    one, two = (
        trainer.train(trainer.weights() | WEIGHTS, some_rows(), training=training, algorithm=FedAvg(), seed=3)
        for _ in range(2)
    )
    assert np.array_equal(one.delta["2.weight"], two.delta["2.weight"]), "dropout must follow the seed"
    assert torch.equal(state, torch.get_rng_state())
    assert threads == torch.get_num_threads()


WEIGHTS = {"2.weight": np.zeros((3, 64), np.float32), "2.bias": np.zeros(3, np.float32)}


def test_training_changes_neither_rows_nor_global_weights():
    rows = some_rows()
    trainer = Trainer(build(Mlp(), shape=(1, 8, 8), classes=3, seed=0))
    weights = trainer.weights()
    copies = [array.copy() for array in (*weights.values(), rows.features)]
    trainer.train(weights, rows, training=Training(local_epochs=1, lr=0.5), algorithm=FedAvg(), seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(copies, (*weights.values(), rows.features), strict=True))


def test_local_steps_go_through_every_row_before_any_comes_again():
    seen = []

    class Spy(nn.Linear):
        def forward(self, x):
            seen.extend(x[:, 0].int().tolist())
            return super().forward(x)

    rows = Rows(np.arange(10, dtype=np.float32)[:, None], np.zeros(10, np.int64))
    training = Training(local_steps=5, batch_size=4, lr=1e-3)
    trainer = Trainer(Spy(1, 1))
    trainer.train(trainer.weights(), rows, training=training, algorithm=FedAvg(), seed=0)
    assert sorted(seen[:10]) == list(range(10))
    assert len(seen) == 18
    assert len(set(seen[10:])) == 8
    assert seen[:8] != seen[10:]


def test_probabilities_of_one_and_of_many_logits():
    rows = some_rows(count=2100, shape=(4,))
    for classes in (2, 5):
        module = build(Mlp(), shape=(4,), classes=classes, seed=0)
        trainer = Trainer(module)
        probabilities = trainer.predict(trainer.weights(), rows.features)
        assert probabilities.shape == (2100, classes)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
        logits = module(torch.tensor(rows.features)).detach()
        expected = torch.sigmoid(logits[:, 0]) if classes == 2 else logits.softmax(dim=1)[:, 1]
        np.testing.assert_allclose(probabilities[:, 1], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "'1.running_mean'.*GroupNorm"),
        (nn.Linear(2, 2, dtype=torch.float64), "float32"),
        (nn.ReLU(), "at least one"),
    ],
)
def test_models_that_cannot_be_trained_so_are_refused(module, says):
    with pytest.raises(Refused, match=says):
        Trainer(module)


def test_no_rows_and_foreign_weights_are_refused():
    trainer = Trainer(nn.Linear(2, 1))
    empty = Rows(np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
    training = Training(local_epochs=1)
    with pytest.raises(Refused, match=r"no rows"):
        trainer.train(trainer.weights(), empty, training=training, algorithm=FedAvg(), seed=0)
    for bad in ({}, {"weight": np.zeros((1, 3), np.float32), "bias": np.zeros(1, np.float32)}):
        with pytest.raises(Refused, match=r"names or shapes"):
            trainer.predict(bad, empty.features)
