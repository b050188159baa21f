from __future__ import annotations

import pytest
import torch
from torch import nn

from secagg.errors import Refused
from secagg.leakage import Unsupported, observe, psnr
from secagg.leakage.attacks import HeadOnly
from secagg.leakage.attacks.head_only import read_features
from secagg.leakage.defences import HeadSharing
from secagg.leakage.layers import head
from tests.secagg.leakage.cases import cnn, digits


def test_the_head_alone_gives_features_exactly_and_the_image_with_them() -> None:
    images, labels = digits(1)
    model = cnn()
    seen = observe(model, images, labels, defence=HeadSharing(), know_labels=False)
    assert not any(gradient.any() for gradient in seen.gradient[:-2])
    torch.testing.assert_close(
        read_features(head(seen, "test"), labels).float(), model[:-1](images), atol=1e-5, rtol=1e-4
    )
    guess = HeadOnly(iterations=300)(seen, seed=0)
    assert torch.equal(guess.labels, labels)
    assert psnr(guess.images, images).item() > 30
    assert guess.converged


def test_examples_that_are_no_images_need_no_total_variation() -> None:
    images, labels = digits(1)
    seen = observe(nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)), images.flatten(1), labels)
    with pytest.raises(Refused, match="total variation"):
        HeadOnly()(seen, seed=0)
    assert HeadOnly(iterations=2, tv=0)(seen, seed=0).images.shape == (1, 64)


def test_a_head_without_biases_or_without_a_gradient_is_refused() -> None:
    images, labels = digits(1)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    with pytest.raises(Refused, match="layer '1' has no biases"):
        HeadOnly()(observe(plain, images, labels), seed=0)
    with pytest.raises(Unsupported, match="Conv2d"):
        HeadOnly()(observe(nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten()), images, labels), seed=0)
