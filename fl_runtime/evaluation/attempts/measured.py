"""What a cell measured: figures for each victim, so that repeats can be pooled and intervals drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["measured", "blank", "nothing"]
"""An update was attacked; one was seen and all its values were zero, so that no attack here says anything; none was
seen."""


@dataclass(frozen=True)
class Attempt:
    """One attack on one update, on one sum, on one model, or on nothing at all.

    Attributes:
        sees: what was attacked, in words.
        cohort: how many updates are in it.
        means: metric to one value for each victim (or one for all): reported as a mean.
        shares: metric to one 0 or 1 for each: reported as a share.
        pictures: originals and reconstructions side by side, uint8 `(n, 2, channels, height, width)`.
        notes: what else a reader must know: what a client would have noticed, why no sum came about.
    """

    sees: str
    kind: Kind = "measured"
    cohort: int = 0
    means: Mapping[str, Sequence[float]] = field(default_factory=dict)
    shares: Mapping[str, Sequence[int]] = field(default_factory=dict)
    pictures: NDArray[np.uint8] | None = None
    notes: tuple[str, ...] = ()
    iterations: int = 0
    seconds: float = 0.0

    @classmethod
    def nothing(cls, metric: str, victims: int) -> Attempt:
        """No update was seen of so many victims: none of them is a hit."""
        return cls("nothing", "nothing", shares={metric: [0] * victims})


@dataclass(frozen=True)
class Measured:
    """The result of one cell: all its attempts together.

    Attributes:
        kind: "blank" if any attempt was, else "measured" if any was.
        by_chance: what the family's success comes to without the update.
        needs: what the adversary must know or be able to do, in words.
        search: what was tried to tune the attack: parameters and the mean score of each.
        curves: points to draw, shape `(n, 2)`.
        spent: the privacy spent by the training of the attacked model, where that is not the cell's own training.
        problem: why there are no figures, or None.
    """

    kind: Kind = "nothing"
    means: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    shares: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    by_chance: float = 0.0
    sees: Sequence[str] = ()
    cohort: int = 0
    needs: Sequence[str] = ()
    pictures: NDArray[np.uint8] | None = None
    search: Sequence[Mapping[str, Any]] = ()
    curves: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    spent: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()
    problem: str | None = None
    upload_bytes: float | None = None
    iterations: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, attempts: Iterable[Attempt], *, notes: Sequence[str] = (), **more: Any) -> Measured:
        """The attempts of a cell, one or more; `notes` and the other fields are of all of them.

        What was blank has no figures: no attack was made on it, and to count it as one that failed would be wrong.
        """
        tried = list(attempts)
        kinds = {attempt.kind for attempt in tried}
        attacked = [attempt for attempt in tried if attempt.kind != "blank"]
        pictures = [attempt.pictures for attempt in attacked if attempt.pictures is not None]
        return cls(
            kind="blank" if "blank" in kinds else "measured" if "measured" in kinds else "nothing",
            means=_joined([attempt.means for attempt in attacked], np.float64),
            shares=_joined([attempt.shares for attempt in attacked], np.uint8),
            sees=_once(attempt.sees for attempt in tried),
            cohort=max(attempt.cohort for attempt in tried),
            pictures=np.concatenate(pictures) if pictures else None,
            notes=_once([*(note for attempt in tried for note in attempt.notes), *notes]),
            iterations=sum(attempt.iterations for attempt in tried),
            seconds=sum(attempt.seconds for attempt in tried),
            **more,
        )

    def to_record(self) -> dict[str, Any]:
        """For the cache: plain values and arrays."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def from_record(cls, stored: Mapping[str, Any]) -> Measured:
        """Back from the cache."""
        return cls(**stored)


def _joined(parts: Sequence[Mapping[str, Sequence[Any]]], dtype: type) -> dict[str, NDArray[Any]]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: np.array([value for part in parts for value in part.get(name, ())], dtype) for name in names}


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
