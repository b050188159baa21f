"""Per-sample losses equal the library's loss of each sample alone."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn

from dp.sample.losses import cross_entropy, dice_cross_entropy
from secagg.errors import Refused


@pytest.mark.parametrize("space", [(6, 5), (4, 3, 5)])
@pytest.mark.parametrize("classes", [1, 2, 4])
def test_dice_and_cross_entropy_are_monais_of_each_sample_alone(classes: int, space: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    outputs = torch.randn(5, classes, *space)
    labels = torch.randint(0, max(classes, 2), (5, 1, *space))
    labels[1] = 0  # A sample without foreground.
    monai = DiceCELoss(
        sigmoid=classes == 1, softmax=classes > 1, to_onehot_y=classes > 1, smooth_nr=1e-5, smooth_dr=1e-5
    )
    targets = labels.float() if classes == 1 else labels
    expected = [float(monai(outputs[at : at + 1], targets[at : at + 1])) for at in range(5)]
    torch.testing.assert_close(dice_cross_entropy(outputs, labels), torch.tensor(expected))


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(Refused, match=r"labels have shape \(2, 4, 4\), expected \(2, 1, 4, 4\)"):
        dice_cross_entropy(torch.randn(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long))


@pytest.mark.parametrize("space", [(), (4, 3)])
def test_cross_entropy_is_torchs_of_each_sample_alone(space: tuple[int, ...]) -> None:
    outputs, labels = torch.randn(5, 3, *space), torch.randint(0, 3, (5, *space))
    expected = [float(nn.CrossEntropyLoss()(outputs[at : at + 1], labels[at : at + 1])) for at in range(5)]
    torch.testing.assert_close(cross_entropy(outputs, labels), torch.tensor(expected))
