from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from secagg.errors import Refused
from secagg.leakage import Defence, LocalTraining, Observation, Reconstruction, match, observe, psnr
from secagg.leakage.attacks import InvertingGradients
from secagg.leakage.attacks.descent import descend, total_variation
from secagg.leakage.attacks.matching import Matching
from secagg.leakage.defences import ClipAndNoise, LocalDP
from tests.secagg.leakage.cases import cnn, digits, mlp

ATTACK = InvertingGradients(iterations=150, tv=1e-5)


def attacked(seen: Observation, attack: InvertingGradients = ATTACK) -> Reconstruction:
    return attack(seen, seed=0)


def test_one_image_comes_back_and_equal_seeds_repeat_it() -> None:
    images, labels = digits(1)
    seen = observe(cnn(), images, labels)
    guess = attacked(seen)
    assert psnr(guess.images, images).item() > 25
    assert guess.converged
    assert guess.iterations == 150
    assert torch.equal(guess.images, attacked(seen).images)
    assert not torch.equal(guess.images, ATTACK(seen, seed=1).images)


def test_labels_are_found_beside_the_image() -> None:
    images, labels = digits(1)
    guess = attacked(observe(cnn(), images, labels, know_labels=False))
    assert torch.equal(guess.labels, labels)
    assert psnr(guess.images, images).item() > 25


def test_a_batch_of_two_comes_back() -> None:
    images, labels = digits(2)
    guess = attacked(observe(cnn(), images, labels), InvertingGradients(iterations=300, tv=1e-5))
    assert psnr(guess.images[match(guess.images, images)], images).min() > 20


def test_other_ranges_than_zero_to_one_are_kept_to() -> None:
    images, labels = digits(1)
    wide = images * 4 - 2
    guess = attacked(observe(cnn(), wide, labels, value_range=(-2, 2)))
    assert guess.images.min() >= -2
    assert psnr(guess.images, wide, value_range=(-2, 2)).item() > 25


def test_of_the_restarts_the_least_objective_is_kept() -> None:
    images, labels = digits(1)
    guess = attacked(observe(cnn(), images, labels), InvertingGradients(iterations=10, restarts=3))
    assert len(guess.restarts) == 3
    assert guess.objective == min(guess.restarts)


def test_the_best_point_of_the_trajectory_is_kept_and_not_the_last() -> None:
    image = torch.full((1, 1, 2, 2), 0.5).requires_grad_()
    values = iter([3.0, 1.0, 2.0, 5.0])
    seen = []

    def slope() -> tuple[float, list[torch.Tensor]]:
        seen.append(image.detach().clone())
        return next(values), [torch.ones_like(image)]

    best = descend(slope, image, [], iterations=3, step=0.1, tv=0, value_range=(0, 1))
    assert best.objective == 1
    assert torch.equal(best.images, seen[1])


def test_the_slope_is_the_derivative_of_the_distance() -> None:
    images, labels = digits(2)
    seen = observe(cnn().double(), images.double(), labels)
    candidate = torch.rand((2, 1, 8, 8), generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    for distance in ("cosine", "euclidean"):
        matching = Matching(seen, distance=distance)  # type: ignore[arg-type]

        def at(point: torch.Tensor, matching: Matching = matching) -> tuple[float, torch.Tensor]:
            value, (slope,) = matching.slope([point], lambda: matching.gradient(point, labels))
            return value, slope

        _, slope = at(candidate)
        for place in ((0, 0, 3, 4), (1, 0, 5, 1)):
            step = torch.zeros_like(candidate)
            step[place] = 1e-6
            up, down = (at((candidate + sign * step).detach().requires_grad_())[0] for sign in (1, -1))
            assert (up - down) / 2e-6 == pytest.approx(slope[place].item(), rel=1e-3, abs=1e-9)


def test_what_the_adversary_cannot_see_counts_for_nothing() -> None:
    images, labels = digits(1)
    seen = observe(cnn(), images, labels)
    visible = [torch.rand(g.shape, generator=torch.Generator().manual_seed(0)) < 0.5 for g in seen.gradient]
    zeroed = replace(seen, gradient=[g * v for g, v in zip(seen.gradient, visible, strict=True)], visible=visible)
    junk = [torch.where(v, g, 7.0) for g, v in zip(seen.gradient, visible, strict=True)]
    assert torch.equal(attacked(zeroed).images, attacked(replace(zeroed, gradient=junk)).images)
    assert psnr(attacked(zeroed).images, images).item() > 20


@pytest.mark.parametrize("defence", [ClipAndNoise(1.0, 0.05), LocalDP(20.0, 1000.0)], ids=lambda d: d.name)
def test_who_knows_of_the_noise_does_no_worse(defence: Defence) -> None:
    images, labels = digits(1)
    seen = observe(mlp(), images, labels, defence=defence)
    assert seen.noise_std
    aware, unaware = (psnr(attacked(s).images, images).item() for s in (seen, seen.oblivious()))
    assert aware >= unaware


def test_known_statistics_are_matched() -> None:
    images, labels = digits(2)
    seen = observe(cnn(norm=True).train(), images, labels, know_statistics=True)
    matching = Matching(seen, distance="cosine", statistics_weight=1.0)
    right, wrong = images.clone().requires_grad_(), (images / 2).requires_grad_()
    for point, low, high in ((right, -1e-6, 1e-6), (wrong, 0.1, 100)):
        value, _ = matching.slope([point], lambda point=point: matching.gradient(point, labels))
        assert low < value < high


def test_total_variation_is_flat_on_a_flat_image_and_its_slope_is_its_derivative() -> None:
    value, slope = total_variation(torch.full((1, 2, 4, 5), 0.3))
    assert value == 0
    assert not slope.any()
    images = torch.rand((2, 1, 4, 5), generator=torch.Generator().manual_seed(0)).double()
    _, slope = total_variation(images)
    step = torch.zeros_like(images)
    step[1, 0, 2, 3] = 1e-7
    up, down = total_variation(images + step)[0], total_variation(images - step)[0]
    assert (up - down) / 2e-7 == pytest.approx(slope[1, 0, 2, 3].item(), abs=1e-6)


def test_an_image_of_one_row_or_column_has_a_total_variation() -> None:
    line = torch.tensor([0.0, 1.0, 0.0, 0.5])
    for shape in ((1, 1, 1, 4), (1, 1, 4, 1)):
        value, slope = total_variation(line.reshape(shape))
        assert value == pytest.approx(2.5 / 3)
        assert slope.flatten().tolist() == pytest.approx([-1 / 3, 2 / 3, -2 / 3, 1 / 3])


def test_what_the_attack_is_not_made_for_is_refused() -> None:
    images, labels = digits(2)
    with pytest.raises(Refused, match="of 2 local steps"):
        attacked(observe(cnn(), images, labels, local=LocalTraining(epochs=1, batch_size=1, lr=0.1)))
    seen = observe(cnn(), images, labels)
    with pytest.raises(Refused, match="nothing to match"):
        attacked(replace(seen, gradient=[torch.zeros_like(g) for g in seen.gradient]))
    flat = torch.nn.Linear(64, 10)
    with pytest.raises(Refused, match="total variation"):
        attacked(observe(flat, images.flatten(1), labels))
