"""Clipped sums of every layer and model equal a loop over samples, in every mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dp.sample.bookkeeping import BookKeeping, without_rule
from dp.sample.clipping import Clipper, clipping_weights
from dp.sample.losses import cross_entropy, dice_cross_entropy
from dp.sample.opacus_modes import Ghost, PerSampleGradients
from fl_runtime.models import SmallCnn, build
from secagg.errors import Refused
from tests.dp.sample.loops import clipped_sum, distance, gradients_alone, norm, sums_of

SAMPLES = 5
MODES: dict[str, Callable[[nn.Module, float], Clipper]] = {
    "book-keeping": BookKeeping,
    "hooks": lambda model, clip_l2: PerSampleGradients(model, clip_l2, functorch=False),
    "functorch": lambda model, clip_l2: PerSampleGradients(model, clip_l2, functorch=True),
    "ghost": Ghost,
}


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss with a gradient at every output."""
    return (outputs.flatten(1) - targets[:, None]).square().mean(1)


def some_targets(count: int = SAMPLES) -> Tensor:
    return torch.linspace(-1, 2, count)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 4), (6,)),
    "linear, no bias": (lambda: nn.Linear(6, 4, bias=False), (6,)),
    "linear over a short sequence": (lambda: nn.Linear(40, 30), (3, 40)),
    "linear over a long sequence": (lambda: nn.Linear(3, 2), (30, 3)),
    "linear over a plane": (lambda: nn.Linear(4, 3), (2, 5, 4)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, padding=1), (3, 9)),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3), (3, 8, 7)),
    "conv2d, no bias": (lambda: nn.Conv2d(2, 4, 3, bias=False), (2, 6, 6)),
    "conv2d, strided": (lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 8, 7)),
    "conv2d, dilated": (lambda: nn.Conv2d(2, 3, 3, dilation=2, padding=2), (2, 8, 8)),
    "conv2d, grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (4, 6, 6)),
    "conv2d, depthwise": (lambda: nn.Conv2d(4, 8, (3, 1), groups=4), (4, 6, 5)),
    "conv2d, same": (lambda: nn.Conv2d(2, 3, 4, padding="same"), (2, 6, 6)),
    "conv2d, valid": (lambda: nn.Conv2d(2, 3, 3, padding="valid"), (2, 6, 6)),
    "conv2d, circular": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 6, 6)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 3, stride=(1, 2, 2), padding=1), (2, 5, 6, 4)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(3, 2, 3, stride=2), (3, 6)),
    "transposed 2d": (lambda: nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1), (3, 5, 4)),
    "transposed 2d, grouped": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2), (4, 5, 5)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(2, 3, 2, stride=2), (2, 3, 2, 4)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (4, 5, 5)),
    "group norm of a vector": (lambda: nn.GroupNorm(2, 6), (6,)),
    "instance norm": (lambda: nn.InstanceNorm2d(3, affine=True), (3, 5, 5)),
    "instance norm 3d": (lambda: nn.InstanceNorm3d(2, affine=True), (2, 3, 4, 3)),
    "layer norm": (lambda: nn.LayerNorm(6), (3, 6)),
    "layer norm over two": (lambda: nn.LayerNorm((3, 6)), (2, 3, 6)),
    "prelu": (nn.PReLU, (3, 4)),
    "prelu, a slope a channel": (lambda: nn.PReLU(3), (3, 4, 4)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("clip_l2", [1e-3, 0.3, 1e6])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_clipped_as_a_loop_over_samples_does(name: str, clip_l2: float, dtype: torch.dtype) -> None:
    make, shape = LAYERS[name]
    torch.manual_seed(3)
    model = make().to(dtype)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    inputs = torch.randn(SAMPLES, *shape, dtype=dtype) * torch.linspace(0.5, 3, SAMPLES).view(-1, *[1] * len(shape))
    check_against_loop(model, squares, inputs, some_targets().to(dtype), clip_l2, tolerance=2e-6)


@pytest.mark.parametrize("shape", [(4,), (6,)])
@pytest.mark.parametrize("padding", [None, 2])
def test_an_embedding_is_clipped_as_a_loop_does(shape: tuple[int, ...], padding: int | None) -> None:
    torch.manual_seed(3)
    model = nn.Embedding(7, 3, padding_idx=padding)
    inputs = torch.randint(0, 7, (SAMPLES, *shape))
    inputs[0] = 2  # One row many times.
    check_against_loop(model, squares, inputs, some_targets(), 0.05, tolerance=2e-6)


def test_an_embedding_of_one_index_a_sample_is_clipped_as_a_loop_does() -> None:
    model = nn.Embedding(4, 3)
    check_against_loop(model, squares, torch.tensor([0, 1, 1, 3, 0]), some_targets(), 0.1, tolerance=2e-6)


def check_against_loop(
    model: nn.Module, criterion: Any, inputs: Tensor, targets: Tensor, clip_l2: float, *, tolerance: float
) -> None:
    alone = gradients_alone(model, criterion, inputs, targets)
    losses = BookKeeping(model, clip_l2).clipped_sum(criterion, inputs, targets)
    torch.testing.assert_close(losses, criterion(model(inputs), targets).detach())
    assert distance(sums_of(model), clipped_sum(alone, clip_l2)) <= tolerance


@pytest.mark.parametrize("name", ["linear over a short sequence", "conv2d, strided", "transposed 2d", "group norm"])
def test_single_gradients_are_those_of_the_loop(name: str) -> None:
    """A batch of which all samples but one have weight zero in the loss."""
    make, shape = LAYERS[name]
    model, inputs = make(), torch.randn(SAMPLES, *shape)
    alone = gradients_alone(model, squares, inputs, some_targets())
    for at in range(SAMPLES):
        only = torch.nn.functional.one_hot(torch.tensor(at), SAMPLES)
        BookKeeping(model, 1e9).clipped_sum(lambda o, t, only=only: squares(o, t) * only, inputs, some_targets())
        assert distance(sums_of(model), alone[at]) <= 1e-6


def small_cnn() -> nn.Module:
    return build(SmallCnn(channels=(4, 8)), shape=(1, 12, 12), classes=3, seed=1)


def unet(dimensions: int, **settings: Any) -> nn.Module:
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    return UNet(dimensions, 1, 2, (8, 16, 32), (2, 2), **settings)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("clip_l2", [0.05, 1e6])
def test_every_mode_clips_a_small_cnn_as_the_loop_does(mode: str, clip_l2: float) -> None:
    model = small_cnn()
    inputs, labels = torch.randn(SAMPLES, 1, 12, 12), torch.tensor([0, 1, 2, 1, 0])
    alone = gradients_alone(model, cross_entropy, inputs, labels)
    assert clip_l2 > 1 or min(map(norm, alone)) > clip_l2  # Every sample is clipped, or none.
    clipper = MODES[mode](model, clip_l2)
    for _ in range(2):  # Nothing is left over from the batch before.
        clipper.clipped_sum(cross_entropy, inputs, labels)
    assert distance(sums_of(model), clipped_sum(alone, clip_l2)) <= 1e-6
    clipper.close()
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("dimensions", "settings"), [(2, {}), (2, {"num_res_units": 2}), (3, {"norm": ("group", {"num_groups": 2})})]
)
def test_every_mode_clips_monais_unet_as_the_loop_does(mode: str, dimensions: int, settings: dict[str, Any]) -> None:
    model = unet(dimensions, **settings)
    size = (16,) * dimensions
    inputs, labels = torch.randn(3, 1, *size), torch.randint(0, 2, (3, 1, *size))
    assert not without_rule(model)
    alone = gradients_alone(model, dice_cross_entropy, inputs, labels)
    clip_l2 = sorted(map(norm, alone))[1]
    clipper = MODES[mode](model, clip_l2)
    clipper.clipped_sum(dice_cross_entropy, inputs, labels)
    assert distance(sums_of(model), clipped_sum(alone, clip_l2)) <= 2e-6
    clipper.close()


def test_an_activation_in_place_does_not_move_the_gradient() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(48, 2), nn.ELU(inplace=True)
    )
    check_against_loop(model, squares, torch.randn(SAMPLES, 1, 6, 6), some_targets(), 0.2, tolerance=1e-6)


class ChangesInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, inputs: Tensor) -> Tensor:
        features = inputs.clone()
        outputs: Tensor = self.norm(features)
        features.add_(1)
        return outputs


def test_what_was_changed_after_a_layer_read_it_is_refused() -> None:
    with pytest.raises(Refused, match=r"what entered layer 'norm' was changed in place"):
        BookKeeping(ChangesInPlace(), 1.0).clipped_sum(squares, torch.randn(3, 4), some_targets(3))


def test_a_frozen_layer_gets_no_gradient() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].weight.requires_grad = False
    BookKeeping(model, 1.0).clipped_sum(squares, torch.randn(SAMPLES, 4), some_targets())
    assert model[0].weight.grad is None
    assert model[0].bias.grad is not None


def test_d8_a_layer_without_a_rule_is_refused_and_its_parameters_named() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Bilinear(4, 4, 2))
    with pytest.raises(Refused, match=r"no rule clips 1\.weight, 1\.bias"):
        BookKeeping(model, 1.0)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(self.layer(inputs))
        return outputs


def test_d8_a_layer_used_twice_is_refused_by_book_keeping_and_clipped_by_hooks() -> None:
    model, inputs = Twice(), torch.randn(SAMPLES, 4)
    with pytest.raises(Refused, match=r"parameter layer\.weight is used twice"):
        BookKeeping(model, 0.1).clipped_sum(squares, inputs, some_targets())
    alone = gradients_alone(model, squares, inputs, some_targets())
    clipper = MODES["hooks"](model, 0.1)
    clipper.clipped_sum(squares, inputs, some_targets())
    assert distance(sums_of(model), clipped_sum(alone, 0.1)) <= 1e-6


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_criterion_that_is_not_per_sample_is_refused(mode: str, reduction: str) -> None:
    clipper = MODES[mode](small_cnn(), 1.0)
    with pytest.raises(Refused, match=r"returned shape \(\), expected one loss a sample, \(2,\)"):
        clipper.clipped_sum(nn.CrossEntropyLoss(reduction=reduction), torch.randn(2, 1, 12, 12), torch.tensor([0, 1]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("spoilt", [torch.nan, 3e38])
def test_d8_a_sample_whose_gradient_is_not_finite_adds_nothing_and_does_not_show(mode: str, spoilt: float) -> None:
    model, inputs, labels = small_cnn(), torch.randn(3, 1, 12, 12), torch.tensor([0, 1, 2])
    inputs[1] = spoilt
    losses = MODES[mode](model, 1.0).clipped_sum(cross_entropy, inputs, labels)
    assert losses.isnan().tolist() == [False, True, False]
    alone = gradients_alone(model, cross_entropy, inputs[[0, 2]], labels[[0, 2]])
    assert distance(sums_of(model), clipped_sum(alone, 1.0)) <= 2e-6


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_of_spoilt_samples_adds_nothing(mode: str) -> None:
    model = small_cnn()
    MODES[mode](model, 1.0).clipped_sum(cross_entropy, torch.full((2, 1, 12, 12), torch.nan), torch.tensor([0, 1]))
    assert not any(bool(total.any()) for total in sums_of(model).values())


class Patches(nn.Module):
    """Its layer is given the positions of all samples as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        positions: Tensor = self.layer(inputs.reshape(-1, 4)).reshape(inputs.shape[:2])
        return positions


@pytest.mark.parametrize("mode", MODES)
def test_d8_positions_that_a_layer_sees_as_rows_of_the_batch_are_refused(mode: str) -> None:
    clipper = MODES[mode](Patches(), 1.0)
    with pytest.raises(Refused, match=r"the layer of 'layer\.weight' saw 21 rows for 3 samples"):
        clipper.clipped_sum(squares, torch.randn(3, 7, 4), torch.zeros(3))


class Difference(nn.Module):
    """The difference of a layer's outputs at two positions: its gradient is one of two terms that nearly cancel."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        positions: Tensor = self.layer(inputs)
        return positions[:, 0] - (1 - 2e-5) * positions[:, 1]


@pytest.mark.parametrize("size", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("kind", ["linear", "embedding"])
def test_d8_no_more_than_the_clip_is_released_where_terms_cancel(kind: str, size: float) -> None:
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(1, 64, generator=generator)
        if kind == "linear":
            model = Difference(nn.Linear(64, 64, bias=False))
            inputs = size * torch.randn(1, 1, 64, generator=generator).expand(1, 2, 64)
        else:
            model, direction = Difference(nn.Embedding(5, 64)), size * direction
            inputs = torch.zeros(1, 2, dtype=torch.long)
        BookKeeping(model, 1.0).clipped_sum(lambda outputs, targets: (outputs * targets).sum(1), inputs, direction)
        assert all(float(total.double().norm()) <= 1 + 2**-12 for total in sums_of(model).values())


class ByName(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(input=inputs)
        return outputs


def test_a_layer_that_is_called_by_keyword_is_clipped_too() -> None:
    model, inputs = ByName(), torch.randn(SAMPLES, 4)
    check_against_loop(model, squares, inputs, some_targets(), 0.1, tolerance=2e-6)


def test_weights_bring_every_norm_to_the_clip_at_most() -> None:
    norms = torch.tensor([0.0, 1e-9, 0.5, 1.0, 7.0, 1e30])
    weights = clipping_weights(norms, 1.0, torch.float32)
    assert bool((norms * weights <= 1 + 1e-6).all())
    assert weights[:3].tolist() == [1.0, 1.0, 1.0]
