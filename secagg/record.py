"""Records: named values as bytes, for stored session state and for structured message bodies.

A record is a length-prefixed JSON header followed by the raw bytes of its binary fields, in order:

    b"SAR1" | header length, uint32 | header, UTF-8 JSON | blob | blob | ...

Reading one never executes anything and never allocates more than the bytes it was given: every length in
the header is checked against what is really there first. It is our replacement for pickle.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

MAGIC = b"SAR1"
_PREFIX = struct.Struct(">4sI")
_DTYPES = {"uint8", "int32", "int64", "uint32", "uint64", "float32", "float64"}


class Malformed(ValueError):
    """The bytes are not a record, or not one of the expected shape."""


def canonical_json(value: object) -> bytes:
    """The one JSON form of `value` that is ever hashed or signed: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def strict_json(data: bytes) -> Any:
    """Parse JSON from outside. Raises `Malformed` on anything but one UTF-8 JSON value without NaN.

    A key that stands twice in one object is refused: two readers could disagree on what was signed.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise Malformed("a key stands twice in one object")
        return fields

    def refuse(literal: str) -> Any:
        raise Malformed(f"{literal} is not JSON")

    def finite(literal: str) -> float:
        number = float(literal)
        return number if math.isfinite(number) else refuse(literal[:40])

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse, parse_float=finite)
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits is a ValueError
        raise Malformed(f"not JSON: {error}") from None


def encode(fields: Mapping[str, Any]) -> bytes:
    """Serialise named values: JSON values, and `bytes` or NumPy arrays at any depth of dicts and lists."""
    blobs: list[bytes | memoryview] = []

    def pack(value: Any) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):
            blobs.append(bytes(value))
            return {"$bytes": len(blobs[-1])}
        if isinstance(value, np.ndarray):
            if str(value.dtype) not in _DTYPES:
                raise Malformed(f"a record holds no arrays of {value.dtype}")
            blobs.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
            return {"$array": [str(value.dtype), list(value.shape)]}
        if isinstance(value, Mapping):
            if any(str(key).startswith("$") for key in value):
                raise Malformed("a name in a record must not begin with $")
            return {str(key): pack(value[key]) for key in sorted(value, key=str)}
        if isinstance(value, list | tuple):
            return [pack(item) for item in value]
        return value

    # Blobs are consumed in header order, and sorting keys before packing makes that the sorted order.
    header = canonical_json(pack(fields))
    return b"".join([_PREFIX.pack(MAGIC, len(header)), header, *blobs])


def decode(data: bytes | memoryview) -> dict[str, Any]:
    """Read a record back. Arrays are read-only views of `data`.

    Raises:
        Malformed: the bytes are truncated, too long, or name a type that a record cannot hold.
    """
    view = memoryview(data)
    if len(view) < _PREFIX.size:
        raise Malformed("truncated record")
    magic, header_length = _PREFIX.unpack_from(view)
    if magic != MAGIC or header_length > len(view) - _PREFIX.size:
        raise Malformed("not a record, or truncated")
    offset = _PREFIX.size + header_length

    def take(count: int) -> memoryview:
        nonlocal offset
        if type(count) is not int or count < 0 or count > len(view) - offset:
            raise Malformed("a field is longer than the record")
        offset += count
        return view[offset - count : offset]

    def unpack(value: Any) -> Any:
        if isinstance(value, list):
            return [unpack(item) for item in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"$bytes"}:
            return bytes(take(value["$bytes"]))
        if set(value) == {"$array"}:
            return _array(value["$array"], take)
        return {key: unpack(value[key]) for key in value}

    try:
        fields = unpack(strict_json(bytes(view[_PREFIX.size : offset])))
    except RecursionError:
        raise Malformed("nested too deeply") from None
    if not isinstance(fields, dict):
        raise Malformed("a record is a mapping of names to values")
    if offset != len(view):
        raise Malformed(f"{len(view) - offset} bytes behind the last field")
    return fields


def _array(described: Any, take: Any) -> np.ndarray[Any, Any]:
    match described:
        case [str() as name, list() as shape] if (
            name in _DTYPES and len(shape) <= 8 and all(type(n) is int and 0 <= n < 2**40 for n in shape)
        ):
            dtype = np.dtype(name)
        case _:
            raise Malformed("not an array that a record can hold")
    count = 1
    for length in shape:
        count *= length
    try:
        return np.frombuffer(take(count * dtype.itemsize), dtype).reshape(shape)
    except ValueError as error:
        raise Malformed(f"not an array that a record can hold: {error}") from None
