"""Named tensors <-> one flat float32 vector, and the layout that says which coordinate is whose.

Only floating-point tensors are aggregated. Integer buffers (BatchNorm's `num_batches_tracked`, index tables)
have no meaningful mean: `Layout.of` lists them as *held*, they are never sent, and every site keeps its own.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from secagg.errors import InvalidUpdate, Refused
from secagg.record import canonical_json
from secagg.settings import read_settings

MAX_PARAMETERS = 1 << 32
_FLOATS = {"float16", "float32", "float64"}
Length = Annotated[int, Field(ge=0, le=MAX_PARAMETERS)]


class Tensor(BaseModel):
    """One named tensor of a model: its shape, and the dtype it is given back in."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=256)]
    shape: Annotated[tuple[Length, ...], Field(max_length=16, strict=False)]
    dtype: Literal["float16", "float32", "float64"] = "float32"

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return math.prod(self.shape)


class Layout(BaseModel):
    """The order, shapes and dtypes of a model's tensors in the flat vector. Equal digests, equal meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    tensors: Annotated[tuple[Tensor, ...], Field(min_length=1, max_length=65536, strict=False)]
    held: Annotated[tuple[str, ...], Field(max_length=65536, strict=False)] = ()

    def model_post_init(self, context: Any) -> None:
        names = [tensor.name for tensor in self.tensors] + list(self.held)
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise Refused(f"layout: tensor {twice[0]!r} stands twice")
        if not 0 < self.size <= MAX_PARAMETERS:
            raise Refused(f"layout: {self.size} parameters, expected 1 to {MAX_PARAMETERS}")

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> Layout:
        """The layout of named arrays, in their order. Raises `Refused` for a dtype that cannot be averaged."""
        moving, held = [], []
        for name, array in tensors.items():
            dtype = str(np.asarray(array).dtype)
            if dtype in _FLOATS:
                moving.append({"name": name, "shape": tuple(array.shape), "dtype": dtype})
            elif np.asarray(array).dtype.kind in "iub":
                held.append(name)
            else:
                raise Refused(f"tensor {name!r} has dtype {dtype}, expected a float or an integer type")
        if not moving:
            raise Refused("layout: no floating-point tensor to aggregate")
        return read_settings(cls, {"tensors": moving, "held": held}, where="layout")

    @classmethod
    def flat(cls, size: int, *, name: str = "vector") -> Layout:
        """The layout of one float32 vector."""
        return read_settings(cls, {"tensors": [{"name": name, "shape": [size]}]}, where="layout")

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of names, shapes, dtypes and order."""
        return hashlib.sha256(b"secagg/v1/layout" + canonical_json(self.model_dump(mode="json"))).hexdigest()

    def slices(self) -> Iterator[tuple[Tensor, slice]]:
        """Each tensor with its place in the flat vector."""
        start = 0
        for tensor in self.tensors:
            yield tensor, slice(start, start + tensor.size)
            start += tensor.size

    def flatten(self, tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Copy named tensors into one float32 vector of shape `(size,)`.

        Raises:
            InvalidUpdate: a tensor is missing, unknown, of another shape or dtype, or holds NaN or infinity
                (a float64 beyond the range of float32 counts as infinity).
        """
        unknown = set(tensors) - {tensor.name for tensor in self.tensors} - set(self.held)
        if unknown:
            raise InvalidUpdate(f"tensor {min(unknown)!r} is not in the layout")
        vector = np.empty(self.size, np.float32)
        for tensor, place in self.slices():
            if tensor.name not in tensors:
                raise InvalidUpdate(f"tensor {tensor.name!r} is missing")
            array = np.asarray(tensors[tensor.name])
            if array.shape != tensor.shape or str(array.dtype) != tensor.dtype:
                raise InvalidUpdate(
                    f"tensor {tensor.name!r} is {array.dtype}{list(array.shape)}, "
                    f"expected {tensor.dtype}{list(tensor.shape)}"
                )
            with np.errstate(over="ignore"):
                vector[place] = array.reshape(-1)
        self.check(vector)
        return vector

    def unflatten(self, vector: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Split a float32 vector of shape `(size,)` into fresh arrays of their own shapes and dtypes."""
        self.check(vector)
        tensors = {}
        with np.errstate(over="ignore"):
            for tensor, place in self.slices():
                tensors[tensor.name] = vector[place].reshape(tensor.shape).astype(tensor.dtype)
                if not np.isfinite(tensors[tensor.name]).all():
                    raise InvalidUpdate(f"tensor {tensor.name!r} holds a value beyond the range of {tensor.dtype}")
        return tensors

    def check(self, vector: NDArray[np.float32]) -> None:
        """Raise `InvalidUpdate` unless `vector` is float32, of shape `(size,)` and finite (T15, T16)."""
        if not isinstance(vector, np.ndarray) or vector.dtype != np.float32 or vector.shape != (self.size,):
            described = f"{getattr(vector, 'dtype', type(vector).__name__)}{list(np.shape(vector))}"
            raise InvalidUpdate(f"update is {described}, expected float32[{self.size}]")
        if np.isfinite(vector).all():
            return
        for tensor, place in self.slices():
            bad = np.flatnonzero(~np.isfinite(vector[place]))
            if bad.size:
                value = vector[place][bad[0]]
                raise InvalidUpdate(
                    f"tensor {tensor.name!r} holds {value} at flat index {bad[0]} "
                    f"({bad.size} of {tensor.size} values are not finite)"
                )
