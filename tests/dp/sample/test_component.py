"""The component: what a step does and refuses, what is charged, what the sheet says."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dp.accountant import Charge
from dp.layer import ClientLevel, ClientLevelParameters
from dp.sample import optimizer as optimizers
from dp.sample.component import SampleLevel, SampleLevelParameters
from dp.sample.losses import cross_entropy
from dp.sample.spending import epsilon_of
from dp.sample.training import PrivateSteps
from secagg.errors import Refused
from secagg.plain import Plain
from secagg.settings import read_settings
from tests.dp.sample.test_clipping import small_cnn
from tests.dp.sample.test_models import Centred

ROWS = 40


def component(**settings: Any) -> SampleLevel:
    return SampleLevel(read_settings(SampleLevelParameters, settings, where="dp-sgd"))


def some_rows(count: int = ROWS) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(count, 4, generator=generator), torch.arange(count) % 3)


def model_of(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(layers or (nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))))


def start(
    private: SampleLevel, model: nn.Module, *, batch_size: int = 10, steps: int = 4, owner: str = "a", **more: Any
) -> PrivateSteps:
    data = more.pop("data", some_rows())
    sgd = torch.optim.SGD(model.parameters(), lr=more.pop("lr", 0.5))
    loader = private.loader(data, batch_size=batch_size, steps=steps)
    return private.wrap(model, sgd, loader, more.pop("criterion", cross_entropy), owner=owner)


def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "discrete_gaussian", lambda sigma, size, rng: np.zeros(size, np.int64))


@pytest.mark.parametrize("mode", ["auto", "book-keeping", "hooks", "functorch", "ghost"])
def test_a_step_is_the_clipped_sum_over_the_expected_batch(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_noise(monkeypatch)
    model, data = model_of(), some_rows()
    private, before = component(mode=mode, clip_l2=0.1), [p.detach().clone() for p in model.parameters()]
    with start(private, model, steps=1, data=data) as steps:
        ((inputs, labels),) = list(steps)
        losses = steps.step(inputs, labels)
    assert losses.shape == (len(inputs),)
    total = [torch.zeros_like(p) for p in before]
    twin = model_of()
    for row, label in zip(inputs, labels, strict=True):
        gradient = torch.autograd.grad(cross_entropy(twin(row[None]), label[None])[0], list(twin.parameters()))
        norm = torch.sqrt(sum((g.square().sum() for g in gradient), torch.zeros(())))
        total = [t + g * min(1.0, 0.1 / float(norm)) for t, g in zip(total, gradient, strict=True)]
    for after, old, gradient in zip(model.parameters(), before, total, strict=True):
        # Divided by the ten that are expected, whatever came.
        torch.testing.assert_close(after.detach(), old - 0.5 * gradient / 10, atol=1e-5, rtol=1e-4)


def test_auto_takes_book_keeping_where_it_can_and_hooks_elsewhere() -> None:
    assert start(component(), model_of()).mode == "book-keeping"
    embedded = model_of(nn.Linear(4, 6), Bilinear())
    with start(component(), embedded) as steps:
        assert steps.mode == "hooks"
        for batch in steps:
            steps.step(*batch)
    with pytest.raises(Refused, match=r"no rule clips 1\.layer\.weight, 1\.layer\.bias"):
        start(component(mode="book-keeping"), embedded)


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = Squared(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs)
        return outputs


class Squared(nn.Linear):
    """Not what its parent computes: a rule for the parent would be wrong for it."""

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.linear(inputs.square(), self.weight, self.bias)


def test_d1_a_batch_that_was_not_drawn_is_refused() -> None:
    model, data = model_of(), some_rows()
    shuffled = DataLoader(data, batch_size=10, shuffle=True)
    with start(component(), model, batch_size=10, data=data) as steps:
        inputs, labels = next(iter(shuffled))
        with pytest.raises(Refused, match="is not the Poisson"):
            steps.step(inputs, labels)


def test_d1_a_batch_is_good_for_one_step() -> None:
    with start(component(), model_of()) as steps:
        inputs, labels = next(iter(steps))
        steps.step(inputs, labels)
        with pytest.raises(Refused, match="each for one step"):
            steps.step(inputs, labels)


def test_d1_shuffled_batches_are_refused_at_the_start() -> None:
    model = model_of()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(Refused, match="batches are shuffled"):
        component().wrap(model, sgd, DataLoader(some_rows(), batch_size=10, shuffle=True), cross_entropy)


def test_an_empty_batch_is_a_step_too_with_noise_and_charged() -> None:
    model, private = model_of(), component()
    before = [p.detach().clone() for p in model.parameters()]
    with start(private, model, batch_size=1, steps=400, data=some_rows(400)) as steps:
        for inputs, labels in steps:
            if not len(inputs):
                assert steps.step(inputs, labels).shape == (0,)
                break
    assert private.spent()["steps"] == 1
    assert all((p != b).any() for p, b in zip(model.parameters(), before, strict=True))


def test_d8_what_the_optimiser_holds_and_no_clip_covers_is_refused() -> None:
    private, model = component(), model_of()
    loader = private.loader(some_rows(), batch_size=10, steps=1)
    stranger = nn.Parameter(torch.zeros(7))
    sgd = torch.optim.SGD([*model.parameters(), stranger], lr=0.1)
    with pytest.raises(Refused, match=r"holds a parameter of shape \(7,\) that no clip covers"):
        private.wrap(model, sgd, loader, cross_entropy)
    with pytest.raises(Refused, match=r"parameter '2\.weight' is trainable and not in the optimiser"):
        private.wrap(model, torch.optim.SGD(model[0].parameters(), lr=0.1), loader, cross_entropy)


def test_d8_a_model_that_mixes_samples_is_refused_at_its_first_step_which_is_charged() -> None:
    private = component()
    with start(private, model_of(nn.Linear(4, 8), Centred(), nn.Linear(8, 3)), batch_size=20) as steps:
        batch = next(iter(steps))
        with pytest.raises(Refused, match="mixes samples"):
            steps.step(*batch)
    # What is looked at is paid for: a refusal may tell of a sample.
    assert private.spent()["steps"] == 1


class Crossed(nn.Module):
    """Its second layer has the samples in another order than its first; outputs are each sample's own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.second(self.first(inputs).flip(0)).flip(0)
        return outputs


@pytest.mark.parametrize("clip_l2", [1e-3, 1.0, 1e3])
def test_d8_rows_that_stand_for_other_samples_are_found_whatever_the_clip(clip_l2: float) -> None:
    with start(component(clip_l2=clip_l2), Crossed(), batch_size=20) as steps:
        batch = next(iter(steps))
        with pytest.raises(Refused, match=r"two samples' clipped gradients of '(first|second)\."):
            steps.step(*batch)


def test_d8_they_are_found_where_the_samples_of_the_first_batch_are_all_alike() -> None:
    rows, labels = some_rows(1)[0]
    alike = TensorDataset(rows.expand(ROWS, -1), labels.expand(ROWS))
    with start(component(), Crossed(), batch_size=20, data=alike) as steps:
        batch = next(iter(steps))
        with pytest.raises(Refused, match=r"two samples' clipped gradients of '(first|second)\."):
            steps.step(*batch)


def test_d1_other_rows_in_place_of_the_drawn_ones_are_refused() -> None:
    with start(component(), model_of(), batch_size=20) as steps:
        inputs, labels = next(iter(steps))
        with pytest.raises(Refused, match="is not the Poisson sample last drawn"):
            steps.step(inputs + 1, (labels + 1) % 3)
        steps.step(inputs + 1, labels)


def test_d8_batch_norm_is_refused_and_converted_when_asked() -> None:
    model = model_of(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    with pytest.raises(Refused, match="'1' is a BatchNorm1d"):
        component().prepare(model)
    with pytest.raises(Refused, match="'1' is a BatchNorm1d"):
        start(component(), model)
    converted = component(batch_norm="groupnorm").prepare(model)
    assert isinstance(converted[1], nn.GroupNorm)
    plain = small_cnn()
    assert component().prepare(plain) is plain


def test_a_step_is_charged_before_its_noise_is_drawn() -> None:
    """A crash between the two must cost budget, not privacy."""
    private = component()
    with start(private, model_of()) as steps:
        inputs, labels = next(iter(steps))
        steps._optimizer._rng = lambda count: b""
        with pytest.raises(Refused, match="no secure noise"):
            steps.step(inputs, labels)
    assert private.spent()["steps"] == 1


@pytest.mark.parametrize("value", [0, 0.0, -1.0])
def test_no_noise_is_refused_at_the_start(value: float) -> None:
    with pytest.raises(Refused, match=r"without noise there is no differential privacy"):
        component(noise_multiplier=value)


def test_settings_out_of_range_are_refused_and_named() -> None:
    with pytest.raises(Refused, match="both given"):
        component(noise_multiplier=1.0, target_epsilon=1.0)
    for name, value in (("target_delta", 1.0), ("target_epsilon", 0.0), ("clip_l2", 0.0), ("mode", "fast")):
        with pytest.raises(Refused, match=name):
            component(**{name: value})


def test_what_was_spent_is_that_of_the_client_that_spent_most() -> None:
    private = component(noise_multiplier=2.0)
    for owner, rows, taken in (("large", 400, 6), ("small", 20, 6)):
        with start(private, model_of(), steps=taken, owner=owner, data=some_rows(rows)) as steps:
            for batch in steps:
                steps.step(*batch)
    spent = private.spent()
    assert spent["epsilon"] == epsilon_of((Charge(2.0, 6, 0.5),), 1e-5)
    assert {
        key: spent[key] for key in ("unit", "adjacency", "delta", "steps", "sampling_rate", "noise_multiplier")
    } == {
        "unit": "sample",
        "adjacency": "add/remove",
        "delta": 1e-5,
        "steps": 6,
        "sampling_rate": 0.5,
        "noise_multiplier": 2.0,
    }
    assert spent["accountant"] == "dp-accounting PLD"
    assert "Poisson" in spent["sampler"]
    assert "AES-256" in spent["noise_source"]
    assert spent["warnings"] == ()


def test_a_delta_above_one_over_the_rows_is_warned_of() -> None:
    private = component(target_delta=0.05)
    start(private, model_of())
    (warning,) = private.spent()["warnings"]
    assert "delta = 0.05 is larger than 1/40, the rows of the smallest client" in warning


def test_the_noise_is_solved_for_each_clients_planned_steps() -> None:
    private = component(target_epsilon=6.0, rounds=3)
    for _ in range(3):
        with start(private, model_of(), steps=5) as steps:
            for batch in steps:
                steps.step(*batch)
    assert private.spent()["steps"] == 15
    assert 5.8 <= private.spent()["epsilon"] <= 6.0
    other = start(private, model_of(), steps=5, owner="b", data=some_rows(400))
    assert other.noise_multiplier < steps.noise_multiplier


def test_d6_steps_beyond_the_plan_are_refused_and_not_taken() -> None:
    private = component(target_epsilon=6.0, rounds=1)
    model = model_of()
    with start(private, model, steps=2) as steps:
        for batch in steps:
            steps.step(*batch)
        before = [p.detach().clone() for p in model.parameters()]
        with pytest.raises(Refused, match=r"the budget of 'a' was for 2 steps, and is spent"):
            steps.step(*next(iter(steps)))
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    with pytest.raises(Refused, match=r"'a' has sampling rate 0\.5, its noise was solved for 0\.25"):
        start(private, model, batch_size=20)


def test_d2_two_runs_of_one_seed_draw_other_noise() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(4)
        model, private = model_of(), component()
        with start(private, model, batch_size=ROWS, steps=1) as steps:
            steps.step(*next(iter(steps)))
        found.append(model[0].weight.detach().clone())
    assert not torch.equal(*found)


def test_d2_a_source_that_repeats_itself_is_refused() -> None:
    key = secrets.token_bytes(32)
    private = SampleLevel(SampleLevelParameters(), rng=lambda count: key[:count])
    with start(private, model_of()) as steps, pytest.raises(Refused, match="same key twice"):
        next(iter(steps))


def test_guarantees_say_what_is_hidden_and_from_whom() -> None:
    inner = Plain(Plain.Parameters()).guarantees
    outer = component(noise_multiplier=1.5).compose(inner)
    assert outer.uniform_weights
    assert outer.privacy is not None
    assert (outer.privacy["unit"], outer.privacy["noise_multiplier"]) == ("sample", 1.5)
    assert "sample-level differential privacy (noise multiplier 1.5" in outer.protection
    assert any("one sample is hidden, not a client" in text for text in outer.limitations)
    assert "epsilon 3" in component(target_epsilon=3.0).compose(inner).protection


def test_two_units_under_one_name_are_refused() -> None:
    inner = ClientLevel(ClientLevelParameters()).compose(Plain(Plain.Parameters()).guarantees)
    with pytest.raises(Refused, match="two units and two claims"):
        component().compose(inner)
