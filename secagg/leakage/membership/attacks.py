"""Three membership attacks on losses: threshold, LiRA, RMIA. A higher score says "member".

They take arrays and no models: the cross-entropy loss of each example under the target, and under shadow models that
were trained on random halves of the same population. Whoever has models computes the losses once.

- Yeom et al. 2018 (arXiv 1709.01604): a small loss is a member's.
- LiRA, Carlini et al. 2022 (arXiv 2112.03570): how likely the target's confidence is among shadow models with the
  example, against those without. Offline, where no shadow has seen the example: against those without only.
- RMIA, Zarifzadeh et al. 2024 (arXiv 2312.03262): how often the example's gain in likelihood over the shadows beats
  that of an example of the population.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secagg.errors import Refused

Floats = NDArray[np.float64]
_TINY = 1e-12


def loss_threshold(losses: ArrayLike) -> Floats:
    """Yeom et al.: the negated loss. `losses`: shape `(n,)`, at least 0."""
    return -_losses("losses", losses, 1)


def lira(losses: ArrayLike, shadow_losses: ArrayLike, inside: ArrayLike | None = None) -> Floats:
    """LiRA's score of each example, shape `(n,)`: a log-likelihood ratio, offline a number of standard deviations.

    Args:
        losses: of the target, shape `(n,)`.
        shadow_losses: of the shadow models, shape `(models, n)`.
        inside: bool `(models, n)`: whether the example was in the shadow's training data; None for offline, where none
            was. With fewer than 16 models in or out, one variance serves all examples, as the paper advises.

    Raises:
        Refused: shapes, NaN or negative losses, or an example with fewer than two shadows in or out.
    """
    target = confidence(_losses("losses", losses, 1))
    shadows = confidence(_losses("shadow_losses", shadow_losses, 2))
    within = np.zeros(shadows.shape, bool) if inside is None else np.asarray(inside, bool)
    if shadows.shape[1:] != target.shape or within.shape != shadows.shape:
        raise Refused(
            f"lira: shadow_losses {shadows.shape} and inside {within.shape}, expected both (models, {len(target)})"
        )
    out_mean, out_spread = _normal(shadows, ~within, "out of")
    if inside is None:
        scores: Floats = (target - out_mean) / out_spread
        return scores
    in_mean, in_spread = _normal(shadows, within, "in")
    return _log_density(target, in_mean, in_spread) - _log_density(target, out_mean, out_spread)


def rmia(
    losses: ArrayLike,
    shadow_losses: ArrayLike,
    population_losses: ArrayLike,
    population_shadow_losses: ArrayLike,
    *,
    inside: ArrayLike | None = None,
    gamma: float = 2.0,
    offline_a: float = 0.3,
) -> Floats:
    """RMIA's score of each example, shape `(n,)`, in [0, 1].

    Args:
        losses, shadow_losses, inside: as in `lira`; offline, the mean likelihood is taken from the shadows that have
            not seen the example, as (1 + a) / 2 times theirs plus (1 - a) / 2 with a = `offline_a`.
        population_losses: of the target on examples of the population, shape `(m,)`.
        population_shadow_losses: of the shadows on them, shape `(models, m)`; none was trained on them.
        gamma: by how much the example's likelihood ratio has to be above theirs.

    Raises:
        Refused: shapes, or NaN or negative losses.
    """
    target, shadows = _losses("losses", losses, 1), _losses("shadow_losses", shadow_losses, 2)
    others = _losses("population_losses", population_losses, 1)
    other_shadows = _losses("population_shadow_losses", population_shadow_losses, 2)
    if shadows.shape[1:] != target.shape or other_shadows.shape[1:] != others.shape or not len(others):
        raise Refused(
            f"rmia: shadow_losses {shadows.shape} for {len(target)} examples, population_shadow_losses "
            f"{other_shadows.shape} for {len(others)}"
        )
    ratio = np.exp(-target) / np.maximum(_mean_likelihood(shadows, inside, offline_a), _TINY)
    other_ratio = np.exp(-others) / np.maximum(_mean_likelihood(other_shadows, None, offline_a), _TINY)
    ranks = np.searchsorted(np.sort(other_ratio * gamma), ratio, side="right")
    scores: Floats = ranks / len(others)
    return scores


def confidence(losses: Floats) -> Floats:
    """log(p / (1 - p)) of the likelihood p = exp(-loss): LiRA's scale, on which confidences are near normal."""
    losses = np.maximum(losses, _TINY)
    scaled: Floats = -losses - np.log(-np.expm1(-losses))
    return scaled


def _mean_likelihood(shadow_losses: Floats, inside: ArrayLike | None, offline_a: float) -> Floats:
    likelihoods = np.exp(-shadow_losses)
    if inside is None:
        return np.asarray((1 + offline_a) / 2 * likelihoods.mean(0) + (1 - offline_a) / 2)
    within = np.asarray(inside, bool)
    if within.shape != likelihoods.shape or not within.any(0).all() or within.all(0).any():
        raise Refused("rmia: expected inside of the shape of shadow_losses, with models in and out for each example")
    mean_in = (likelihoods * within).sum(0) / within.sum(0)
    mean_out = (likelihoods * ~within).sum(0) / (~within).sum(0)
    return np.asarray((mean_in + mean_out) / 2)


def _normal(values: Floats, mask: NDArray[np.bool_], where: str) -> tuple[Floats, Floats]:
    """Mean and spread of each column's chosen values; one spread for all where they are few."""
    counts = mask.sum(0)
    if (counts < 2).any():
        place = int(np.argmin(counts))
        raise Refused(f"lira: example {place} is {where} {counts[place]} shadow models, expected 2 at least")
    mean = (values * mask).sum(0) / counts
    variance = (np.square(values - mean) * mask).sum(0) / (counts - 1)
    if counts.min() < 16:
        variance = np.full_like(variance, variance.mean())
    return mean, np.sqrt(variance) + _TINY


def _log_density(values: Floats, mean: Floats, spread: Floats) -> Floats:
    density: Floats = -np.log(spread) - np.square((values - mean) / spread) / 2
    return density


def _losses(name: str, values: ArrayLike, dimensions: int) -> Floats:
    losses = np.asarray(values, np.float64)
    if losses.ndim != dimensions or np.isnan(losses).any() or (losses < 0).any():
        raise Refused(f"{name}: expected {dimensions} dimensions and no NaN or negative loss, got {losses.shape}")
    return losses
