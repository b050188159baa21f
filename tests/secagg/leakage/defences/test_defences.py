"""What each defence changes, and what an adversary who knows it makes of the rest."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from secagg.leakage import Defence, Observation, Unsupported, identified, observe, psnr
from secagg.leakage.attacks import InvertingGradients
from secagg.leakage.defences import (
    ClipAndNoise,
    Dropout,
    HeadSharing,
    LocalDP,
    Precode,
    Pruning,
    SelectiveEncryption,
    Soteria,
    Transformation,
    WithheldStatistics,
)
from secagg.leakage.defences.soteria import telling
from tests.secagg.leakage.cases import SHAPE, cnn, digits

ATTACK = InvertingGradients(iterations=150, tv=1e-5)


def seen_with(defence: Defence, *, seed: int = 0) -> Observation:
    images, labels = digits(1)
    model = defence.model(cnn(), shape=SHAPE, seed=0)
    return observe(model, images, labels, defence=defence, seed=seed)


def flat(seen: Observation) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in seen.gradient])


def shown(seen: Observation) -> float:
    assert seen.visible is not None
    return float(torch.cat([mask.flatten() for mask in seen.visible]).double().mean())


PLAIN = seen_with(Defence())


def test_clipping_keeps_the_direction_and_bounds_the_length() -> None:
    seen = seen_with(ClipAndNoise(0.01, 0.0))
    torch.testing.assert_close(flat(seen), flat(PLAIN) * (0.01 / flat(PLAIN).norm()))
    assert torch.equal(flat(seen_with(ClipAndNoise(1e6, 0.0))), flat(PLAIN))


def test_noise_has_the_deviation_that_the_adversary_is_told() -> None:
    clip = float(flat(PLAIN).norm())
    for defence in (ClipAndNoise(clip, 0.1), LocalDP(float(flat(PLAIN).abs().sum()), 8.0)):
        seen = seen_with(defence)
        noise = flat(seen) - flat(PLAIN)
        assert seen.noise_std == pytest.approx(float(noise.std()), rel=0.03)
        assert abs(float(noise.mean())) < 5 * seen.noise_std / math.sqrt(len(noise))
        assert not torch.equal(flat(seen), flat(seen_with(defence, seed=1)))


def test_laplace_noise_is_laplace() -> None:
    clip = float(flat(PLAIN).abs().sum())
    noise = flat(seen_with(LocalDP(clip, 8.0))) - flat(PLAIN)
    scale = 2 * clip / 8
    for times in (0.5, 1, 2):
        assert float((noise.abs() > times * scale).double().mean()) == pytest.approx(math.exp(-times), abs=0.02)


def test_pruning_keeps_the_largest() -> None:
    seen = seen_with(Pruning(0.9))
    kept = flat(seen) != 0
    assert shown(seen) == pytest.approx(0.1, abs=1e-3)
    assert flat(PLAIN)[kept].abs().min() >= flat(PLAIN)[~kept].abs().max()


@pytest.mark.parametrize("chosen", ["largest", "random"])
def test_selective_encryption_hides_its_share(chosen: str) -> None:
    seen = seen_with(SelectiveEncryption(0.05, chosen))  # type: ignore[arg-type]
    assert seen.visible is not None
    assert shown(seen) == pytest.approx(0.95, abs=1e-3)
    hidden = ~torch.cat([mask.flatten() for mask in seen.visible])
    assert not flat(seen)[hidden].any()
    assert torch.equal(flat(seen)[~hidden], flat(PLAIN)[~hidden])
    is_largest = flat(PLAIN)[hidden].abs().min() >= flat(PLAIN)[~hidden].abs().max()
    assert is_largest == (chosen == "largest")


def test_sharing_the_head_shares_nothing_else() -> None:
    seen = seen_with(HeadSharing())
    assert seen.visible is not None
    assert [bool(mask.all()) for mask in seen.visible] == [False] * 4 + [True] * 2
    assert not any(mask.any() for mask in seen.visible[:4])


def test_soteria_hides_the_features_with_the_largest_ratio() -> None:
    images, _ = digits(1)
    model = cnn()
    leaf = images.clone().requires_grad_()
    features = model[:-1](leaf)[0]
    index = int(features.argmax())
    (slope,) = torch.autograd.grad(features[index], leaf)
    score = telling(model, "5", images)
    assert score[index].item() == pytest.approx((features[index] / slope.norm()).item(), rel=1e-4)
    seen = seen_with(Soteria(0.25))
    columns = ~(seen.gradient[4] == 0).all(0)
    assert score[~columns].max() >= score[columns].min()
    assert seen.visible is not None
    assert seen.visible[4][:, columns].all()
    assert int((~seen.visible[4][0]).sum()) == 256
    assert all(mask.all() for number, mask in enumerate(seen.visible) if number != 4)


def test_transformations_change_images_within_the_range() -> None:
    images, labels = digits(4)
    for policy in ("flip", "shift", "rotate", "contrast", "invert"):
        changed = Transformation((policy,)).examples(images, (0.0, 1.0), torch.Generator().manual_seed(1))
        assert changed.shape == images.shape
        assert changed.min() >= 0
        assert changed.max() <= 1
        assert not torch.equal(changed, images)
    seen = observe(cnn(), images[:1], labels[:1], defence=Transformation(), seed=3)
    assert not torch.equal(flat(seen), flat(PLAIN))


def test_a_flip_is_a_mirror_or_nothing() -> None:
    images, _ = digits(20)
    changed = Transformation(("flip",)).examples(images, (0.0, 1.0), torch.Generator().manual_seed(0))
    mirrored = [torch.equal(after, before.flip(2)) for after, before in zip(changed, images, strict=True)]
    same = [torch.equal(after, before) for after, before in zip(changed, images, strict=True)]
    assert all(a or b for a, b in zip(mirrored, same, strict=True))
    assert any(mirrored)
    assert any(same)


@pytest.mark.parametrize(
    ("defence", "found", "unaware"),
    [
        (Transformation(), 30, 15),
        (Transformation(("rotate",)), 30, 29),
        (Transformation(("invert",)), 30, 20),
        (Transformation(("shift", "rotate")), 27, 15),
    ],
    ids=lambda value: "+".join(value.policies) if isinstance(value, Transformation) else None,
)
def test_who_knows_the_transformation_tells_the_images_apart(defence: Transformation, found: int, unaware: int) -> None:
    gallery, _ = digits(200)
    shown, truth = defence.examples(gallery[:30], (0.0, 1.0), torch.Generator().manual_seed(1)), torch.arange(30)
    knowing = identified(shown, gallery, truth, variants=defence.variants(gallery, (0.0, 1.0)))
    assert int(knowing.sum()) >= found
    assert int(identified(shown, gallery, truth).sum()) <= unaware


def test_without_a_transformation_an_image_is_looked_for_as_it_is() -> None:
    images, _ = digits(3)
    (alone,) = Pruning(0.5).variants(images, (0.0, 1.0))
    assert torch.equal(alone, images)


@pytest.mark.parametrize("defence", [Dropout(0.5), Precode(32)])
def test_a_defence_in_the_model_leaves_the_original_and_changes_the_gradient(defence: Defence) -> None:
    images, labels = digits(1)
    original = cnn()
    defended = defence.model(original, shape=SHAPE, seed=0).train()
    assert len(list(original.modules())) == 7
    first, second = (observe(defended, images, labels, seed=seed) for seed in (0, 1))
    assert not torch.equal(flat(first), flat(second))
    assert defended(images).shape == (1, 10)


def test_withheld_statistics_are_not_in_what_the_adversary_gets() -> None:
    images, labels = digits(8)
    model = cnn(norm=True).train()
    for _ in range(10):
        model(images)
    seen = observe(model.eval(), images[:1], labels[:1], defence=WithheldStatistics())
    assert not torch.equal(model[1].running_mean, torch.zeros(8))
    assert torch.equal(seen.model.get_buffer("1.running_mean"), torch.zeros(8))
    assert seen.model[1].training  # type: ignore[index]
    assert torch.equal(flat(seen), flat(observe(model, images[:1], labels[:1])))


@pytest.mark.parametrize(
    "defence", [Pruning(0.95), SelectiveEncryption(0.1), HeadSharing(), Soteria(0.25)], ids=lambda d: d.name
)
def test_an_adversary_who_knows_the_defence_gets_more(defence: Defence) -> None:
    images, _ = digits(1)
    seen = seen_with(defence)
    adaptive, oblivious = (psnr(ATTACK(s, seed=0).images, images).item() for s in (seen, seen.oblivious()))
    assert adaptive > oblivious + 3
    assert adaptive > 18


@pytest.mark.parametrize("defence", [Dropout(0.3), Precode(32)], ids=lambda d: d.name)
def test_an_adversary_looks_for_what_the_model_drew(defence: Defence) -> None:
    images, labels = digits(1)
    model = defence.model(cnn(), shape=SHAPE, seed=0).train()
    seen = observe(model, images, labels, defence=defence)
    assert psnr(InvertingGradients(iterations=300, tv=1e-5)(seen, seed=0).images, images).item() > 17


def test_a_model_that_a_defence_does_not_fit_is_refused_with_its_layer() -> None:
    images, labels = digits(1)
    convolutional = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    for defence in (Dropout(), Precode()):
        with pytest.raises(Unsupported, match=f"{defence.name}: the last layer '0' is Conv2d"):
            defence.model(convolutional, shape=SHAPE, seed=0)
    for defence in (HeadSharing(), Soteria()):
        with pytest.raises(Unsupported, match=f"{defence.name}: the last layer '0' is Conv2d"):
            observe(convolutional, images, labels, defence=defence)
    with pytest.raises(Unsupported, match="no BatchNorm"):
        observe(cnn(), images, labels, defence=WithheldStatistics())
