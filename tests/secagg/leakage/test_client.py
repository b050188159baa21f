from __future__ import annotations

import pytest
import torch
from torch import nn

from secagg.errors import Refused
from secagg.leakage import LocalTraining, class_loss, observe
from secagg.leakage.statistics import batch_statistics
from tests.secagg.leakage.cases import cnn, digits, mlp


def test_a_gradient_is_that_of_the_mean_loss_and_the_model_is_left_alone() -> None:
    images, labels = digits(3)
    model = cnn(norm=True).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = observe(model, images, labels)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    class_loss(model(images), labels).backward()
    for parameter, gradient in zip(model.parameters(), seen.gradient, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_one_full_batch_of_local_training_is_the_gradient_times_the_rate() -> None:
    images, labels = digits(3)
    model = cnn()
    step = observe(model, images, labels, local=LocalTraining(epochs=1, batch_size=3, lr=0.5))
    for update, gradient in zip(step.gradient, observe(model, images, labels).gradient, strict=True):
        torch.testing.assert_close(update, 0.5 * gradient, atol=1e-6, rtol=1e-4)


def test_local_training_equals_torch_sgd_on_the_same_batches() -> None:
    images, labels = digits(1)
    model = mlp()
    seen = observe(model, images, labels, local=LocalTraining(epochs=3, batch_size=1, lr=0.1))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        class_loss(model(images), labels).backward()
        optimizer.step()
    for update, old, new in zip(seen.gradient, before, model.parameters(), strict=True):
        torch.testing.assert_close(update, old - new.detach())


def test_a_seed_repeats_the_models_own_draws_and_spares_the_global_state() -> None:
    images, labels = digits(2)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)).train()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, same, other = (observe(model, images, labels, seed=seed).gradient[0] for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_statistics_are_those_that_enter_each_batchnorm_layer() -> None:
    images, labels = digits(4)
    model = cnn(norm=True).train()
    seen = observe(model, images, labels, know_statistics=True)
    assert seen.statistics is not None
    features = model[0](images)
    ((mean, variance),) = seen.statistics
    torch.testing.assert_close(mean, features.mean((0, 2, 3)))
    torch.testing.assert_close(variance, features.var((0, 2, 3), correction=0))
    assert observe(model, images, labels).statistics is None
    assert batch_statistics(mlp(), images) == []


def test_images_out_of_range_and_missing_labels_are_refused() -> None:
    images, labels = digits(2)
    with pytest.raises(Refused, match=r"images: values from 0 to 2"):
        observe(mlp(), images * 2, labels)
    with pytest.raises(Refused, match="labels"):
        observe(mlp(), images, labels[:1])


@pytest.mark.parametrize("know_labels", [True, False])
def test_what_the_model_does_not_take_is_refused_in_a_line(know_labels: bool) -> None:
    images, labels = digits(2)
    for wrong, message in (
        (torch.tensor([0, 10]), "labels run from 0 to 10, the model has classes 0 to 9"),
        (torch.tensor([-1, 0]), "labels run from -1"),
        (labels.float(), r"labels is torch.float32\[2\], expected int64"),
    ):
        with pytest.raises(Refused, match=message):
            observe(mlp(), images, wrong, know_labels=know_labels)
    with pytest.raises(Refused, match=r"images: the model does not take examples of shape \[3, 8, 8\]"):
        observe(cnn(), images.expand(2, 3, 8, 8), labels, know_labels=know_labels)
    with pytest.raises(Refused, match=r"images: dtype torch.float64, expected that of the model"):
        observe(mlp(), images.double(), labels, know_labels=know_labels)
