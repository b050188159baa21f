"""What DP-SGD spends: one accountant an owner of samples, Opacus' PRV (Gopi et al. 2021, arXiv 2106.02848).

Guarantee: for batches that are Poisson samples nobody sees, the figures are upper bounds for adding or removing one
sample of one owner. Another accountant agrees within 1 % (D10, in the tests).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from opacus.accountants import PRVAccountant
from opacus.accountants.utils import get_noise_multiplier

from secagg.errors import Refused

ACCOUNTANT = "Opacus PRV"
_SMALLEST_TARGET = 0.05
History = tuple[tuple[float, float, int], ...]


@dataclass
class Spending:
    """Steps taken, owner by owner."""

    _accountants: dict[str, PRVAccountant] = field(default_factory=dict)

    def step(self, owner: str, *, noise_multiplier: float, sample_rate: float) -> None:
        """Charge one step to `owner`. Call it *before* the noise is drawn: a crash must not refund it."""
        account = self._accountants.setdefault(owner, PRVAccountant())
        account.step(noise_multiplier=noise_multiplier, sample_rate=sample_rate)

    def steps(self, owner: str) -> int:
        """How many steps `owner` was charged."""
        return sum(count for _, _, count in self.history(owner))

    def history(self, owner: str) -> History:
        """(noise multiplier, sampling rate, steps) of `owner`, in order."""
        return tuple(self._accountants[owner].history) if owner in self._accountants else ()

    def worst(self, delta: float) -> tuple[float, History]:
        """The largest epsilon of any owner at `delta`, and the history that it is of; (0, ()) before the first step."""
        histories = {self.history(owner) for owner in self._accountants}
        return max(((epsilon_of(history, delta), history) for history in sorted(histories)), default=(0.0, ()))


@functools.lru_cache(maxsize=4096)
def epsilon_of(history: History, delta: float) -> float:
    """Epsilon at `delta` of these steps: an upper bound, within 0.01 of the truth."""
    accountant = PRVAccountant()
    accountant.history = list(history)
    with _quiet():
        return float(accountant.get_epsilon(delta))


@functools.lru_cache(maxsize=4096)
def solve_noise_multiplier(target_epsilon: float, target_delta: float, *, sample_rate: float, steps: int) -> float:
    """A noise multiplier that keeps `steps` steps within the target, and at most 1 % of epsilon under it.

    Raises:
        Refused: the target is under 0.05, where the accountant's own 0.01 would be most of it, or no noise reaches it.
    """
    if target_epsilon < _SMALLEST_TARGET:
        raise Refused(f"target_epsilon is {target_epsilon:g}, expected at least {_SMALLEST_TARGET}")
    with _quiet():
        try:
            found = get_noise_multiplier(
                target_epsilon=target_epsilon,
                target_delta=target_delta,
                sample_rate=sample_rate,
                steps=steps,
                accountant="prv",
                epsilon_tolerance=0.01 * target_epsilon,
            )
        except ValueError:
            raise Refused(
                f"target_epsilon is {target_epsilon:g} at delta {target_delta:g} over {steps} steps of rate "
                f"{sample_rate:g}: no noise reaches it"
            ) from None
    return float(found)


@contextmanager
def _quiet() -> Iterator[None]:
    """Opacus warns of cells that it then masks (log of 0), and of orders that only size its grid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield
