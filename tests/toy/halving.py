"""A trivial layer: halves at the client, adds one to every integer, and undoes both where the sum appears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from secagg.errors import Refused
from secagg.fixedpoint import FixedPoint, Integers
from secagg.guarantees import Guarantees
from secagg.protocol import Rng, SecureSum
from secagg.settings import Settings
from secagg.spec import RoundSpec
from secagg.vectors import Layout


class HalvingParameters(Settings):
    """How often to halve."""

    times: int = Field(1, ge=1, le=4)


class Halving:
    """The layer."""

    kind: ClassVar[Literal["layer"]] = "layer"
    Parameters: ClassVar[type[Settings]] = HalvingParameters
    name = "halving"

    def __init__(self, parameters: HalvingParameters) -> None:
        self.parameters: Mapping[str, Any] = parameters.model_dump()
        self._factor = 2**parameters.times

    def around(self, inner: Guarantees) -> Halving:
        return self

    def check(self, spec: RoundSpec) -> None: ...

    def encoding(self, value_bound: float, *, clients: int, size: int) -> Mapping[str, Any]:
        return {}

    def extend(self, layout: Layout) -> Layout:
        return layout

    def before(self, vector: NDArray[np.float32], encoding: FixedPoint) -> NDArray[np.float32]:
        return vector / np.float32(self._factor)

    def onto(self, integers: Integers, encoding: FixedPoint, rng: Rng) -> Integers:
        shifted = integers.copy()
        shifted[:-1] += 1  # the last coordinate is the weight
        return shifted

    def after(self, total: SecureSum, rng: Rng) -> SecureSum:
        return total.with_totals((total.totals.astype(np.int64) - len(total.contributors)) * self._factor)

    def compose(self, inner: Guarantees) -> Guarantees:
        if inner.result_at == "clients":
            raise Refused("halving: the sum must appear at the server")
        return replace(inner, protection=f"halved, {inner.protection}")

    def spent(self, rounds: int, *, clients: int | None = None) -> Mapping[str, Any] | None:
        return None
