from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from secagg.errors import Refused
from secagg.leakage import Defence, identified, observe
from secagg.leakage.attacks import MatchedFilter
from secagg.leakage.defences import ClipAndNoise, Pruning
from tests.secagg.leakage.cases import cnn, digits, mlp

ATTACK = MatchedFilter()


@pytest.mark.parametrize("defence", [Defence(), ClipAndNoise(1.0, 0.1), Pruning(0.99)], ids=lambda d: d.name)
def test_of_many_candidates_the_victims_are_chosen(defence: Defence) -> None:
    images, labels = digits(100)
    for place in (3, 40, 77):
        seen = observe(mlp(), images[[place]], labels[[place]], defence=defence)
        found = ATTACK(replace(seen, candidates=images), seed=0)
        assert torch.equal(found.images[0], images[place])
        assert found.chosen


def test_of_a_batch_no_candidate_is_chosen_twice() -> None:
    images, labels = digits(60)
    victims = torch.tensor([0, 10, 20])  # three zeros
    seen = replace(observe(mlp(), images[victims], labels[victims]), candidates=images)
    found = ATTACK(seen, seed=0)
    assert len({image.numpy().tobytes() for image in found.images}) == 3
    assert identified(found.images, images, victims).sum() >= 1
    assert torch.equal(found.images, ATTACK(seen, seed=0).images)


def test_where_all_scores_are_equal_no_place_is_favoured() -> None:
    images, labels = digits(50)
    seen = observe(mlp(), images[:1], labels[:1])
    silent = replace(seen, gradient=[torch.zeros_like(part) for part in seen.gradient], candidates=images)
    chosen = [ATTACK(silent, seed=seed).images for seed in range(4)]
    assert sum(torch.equal(one[0], images[0]) for one in chosen) < 2


def test_what_the_adversary_cannot_see_takes_no_part() -> None:
    images, labels = digits(20)
    seen = replace(observe(cnn(), images[:1], labels[:1]), candidates=images)
    visible = [torch.full_like(part, number >= 2, dtype=torch.bool) for number, part in enumerate(seen.gradient)]
    junk = [torch.where(mask, part, 7.0) for mask, part in zip(visible, seen.gradient, strict=True)]
    found = ATTACK(replace(seen, gradient=junk, visible=visible), seed=0)
    assert torch.equal(found.images, images[:1])
    assert found.objective == pytest.approx(0, abs=1e-6)


def test_what_the_attack_lacks_is_refused() -> None:
    images, labels = digits(3)
    seen = observe(mlp(), images, labels)
    with pytest.raises(Refused, match="candidates: matched-filter expects 3 images or more to choose from, got 0"):
        ATTACK(seen, seed=0)
    with pytest.raises(Refused, match="got 2"):
        ATTACK(replace(seen, candidates=images[:2]), seed=0)
    with pytest.raises(Refused, match="labels: matched-filter"):
        ATTACK(replace(seen, candidates=images, labels=None), seed=0)
    with pytest.raises(Refused, match=r"candidates: shape \[3, 1, 8, 4\], expected"):
        replace(seen, candidates=images[..., :4])
