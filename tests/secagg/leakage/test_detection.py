"""What a client notices of a model: every published attack, and nothing on honest models."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from secagg.errors import Refused
from secagg.leakage.detection import compare, inspect
from secagg.leakage.malicious.client_kernels import ClientKernels
from secagg.leakage.malicious.imprint import ImprintBlock, cuts_of
from secagg.leakage.malicious.inconsistency import with_dead_layer
from secagg.leakage.malicious.trap_weights import set_traps

SHAPE = (1, 8, 8)
IMAGES = torch.rand(64, *SHAPE, generator=torch.Generator().manual_seed(0))


def mlp(seed: int = 0, width: int = 64) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def cnn(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(1024, 10),
    )  # fmt: skip


def kinds(model: nn.Module, inputs: torch.Tensor | None = IMAGES) -> set[str]:
    return {finding.kind for finding in inspect(model, inputs)}


@pytest.mark.parametrize("build", [mlp, cnn])
@pytest.mark.parametrize("seed", range(5))
def test_honest_models_pass_untrained_and_trained(build: type, seed: int) -> None:
    model = build(seed)
    assert not inspect(model, IMAGES)
    before = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    labels = torch.arange(64) % 10
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(IMAGES), labels).backward()
        optimizer.step()
    assert not inspect(model, IMAGES)
    assert not compare(before, model)


@pytest.mark.parametrize("bins", [8, 128])
def test_an_imprint_block_shows_by_its_parallel_rows(bins: int) -> None:
    model = nn.Sequential(ImprintBlock(SHAPE, cuts_of(torch.rand(500, *SHAPE), bins)), *mlp())
    (finding,) = inspect(model)
    assert str(finding) == "0.bins: parallel rows, 100 %"
    with torch.no_grad():  # rows of other lengths
        model[0].bins.weight *= torch.linspace(0.5, 2, bins)[:, None]
    assert kinds(model, None) == {"parallel rows"}


def test_trap_weights_show_by_their_mirrored_rows() -> None:
    model = mlp(width=500)
    set_traps(model[1], scale=0.9, generator=torch.Generator().manual_seed(1))
    assert kinds(model, None) == {"mirrored rows"}


def test_units_that_hardly_ever_answer_show_however_they_were_made() -> None:
    model = mlp(width=500)
    with torch.no_grad():
        model[1].bias -= model[:2](IMAGES).quantile(0.95, dim=0)
    assert kinds(model, None) == set()
    assert kinds(model) == {"rare units"}


def test_copying_kernels_show() -> None:
    model = nn.Sequential(ClientKernels(SHAPE, cuts_of(torch.rand(500, *SHAPE), 16), slot=1, slots=4), *mlp())
    assert {"copying kernels", "parallel rows"} <= kinds(model, None)


def test_a_dead_layer_shows_by_its_units_wherever_the_relu_is_called() -> None:
    dead = with_dead_layer(mlp(), "1")
    (finding,) = inspect(dead, IMAGES)
    assert (finding.layer, finding.kind, finding.share) == ("ReLU 1", "dead units", 1.0)

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = dead[1]

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return nn.functional.relu(self.first(inputs.flatten(1)))

    assert kinds(Functional()) == {"dead units"}


def test_kernels_that_are_replaced_between_rounds_show() -> None:
    before, other = cnn(), cnn(seed=1)
    after = copy.deepcopy(before)
    after[3] = other[3]
    (finding,) = compare(before, after)
    assert (finding.layer, finding.kind) == ("3", "replaced kernels")
    assert finding.share > 0.9
    assert not compare(before, copy.deepcopy(before))


def test_inspecting_leaves_the_model_and_its_mode_alone() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.ReLU())
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inspect(model, IMAGES)
    assert model.training
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_what_cannot_be_looked_at_is_refused() -> None:
    with pytest.raises(Refused, match="no linear or convolutional layer"):
        inspect(nn.Sequential(nn.Flatten(), nn.ReLU()))
    with pytest.raises(Refused, match="31 inputs, expected 32 at least"):
        inspect(mlp(), IMAGES[:31])
    with pytest.raises(Refused, match="layer '1' is not the one of the round before"):
        compare(mlp(width=64), mlp(width=32))
