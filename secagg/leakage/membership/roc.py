"""Reading membership scores: true-positive rates at false-positive rates so low that an accusation means something.

Averages hide what matters (Carlini et al. 2022): an attack that names a few members without error is a breach, whatever
its accuracy. A rate of 0.1 % is an estimate only if ten non-members at least may be wrong, which takes 10,000 of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secagg.errors import Refused
from secagg.leakage.intervals import Interval, share_interval

FALSE_ALARMS_NEEDED = 10


@dataclass(frozen=True)
class Rate:
    """The share of members found when at most `fpr` of the non-members are accused.

    `tpr` is None, and the reading inconclusive, where `non_members` are too few for `fpr`.
    """

    fpr: float
    tpr: float | None
    members: int
    non_members: int

    @property
    def interval(self) -> Interval | None:
        """The exact binomial interval of `tpr`, over the members."""
        return None if self.tpr is None else share_interval(round(self.tpr * self.members), self.members)

    @property
    def inconclusive(self) -> bool:
        return self.tpr is None

    def __str__(self) -> str:
        if self.tpr is None:
            needed = math.ceil(FALSE_ALARMS_NEEDED / self.fpr)
            return f"inconclusive at {100 * self.fpr:g} % FPR: {self.non_members} non-members, {needed} are needed"
        return f"TPR {100 * self.tpr:.2f} % at {100 * self.fpr:g} % FPR"


@dataclass(frozen=True)
class Roc:
    """Scores of members and of non-members, ascending. Of those that tie, as many are accused at random as may be."""

    members: NDArray[np.float64] = field(repr=False)
    non_members: NDArray[np.float64] = field(repr=False)

    @classmethod
    def of(cls, scores: ArrayLike, is_member: ArrayLike) -> Roc:
        """From scores, shape `(n,)`, and bool of the same shape. Raises `Refused` for NaN, or where one kind lacks."""
        values, member = np.asarray(scores, np.float64), np.asarray(is_member, bool)
        if values.shape != member.shape or values.ndim != 1 or np.isnan(values).any():
            raise Refused(f"roc: scores {values.shape} and is_member {member.shape}, expected one (n,), without NaN")
        if member.all() or not member.any():
            raise Refused("roc: expected members and non-members, got only one of them")
        return cls(np.sort(values[member]), np.sort(values[~member]))

    def at(self, fpr: float) -> Rate:
        """The reading at a false-positive rate in (0, 1]."""
        if not 0 < fpr <= 1:
            raise Refused(f"roc: fpr is {fpr}, expected above 0 and at most 1")
        wrong = len(self.non_members)
        if wrong * fpr < FALSE_ALARMS_NEEDED * (1 - 1e-9):
            return Rate(fpr, None, len(self.members), wrong)
        return Rate(fpr, self._tpr(fpr), len(self.members), wrong)

    def auc(self) -> float:
        """The probability that a member scores higher than a non-member, ties by half."""
        below = np.searchsorted(self.non_members, self.members, side="left").mean()
        up_to = np.searchsorted(self.non_members, self.members, side="right").mean()
        return float((below + up_to) / 2 / len(self.non_members))

    def log_points(self, *, per_decade: int = 10) -> NDArray[np.float64]:
        """The curve for logarithmic axes: columns FPR and TPR, shape `(k, 2)`, from the lowest conclusive FPR to 1."""
        lowest = FALSE_ALARMS_NEEDED / len(self.non_members)
        if lowest > 1:
            return np.zeros((0, 2))
        count = max(2, math.ceil(-math.log10(lowest) * per_decade) + 1)
        rates = np.logspace(math.log10(lowest), 0, count)
        return np.array([[rate, self._tpr(rate)] for rate in rates])

    def _tpr(self, fpr: float) -> float:
        """The share of members accused when so large a share of the non-members is, in the mean over the ties."""
        wrong = fpr * len(self.non_members)
        if (certain := int(wrong + 1e-9)) >= len(self.non_members):
            return 1.0
        threshold = self.non_members[len(self.non_members) - certain - 1]
        share = (wrong - (self.non_members > threshold).sum()) / (self.non_members == threshold).sum()
        return float((self.members > threshold).mean() + max(share, 0.0) * (self.members == threshold).mean())
