"""What a cell measured: figures for each victim, so that repeats can be pooled and intervals drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass
class Measured:
    """The result of one cell.

    Attributes:
        means: metric to one value for each victim (or observation): reported as a mean.
        shares: metric to one 0 or 1 for each: reported as a share.
        success: the share that tells whether the attack works, compared with that of its control.
        enough: the share from which on it works, or None for the evaluation's own `control`.
        blind: what the metrics of `shares` come to without the update, by chance.
        sees: the views that were attacked, in words.
        pictures: originals and reconstructions side by side, uint8 `(n, 2, channels, height, width)`.
        search: what was tried to tune the attack: parameters and the mean score of each.
        notes: what else a reader must know: a layer that is not supported, what a client would have noticed.
        problem: why there are no figures, or None.
        kind: "measured" where an update was attacked; "blank" where some were seen and all their values were zero, so
            that no attack here says anything; "nothing" where the adversary sees none.
    """

    means: dict[str, list[float]] = field(default_factory=dict)
    shares: dict[str, list[int]] = field(default_factory=dict)
    success: str = ""
    enough: float | None = None
    blind: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    sees: list[str] = field(default_factory=list)
    cohort: int = 0
    needs: list[str] = field(default_factory=list)
    pictures: Any = None
    search: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problem: str | None = None
    kind: Literal["measured", "blank", "nothing"] = "measured"
    upload_bytes: float | None = None
    iterations: int = 0
    seconds: float = 0.0

    def mean(self, metric: str, value: float) -> None:
        """One more value of a metric that is averaged."""
        self.means.setdefault(metric, []).append(float(value))

    def share(self, metric: str, hit: bool) -> None:
        """One more hit or miss."""
        self.shares.setdefault(metric, []).append(int(hit))

    def saw(self, view: str) -> None:
        if view not in self.sees:
            self.sees.append(view)

    def to_record(self) -> dict[str, Any]:
        """For the cache: plain values and arrays."""
        stored = dict(vars(self))
        stored["means"] = {name: np.asarray(values, np.float64) for name, values in self.means.items()}
        stored["shares"] = {name: np.asarray(values, np.uint8) for name, values in self.shares.items()}
        return stored

    @classmethod
    def from_record(cls, stored: dict[str, Any]) -> Measured:
        """Back from the cache."""
        fields = dict(stored)
        for name in ("means", "shares"):
            fields[name] = {metric: values.tolist() for metric, values in stored[name].items()}
        return cls(**fields)
