from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from secagg.errors import Refused
from secagg.leakage import LocalTraining, Observation, class_loss
from secagg.leakage.attack import check_images, generator
from tests.secagg.leakage.cases import SHAPE, cnn, mlp


def given(**changes: Any) -> Observation:
    model = mlp()
    fields: dict[str, Any] = {"model": model, "gradient": [torch.ones_like(p) for p in model.parameters()]}
    return Observation(**{**fields, "shape": SHAPE, "examples": 2, **changes})


def test_an_observation_knows_its_classes_and_leaves_the_model_alone() -> None:
    model = cnn(norm=True).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = Observation(model, [torch.zeros_like(p) for p in model.parameters()], SHAPE, 1)
    assert seen.classes == 10
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    two = mlp(outputs=1)
    assert Observation(two, [torch.zeros_like(p) for p in two.parameters()], SHAPE, 1).classes == 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"gradient": []}, "gradient has 0 tensors"),
        ({"examples": 0}, "examples"),
        ({"value_range": (1.0, 0.0)}, "value_range"),
        ({"value_range": (0.0, float("nan"))}, "value_range"),
        ({"labels": torch.tensor([0])}, "labels"),
        ({"labels": torch.tensor([0, 10])}, "classes 0 to 9"),
        ({"noise_std": -1.0}, "noise_std"),
        ({"visible": []}, "visible"),
    ],
)
def test_a_field_that_does_not_fit_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(Refused, match=named):
        given(**changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_refused_with_its_parameter(value: float) -> None:
    model = mlp()
    gradient = [torch.ones_like(p) for p in model.parameters()]
    gradient[1][3] = value
    with pytest.raises(Refused, match=r"gradient of '2\.bias' holds NaN or Inf"):
        given(model=model, gradient=gradient)


def test_a_gradient_of_another_shape_is_refused_with_its_parameter() -> None:
    model = mlp()
    gradient = [torch.ones_like(p) for p in model.parameters()]
    gradient[0] = gradient[0].T
    with pytest.raises(Refused, match=r"2\.weight.*\[64, 128\], not \[128, 64\]"):
        given(model=model, gradient=gradient)


@pytest.mark.parametrize("field", ["epochs", "batch_size", "lr"])
def test_local_training_needs_positive_settings(field: str) -> None:
    with pytest.raises(Refused, match=field):
        LocalTraining(**{"epochs": 1, "batch_size": 1, "lr": 0.1, field: 0})


def test_local_steps_count_the_smaller_last_batch() -> None:
    assert LocalTraining(epochs=3, batch_size=2, lr=0.1).steps(5) == 9


def test_the_loss_takes_labels_and_probabilities_and_one_output() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    assert torch.equal(class_loss(logits, labels), F.cross_entropy(logits, labels))
    torch.testing.assert_close(class_loss(logits, F.one_hot(labels, 3).float()), F.cross_entropy(logits, labels))
    one, two = torch.randn(4, 1), torch.tensor([0, 1, 1, 0])
    both = F.cross_entropy(torch.cat([torch.zeros(4, 1), one], 1), two)
    torch.testing.assert_close(class_loss(one, two), both)
    torch.testing.assert_close(class_loss(one, F.one_hot(two, 2).float()), both)


@pytest.mark.parametrize("value", [1.01, -0.01, float("nan")])
def test_images_out_of_range_are_refused(value: float) -> None:
    images = torch.full((2, *SHAPE), 0.5)
    images[1, 0, 3, 3] = value
    with pytest.raises(Refused, match="images"):
        check_images(images, (0.0, 1.0))


def test_streams_of_chance_differ_by_label_and_repeat_by_seed() -> None:
    draws = [torch.rand(3, generator=generator(*labels)) for labels in ((0, "a"), (0, "b"), (1, "a"), (0, "a"))]
    assert torch.equal(draws[0], draws[3])
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_an_oblivious_adversary_takes_hidden_for_zero() -> None:
    model = nn.Linear(2, 2)
    ones = [torch.ones_like(p) for p in model.parameters()]
    seen = Observation(model, ones, (2,), 1, visible=[m.bool() for m in ones], noise_std=1.0).oblivious()
    assert seen.visible is None
    assert seen.noise_std == 0
