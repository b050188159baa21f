from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from secagg.errors import Refused
from secagg.leakage import LocalTraining, Unsupported, label_accuracy, observe
from secagg.leakage.attacks import IDLG, ILRG, RLU
from tests.secagg.leakage.cases import cnn, digits, mlp


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("first", range(10))
def test_one_label_is_read_off_the_head(first: int, bias: bool) -> None:
    images, labels = digits(1, first=first)
    torch.manual_seed(first)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10, bias=bias))
    assert torch.equal(IDLG()(observe(model, images, labels)), labels)


@pytest.mark.parametrize("label", [0, 1])
def test_one_output_tells_its_label_by_the_sign(label: int) -> None:
    images, _ = digits(1)
    truth = torch.tensor([label])
    assert torch.equal(IDLG()(observe(mlp(outputs=1), images, truth)), truth)


@pytest.mark.parametrize("attack", [ILRG(), RLU()])
def test_counts_of_a_batch_come_back_from_an_untrained_network(attack: ILRG | RLU) -> None:
    scores = []
    for seed in range(10):
        images, labels = digits(24, first=24 * seed)
        seen = observe(cnn(seed=seed), images, labels, know_labels=False)
        scores.append(label_accuracy(attack(seen), labels, measure="counts"))
    assert sum(scores) / 10 >= 0.96


def test_counts_come_back_from_local_training() -> None:
    scores = []
    for seed in range(5):
        images, labels = digits(32, first=32 * seed)
        seen = observe(mlp(seed=seed), images, labels, local=LocalTraining(epochs=2, batch_size=8, lr=0.05))
        scores.append(label_accuracy(RLU()(seen), labels, measure="counts"))
    assert sum(scores) / 5 >= 0.85


def test_public_examples_help_on_a_half_trained_network() -> None:
    model = mlp()
    public, public_labels = digits(600, first=900)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(15):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(public), public_labels).backward()
        optimizer.step()
    known = digits(297, first=1500)
    images, labels = digits(200)
    # Three classes of ten: equal counts would score 0.3.
    few = labels < 3
    images, labels = images[few], labels[few]
    seen = observe(model, images, labels)
    blind, helped = (label_accuracy(attack(seen), labels, measure="counts") for attack in (RLU(), RLU(*known)))
    assert helped > max(0.75, blind)


def test_two_classes_with_one_output_are_counted() -> None:
    images, _ = digits(16)
    labels = torch.tensor([0] * 11 + [1] * 5)
    assert RLU()(observe(mlp(outputs=1), images, labels)).sum().item() == pytest.approx(5, abs=1)


def test_what_cannot_be_read_is_refused() -> None:
    images, labels = digits(2)
    seen = observe(cnn(), images, labels)
    with pytest.raises(Refused, match="2 examples, expected 1"):
        IDLG()(seen)
    hidden = [torch.ones_like(g, dtype=torch.bool) for g in seen.gradient]
    hidden[-1][0] = False
    with pytest.raises(Refused, match="'5' is hidden"):
        ILRG()(replace(seen, visible=hidden))
    with pytest.raises(Refused, match="cross-entropy"):
        ILRG()(replace(seen, loss=nn.functional.mse_loss))
    with pytest.raises(Unsupported, match="one output"):
        ILRG()(observe(mlp(outputs=1), images, labels.clamp(max=1)))
    convolutional = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    with pytest.raises(Unsupported, match="last layer '0' is Conv2d, expected Linear"):
        ILRG()(observe(convolutional, images, labels))
    squashed = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Tanh())
    with pytest.raises(Unsupported, match="something follows layer '1'"):
        ILRG()(observe(squashed, images, labels))
