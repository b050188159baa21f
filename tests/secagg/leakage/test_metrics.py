from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from secagg.errors import Refused
from secagg.leakage import identified, label_accuracy, match, mse, psnr, rdlv, ssim


def images(count: int, *, side: int = 16, channels: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, channels, side, side), generator=torch.Generator().manual_seed(seed))


def test_psnr_is_one_for_each_image_and_capped_for_the_exact_one() -> None:
    original = torch.zeros(3, 1, 4, 4)
    guess = original.clone()
    guess[1], guess[2] = 0.1, 1.0
    torch.testing.assert_close(psnr(guess, original), torch.tensor([150.0, 20.0, 0.0]).double(), atol=1e-5, rtol=0)


def test_psnr_counts_in_units_of_the_range() -> None:
    first, second = images(2), images(2, seed=1)
    torch.testing.assert_close(psnr(2 * first - 1, 2 * second - 1, value_range=(-1, 1)), psnr(first, second))
    torch.testing.assert_close(mse(255 * first, 255 * second, value_range=(0, 255)), mse(first, second))


def slow_ssim(a: np.ndarray, b: np.ndarray, side: int) -> float:
    """Wang et al. 2004, equation 13, window by window."""
    at = np.arange(side) - side // 2
    window = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for c, i, j in itertools.product(range(a.shape[0]), range(a.shape[1] - side + 1), range(a.shape[2] - side + 1)):
        x, y = a[c, i : i + side, j : j + side], b[c, i : i + side, j : j + side]
        mx, my = (window * x).sum(), (window * y).sum()
        vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
        cov = (window * (x - mx) * (y - my)).sum()
        values.append(
            (2 * mx * my + 0.01**2) * (2 * cov + 0.03**2)
            / ((mx**2 + my**2 + 0.01**2) * (vx + vy + 0.03**2))
        )  # fmt: skip
    return float(np.mean(values))


@pytest.mark.parametrize(("side", "window", "channels"), [(16, 11, 1), (14, 11, 3), (8, 7, 1), (9, 9, 2)])
def test_ssim_is_that_of_the_paper(side: int, window: int, channels: int) -> None:
    first, second = (images(2, side=side, channels=channels, seed=seed) for seed in (0, 1))
    second = (first + 0.3 * second).clamp(0, 1)
    expected = [slow_ssim(a.double().numpy(), b.double().numpy(), window) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(ssim(first, second), expected, atol=1e-9)
    np.testing.assert_allclose(ssim(first, first), 1, atol=1e-12)


def test_matching_finds_the_order_of_a_batch() -> None:
    originals = images(5)
    order = torch.tensor([3, 0, 4, 1, 2])
    noisy = (originals[order] + 0.05 * images(5, seed=2)).clamp(0, 1)
    assert torch.equal(order[match(noisy, originals)], torch.arange(5))


def test_matching_minimises_the_total_and_not_each_pair() -> None:
    originals = torch.tensor([0.0, 0.4]).reshape(2, 1, 1, 1)
    guesses = torch.tensor([0.3, 0.9]).reshape(2, 1, 1, 1)
    # 0.3 is nearest to both; giving it to the second original would leave 0.9 for the first.
    assert match(guesses, originals).tolist() == [0, 1]


def test_identification_points_into_a_gallery() -> None:
    gallery = images(20)
    truth = torch.tensor([4, 7])
    # Brightness and contrast do not hide anybody; another image does.
    assert identified(gallery[truth] * 0.5 + 0.2, gallery, truth).tolist() == [True, True]
    assert identified(gallery[[5, 7]], gallery, truth).tolist() == [False, True]


def test_the_likest_guise_of_a_gallery_counts() -> None:
    gallery, truth = images(20), torch.tensor([4, 7])
    mirrored = gallery.flip(3)
    assert not identified(mirrored[truth], gallery, truth).any()
    assert identified(mirrored[truth], gallery, truth, variants=[mirrored]).all()
    with pytest.raises(Refused, match="variants: shape"):
        identified(gallery[truth], gallery, truth, variants=[gallery[:1]])


def test_a_flat_image_and_a_duplicate_identify_nobody() -> None:
    gallery = images(3)
    assert not identified(torch.full((1, 1, 16, 16), 0.5), gallery, torch.tensor([0])).any()
    twins = torch.cat([gallery, gallery[:1]])
    assert not identified(gallery[:1], twins, torch.tensor([0])).any()
    assert identified(gallery[:1], twins, torch.tensor([0]), top=2).all()


def test_rdlv_is_zero_for_the_prior_itself() -> None:
    prior = torch.tensor([0.2, 0.5]).double()
    assert rdlv(prior, prior).tolist() == [0, 0]
    assert rdlv(torch.tensor([0.4, 1.0]).double(), prior).tolist() == [1, 1]
    with pytest.raises(Refused, match="prior"):
        rdlv(prior, torch.tensor([0.0, 1.0]).double())


def test_label_accuracy_counts_classes_and_labels() -> None:
    truth = torch.tensor([0, 0, 1, 2])
    assert label_accuracy(torch.tensor([2, 1, 0, 0]), truth, measure="counts") == 1
    assert label_accuracy(torch.tensor([0, 1, 1, 3]), truth, measure="counts") == 0.5
    assert label_accuracy(torch.tensor([0, 1, 1, 3]), truth, measure="existence") == 0.5


@pytest.mark.parametrize("figure", [mse, psnr, ssim])
def test_other_shapes_and_values_out_of_range_are_refused(figure: object) -> None:
    assert callable(figure)
    with pytest.raises(Refused, match="shape"):
        figure(images(2), images(3))
    with pytest.raises(Refused, match="originals: values"):
        figure(images(2), images(2) * 2)
    with pytest.raises(Refused, match="images: values"):
        figure(images(2) * math.nan, images(2))


def test_matching_and_galleries_refuse_what_does_not_fit() -> None:
    with pytest.raises(Refused, match="cannot be matched"):
        match(images(2), images(3))
    with pytest.raises(Refused, match="gallery"):
        identified(images(2), images(3), torch.tensor([0, 3]))
    with pytest.raises(Refused, match="SSIM"):
        ssim(images(1, side=2), images(1, side=2))
