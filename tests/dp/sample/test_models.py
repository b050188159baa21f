"""Models that mix samples are refused: by their layers' names, and by a probe where no name tells."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dp.sample.bookkeeping import BookKeeping
from dp.sample.clipping import Clipper
from dp.sample.losses import cross_entropy, dice_cross_entropy
from dp.sample.models import probe, require_separable, with_group_norm
from dp.sample.opacus_modes import Ghost, PerSampleGradients
from secagg.errors import Refused
from tests.dp.sample.test_clipping import MODES, small_cnn, unet


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.BatchNorm2d(4, affine=False), nn.SyncBatchNorm(4)])
def test_d8_batch_norm_is_refused_and_named(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), layer))
    with pytest.raises(Refused, match=rf"'1\.1' is a {type(layer).__name__}, which mixes the samples"):
        require_separable(model)


def test_d8_running_statistics_are_refused_and_named() -> None:
    with pytest.raises(Refused, match=r"'0' keeps running statistics"):
        require_separable(nn.Sequential(nn.InstanceNorm2d(4, track_running_stats=True)))


def test_batch_norm_becomes_group_norm_when_asked_and_the_original_stays() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12, eps=1e-3), nn.Sequential(nn.BatchNorm1d(3, affine=False))
    )
    nn.init.normal_(model[1].weight)
    converted = with_group_norm(model)
    require_separable(converted)
    norm = converted[1]
    assert isinstance(norm, nn.GroupNorm)
    assert (norm.num_groups, norm.num_channels, norm.eps) == (4, 12, 1e-3)
    torch.testing.assert_close(norm.weight, model[1].weight)
    assert not list(converted[2].parameters())
    assert isinstance(model[1], nn.BatchNorm2d)
    require_separable(with_group_norm(nn.BatchNorm2d(8)))


def test_monais_unet_with_batch_norm_is_refused_and_converted() -> None:
    model = unet(2, norm="batch")
    with pytest.raises(Refused, match="BatchNorm2d, which mixes"):
        require_separable(model)
    converted = with_group_norm(model)
    require_separable(converted)
    assert decides(converted, BookKeeping, dice_cross_entropy, torch.randn(2, 1, 16, 16), torch.ones(2, 1, 16, 16))


def decides(
    model: nn.Module,
    clipper: Callable[[nn.Module, float], Clipper],
    criterion: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
) -> bool:
    import copy

    twin = copy.deepcopy(model)
    return probe(model, twin, clipper(model, 0.1), criterion, inputs, targets, clip_l2=0.1)


@pytest.mark.parametrize("mode", MODES)
def test_the_probe_passes_a_model_that_keeps_samples_apart(mode: str) -> None:
    model = nn.Sequential(small_cnn(), nn.Dropout(0.5))
    assert decides(model, MODES[mode], cross_entropy, torch.randn(6, 1, 12, 12), torch.tensor([0, 1, 2, 0, 1, 2]))
    assert all(module.training for module in model.modules())


class Centred(nn.Module):
    """A home-made batch normalisation, of a name that no list has."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs - inputs.mean(0)


@pytest.mark.parametrize("mode", MODES)
def test_d8_the_probe_finds_a_layer_that_mixes_samples(mode: str) -> None:
    model = nn.Sequential(nn.Linear(4, 8), Centred(), nn.Tanh(), nn.Linear(8, 3))
    with pytest.raises(Refused, match=r"the model mixes samples"):
        decides(model, MODES[mode], cross_entropy, torch.randn(3, 4), torch.tensor([0, 1, 2]))


@pytest.mark.parametrize("mode", ["book-keeping", "ghost"])
def test_d8_the_probe_finds_a_loss_that_mixes_samples(mode: str) -> None:
    """The trap of ghost clipping: a Dice of the whole batch, in the shape of one loss a sample."""
    from monai.losses import DiceCELoss

    monai = DiceCELoss(to_onehot_y=True, softmax=True, batch=True)

    def whole_batch(outputs: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = monai(outputs, labels)
        return loss.expand(len(outputs)) / len(outputs)

    with pytest.raises(Refused, match=r"the loss mixes samples"):
        decides(unet(2), MODES[mode], whole_batch, torch.randn(2, 1, 16, 16), torch.randint(0, 2, (2, 1, 16, 16)))


class Neighbours(nn.Module):
    """Mixes the rows of integers, through which no gradient goes."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3)

    def forward(self, rows: Tensor) -> Tensor:
        outputs: Tensor = self.table((rows + rows.flip(0)) % 5)
        return outputs


@pytest.mark.parametrize("mode", MODES)
def test_d8_the_probe_finds_indices_that_are_mixed(mode: str) -> None:
    with pytest.raises(Refused, match=r"gradients of 'table\.weight' are not those that each has alone"):
        decides(Neighbours(), MODES[mode], cross_entropy, torch.tensor([0, 1]), torch.tensor([0, 1]))


class TiedOutside(nn.Module):
    """A weight of a layer used once more by hand: no hook sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = nn.functional.linear(self.layer(inputs), self.layer.weight)
        return outputs


@pytest.mark.parametrize("make", [BookKeeping, lambda m, c: PerSampleGradients(m, c, functorch=False), Ghost])
def test_d8_the_probe_finds_a_weight_used_outside_its_layer(make: Callable[[nn.Module, float], Clipper]) -> None:
    with pytest.raises(Refused, match=r"gradients of 'layer\.weight' are not those"):
        decides(TiedOutside(), make, cross_entropy, torch.randn(3, 4), torch.tensor([0, 1, 2]))


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.seen = nn.Buffer(torch.zeros(4))

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen += inputs.detach().sum(0)
        outputs: Tensor = self.layer(inputs)
        return outputs


def test_d8_the_probe_finds_a_statistic_that_is_kept() -> None:
    with pytest.raises(Refused, match=r"buffer 'seen' changes in training"):
        decides(Counting(), BookKeeping, cross_entropy, torch.randn(3, 4), torch.tensor([0, 1, 2]))


def test_a_probe_without_gradients_decides_nothing() -> None:
    model = nn.Linear(4, 3)
    assert not decides(
        model, BookKeeping, lambda o, t: 0 * cross_entropy(o, t), torch.randn(2, 4), torch.tensor([0, 1])
    )
