"""Tensors out of a safetensors file: the length of a table, the table in JSON, and raw little-endian numbers.

Reading one runs no code. Every offset is checked against the file before anything is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from secagg.errors import Refused

MAX_TABLE_BYTES = 100_000_000
DTYPES: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8")}


def read_safetensors(path: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """Those of the named tensors that the file holds.

    Raises:
        OSError: the file cannot be read.
        Refused: it is no safetensors file, is cut off, or a tensor is of another type than F16, F32 or F64.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_TABLE_BYTES):
            raise Refused(f"{path}: no safetensors file, or cut off")
        try:
            table = json.loads(file.read(length))
        except (ValueError, RecursionError):
            raise Refused(f"{path}: the table of its tensors is not JSON") from None
        if not isinstance(table, dict):
            raise Refused(f"{path}: the table of its tensors is {type(table).__name__}, expected an object")
        found = {}
        for name in names:
            if name in table:
                dtype, shape, start, stop = _entry(path, name, table[name], size - 8 - length)
                file.seek(8 + length + start)
                values = np.frombuffer(file.read(stop - start), dtype).reshape(shape)
                found[name] = torch.from_numpy(values.astype(dtype.newbyteorder("=")))
        return found


def _entry(path: Path, name: str, entry: Any, data_bytes: int) -> tuple[np.dtype[Any], list[int], int, int]:
    """Type, shape, and where it starts and stops in the data."""
    try:
        kind, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, start, stop]
    except (KeyError, TypeError, ValueError):
        raise Refused(f"{path}: {name} has no dtype, shape and two data_offsets in the table") from None
    if not isinstance(kind, str) or kind not in DTYPES:
        raise Refused(f"{path}: {name} is of type {kind!r:.40}, expected one of {', '.join(DTYPES)}")
    if not all(type(number) is int and 0 <= number <= data_bytes for number in numbers):
        raise Refused(f"{path}: shape and offsets of {name} are not whole numbers within {data_bytes} bytes of data")
    if stop - start != math.prod(shape) * DTYPES[kind].itemsize:
        raise Refused(f"{path}: {name} lies at bytes {start} to {stop}, which does not fit its shape")
    return DTYPES[kind], shape, start, stop
