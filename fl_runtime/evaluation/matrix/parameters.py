"""Parameters of the attacks that are whole experiments of their own, with their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from secagg.leakage.parameters import Rule, check

Bins = Annotated[int, Rule("a whole number from 2 to 65536", lambda bins: 2 <= bins <= 65536)]
Shadows = Annotated[int, Rule("6, 9, 12 ...: three share out the rows", lambda count: count >= 6 and count % 3 == 0)]
Rounds = Annotated[int, Rule("a whole number from 0 to 100000", lambda rounds: 0 <= rounds <= 100_000)]


@dataclass(frozen=True)
class ReadLabels:
    """Reading labels off updates has none."""

    name: ClassVar[str] = "labels"


@dataclass(frozen=True)
class Imprint:
    """`bins`: neurons of the imprint block, each of which can hold one image."""

    bins: Bins = 64

    name: ClassVar[str] = "imprint"

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class ModelInconsistency:
    """`layer`: the one that is dead in the second model, or "" for the first in front of a ReLU."""

    layer: str = ""

    name: ClassVar[str] = "model-inconsistency"

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Membership:
    """`rounds`: of the target's training and of each shadow's; 0 for those of the evaluation."""

    method: Literal["loss", "lira", "rmia"] = "rmia"
    shadows: Shadows = 6
    rounds: Rounds = 0

    name: ClassVar[str] = "membership"

    def __post_init__(self) -> None:
        check(self)
