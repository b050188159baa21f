"""Parameters of the attacks that are whole experiments of their own, with their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from secagg.errors import Refused


@dataclass(frozen=True)
class ReadLabels:
    """Reading labels off updates has none."""


@dataclass(frozen=True)
class Imprint:
    """`bins`: neurons of the imprint block, each of which can hold one image."""

    bins: int = 64

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise Refused(f"bins is {self.bins}, expected 2 or more")


@dataclass(frozen=True)
class ModelInconsistency:
    """`layer`: the one that is dead in the second model, or "" for the first in front of a ReLU."""

    layer: str = ""


@dataclass(frozen=True)
class Membership:
    """`rounds`: of the target's training and of each shadow's; 0 for those of the evaluation."""

    method: Literal["loss", "lira", "rmia"] = "rmia"
    shadows: int = 6
    rounds: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("loss", "lira", "rmia"):
            raise Refused(f"method is {self.method!r}, expected 'loss', 'lira' or 'rmia'")
        if self.shadows < 6 or self.shadows % 3:
            raise Refused(f"shadows is {self.shadows}, expected 6, 9, 12 ...: three share out the rows")
        if self.rounds < 0:
            raise Refused(f"rounds is {self.rounds}, expected 0 or more")
