"""What a client notices of a model: every published attack, and nothing on honest models."""

from __future__ import annotations

import copy
from collections.abc import Callable

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


def test_the_rows_of_classes_that_nobody_has_may_be_alike() -> None:
    for place, shown in ((3, set()), (1, {"parallel rows"})):
        model = mlp()
        with torch.no_grad():
            model[place].weight[2:] = model[place].weight[2]
        assert kinds(model, None) == shown


def test_copying_kernels_show() -> None:
    model = nn.Sequential(ClientKernels(SHAPE, cuts_of(torch.rand(500, *SHAPE), 16), slot=1, slots=4), *mlp())
    assert {"copying kernels", "parallel rows"} <= kinds(model, None)


def test_a_dead_layer_shows_by_its_units_wherever_the_relu_is_called() -> None:
    dead = with_dead_layer(mlp(), "1")
    (finding,) = inspect(dead, IMAGES)
    assert (finding.layer, finding.kind, finding.share) == ("1", "dead units", 1.0)

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = dead[1]

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return nn.functional.relu(self.first(inputs.flatten(1)))

    assert kinds(Functional()) == {"dead units"}


SATURATING: list[tuple[Callable[[torch.Tensor], torch.Tensor], float]] = [
    (nn.ReLU(inplace=True), -20.0), (torch.relu, -20.0), (torch.Tensor.relu_, -20.0), (nn.ReLU6(), 20.0),
    (nn.Hardtanh(), 20.0), (nn.GELU(), -20.0), (nn.SiLU(), -20.0), (nn.ELU(), -20.0), (nn.Sigmoid(), 40.0),
    (torch.Tensor.sigmoid_, -40.0), (nn.Tanh(), 20.0), (nn.Softplus(), -20.0), (nn.Hardswish(), -20.0),
    (nn.Threshold(0.5, 0.0), -20.0), (lambda x: x.clamp(min=0), -20.0), (lambda x: torch.clamp(input=x, max=1), 20.0),
    (lambda x: torch.clamp_min_(x, 0.0), -20.0), (lambda x: nn.functional.silu(x, inplace=True), -20.0),
]  # fmt: skip


class Through(nn.Module):
    """One layer and a function behind it."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], *, bias: float | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.function = nn.Linear(64, 32), nn.Linear(32, 10), function
        if bias is not None:
            nn.init.constant_(self.first.bias, bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.last(self.function(self.first(inputs.flatten(1))))


@pytest.mark.parametrize("case", range(len(SATURATING)))
def test_a_dead_layer_shows_behind_any_activation_function(case: int) -> None:
    function, bias = SATURATING[case]
    (finding,) = inspect(Through(function, bias=bias), IMAGES)
    assert (finding.layer, finding.kind, finding.share) == ("first", "dead units", 1.0)
    assert not inspect(Through(function), IMAGES)


def test_units_of_a_leaky_function_answer_as_long_as_it_leaks() -> None:
    assert not inspect(Through(nn.LeakyReLU(), bias=-20.0), IMAGES)
    assert kinds(Through(nn.LeakyReLU(1e-4), bias=-20.0)) == {"dead units"}


def test_looking_at_the_slopes_changes_nothing_of_what_the_model_computes() -> None:
    for function, _ in SATURATING:
        model, seen = Through(function), []
        model.register_forward_hook(lambda module, arguments, output, seen=seen: seen.append(output))
        model(IMAGES)
        inspect(model, IMAGES)
        assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_show(value: float) -> None:
    before, after = cnn(), cnn()
    with torch.no_grad():
        after[3].weight[0, 0, 0, 0] = value
    share = 1 / (after[3].weight.numel() + len(after[3].bias))
    for findings in (inspect(after), inspect(after, IMAGES), compare(before, after), compare(after, before)):
        (finding,) = findings
        assert (finding.layer, finding.kind, finding.share) == ("3", "not finite", share)
    norm = cnn()
    with torch.no_grad():
        norm[1].bias[0] = value
    assert [(finding.layer, finding.kind) for finding in inspect(norm)] == [("1", "not finite")]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_no_scale_hides_a_row(scale: float) -> None:
    model = nn.Sequential(ImprintBlock(SHAPE, cuts_of(torch.rand(500, *SHAPE), 16)), *mlp())
    other = copy.deepcopy(model)
    with torch.no_grad():
        model[0].bins.weight *= scale
        other[2].weight *= scale
    assert kinds(model, None) == {"parallel rows"}
    assert not compare(other, nn.Sequential(ImprintBlock(SHAPE, cuts_of(torch.rand(500, *SHAPE), 16)), *mlp()))


def test_kernels_that_are_replaced_between_rounds_show() -> None:
    before, other = cnn(), cnn(seed=1)
    after = copy.deepcopy(before)
    after[3] = other[3]
    (finding,) = compare(before, after)
    assert (finding.layer, finding.kind) == ("3", "replaced kernels")
    assert finding.share > 0.9
    assert not compare(before, copy.deepcopy(before))


def test_a_layer_of_few_rows_may_change_entirely() -> None:
    before, after = (nn.Sequential(nn.Flatten(), nn.Linear(64, 1)) for _ in range(2))
    with torch.no_grad():
        after[1].weight.copy_(-before[1].weight)
    assert not compare(before, after)


def test_a_layer_of_zeros_may_become_anything_and_what_becomes_zeros_shows() -> None:
    zeroed, drawn = cnn(), cnn()
    nn.init.zeros_(zeroed[6].weight)
    assert not compare(zeroed, drawn)
    assert not compare(zeroed, zeroed)
    assert [str(finding) for finding in compare(drawn, zeroed)] == ["6: replaced kernels, 100 %"]


def test_inspecting_leaves_the_model_and_its_mode_alone() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.ReLU())
    model[2].eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inspect(model, IMAGES)
    assert [module.training for module in model] == [True, True, False, True, True]
    with pytest.raises(RuntimeError, match="mat1 and mat2"):  # of torch: no hook is left
        model(IMAGES[:, :, :4])
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_what_cannot_be_looked_at_is_refused() -> None:
    with pytest.raises(Refused, match="no linear or convolutional layer"):
        inspect(nn.Sequential(nn.Flatten(), nn.ReLU()))
    with pytest.raises(Refused, match=r"inputs of shape \(31, 1, 8, 8\), expected 32 inputs at least"):
        inspect(mlp(), IMAGES[:31])
    with pytest.raises(Refused, match="an input is not finite"):
        inspect(mlp(), IMAGES / 0)
    with pytest.raises(Refused, match="layer '1' is not the one of the round before"):
        compare(mlp(width=64), mlp(width=32))


@pytest.mark.parametrize(("build", "shape", "says"), [
    (mlp, (64, 1, 8, 4), r"shape \(64, 1, 8, 4\) .*: layer '1' was given \(64, 32\), expected \(\.\.\., 64\)$"),
    (cnn, (64, 3, 8, 8), r"shape \(64, 3, 8, 8\) .*: layer '0' was given \(64, 3, 8, 8\), expected \(n, 1, \*, \*\)$"),
    (cnn, (64, 8, 8), r"layer '0' was given \(64, 8, 8\), expected \(n, 1, \*, \*\)$"),
    (cnn, (64, 1, 4, 4), r"layer '6' was given \(64, 256\), expected \(\.\.\., 1024\)$"),
    (cnn, (64,), r"inputs of shape \(64,\), expected 32 inputs at least"),
])  # fmt: skip
def test_inputs_of_a_wrong_shape_are_refused_and_both_shapes_named(
    build: Callable[[], nn.Module], shape: tuple[int, ...], says: str
) -> None:
    with pytest.raises(Refused, match=says):
        inspect(build(), torch.rand(shape))


def test_inputs_that_fail_elsewhere_are_refused_with_torchs_reason() -> None:
    model = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *cnn())
    with pytest.raises(Refused, match=r"inputs of shape \(64, 63\) do not go through the model: .*63"):
        inspect(model, torch.rand(64, 63))
    with pytest.raises(Refused, match=r"do not go through the model: .*dtype"):
        inspect(mlp(), IMAGES.double())
