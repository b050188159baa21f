"""Families of attacks: what each recovers, in the report's words, and which axes of the matrix it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Family = Literal["inversion", "labels", "imprint", "inconsistency", "membership"]
LOCAL = ("local_epochs", "local_batch")
BLIND_TO: Mapping[str, tuple[str, ...]] = {"analytic-linear": ("labels", "adaptive"), "spear": ("labels", "adaptive")}
"""Axes on which single attacks do not depend, beyond those of their family."""


@dataclass(frozen=True)
class Traits:
    """What holds for a whole family.

    Attributes:
        success: the metric, a share, that tells whether the attack works.
        recovered: what that share counts.
        title: what the summary calls the family.
        enough: the share that parts success from failure, or None for the evaluation's own `control`.
        fixed: axes that have one value only.
        ignored: axes on which the result does not depend. An evaluation that sets one is refused.
    """

    success: str
    recovered: str
    title: str
    enough: float | None = None
    fixed: dict[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


FAMILIES: Mapping[Family, Traits] = {
    "inversion": Traits("identified", "of images identified", "Images out of updates"),
    "labels": Traits("label", "of labels read", "Labels read off an update", ignored=("labels", "adaptive")),
    "imprint": Traits(
        "hit",
        "of images recovered",
        "Images brought out by a model that the server made for it",
        ignored=("labels", "adaptive"),
    ),
    "inconsistency": Traits(
        "isolated",
        "of updates isolated",
        "Single updates isolated by showing two models",
        fixed={"adversary": "server"},
        ignored=("defence", "labels", "adaptive", *LOCAL),
    ),
    "membership": Traits(
        "found",
        "of members recognised",
        "Training examples recognised in the finished model at one false alarm in a hundred",
        enough=0.02,  # twice the false alarms at which it is read
        fixed={"adversary": "everybody", "stage": "trained"},
        ignored=("batch", "clients", "labels", "statistics", "adaptive", *LOCAL),
    ),
}
