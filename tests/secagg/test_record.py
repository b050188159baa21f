"""Records and JSON from outside: what is written is read back, and everything else is `Malformed`, never a crash."""

from __future__ import annotations

import contextlib
import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from secagg.record import MAGIC, Malformed, canonical_json, decode, encode, strict_json

DTYPES = ("uint8", "int32", "int64", "uint32", "uint64", "float32", "float64")
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
names = st.text(max_size=8).filter(lambda name: not name.startswith("$"))
values = st.recursive(
    scalars | st.binary(max_size=40) | arrays,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
records = st.dictionaries(names, values, max_size=4)


def same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, dict):
        return set(left) == set(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


def raw(header: bytes, blobs: bytes = b"") -> bytes:
    return struct.pack(">4sI", MAGIC, len(header)) + header + blobs


@given(records)
def test_what_is_written_is_read_back(fields: dict[str, Any]) -> None:
    assert same(decode(encode(fields)), fields)


@given(records)
def test_equal_values_are_equal_bytes_whatever_their_order(fields: dict[str, Any]) -> None:
    assert encode(dict(reversed(fields.items()))) == encode(fields)


@given(records, st.data())
def test_a_truncated_or_longer_record_is_malformed(fields: dict[str, Any], data: st.DataObject) -> None:
    whole = encode(fields)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(Malformed):
        decode(whole[:cut])
    with pytest.raises(Malformed):
        decode(whole + b"\0")


@given(records, st.data())
def test_an_altered_record_reads_or_is_malformed_and_nothing_else(fields: dict[str, Any], data: st.DataObject) -> None:
    altered = bytearray(encode(fields))
    for _ in range(data.draw(st.integers(1, 3))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Malformed):
        decode(bytes(altered))


@given(st.binary(max_size=60))
def test_any_bytes_are_malformed(noise: bytes) -> None:
    with pytest.raises(Malformed):
        decode(noise)
    with pytest.raises(Malformed):
        decode(raw(b'{"a":' + noise + b"\xff}"))


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"3",
        b'{"$bytes":0}',
        b'{"a":{"$bytes":1}}',
        b'{"a":{"$bytes":-1}}',
        b'{"a":{"$bytes":true}}',
        b'{"a":{"$bytes":0.0}}',
        b'{"a":{"$bytes":null}}',
        b'{"a":{"$array":["object",[0]]}}',
        b'{"a":{"$array":["float16",[0]]}}',
        b'{"a":{"$array":["uint8",[1099511627776]]}}',
        b'{"a":{"$array":["uint8",[1099511627775,1099511627775]]}}',
        b'{"a":{"$array":["uint8",[-1]]}}',
        b'{"a":{"$array":["uint8",[true]]}}',
        b'{"a":{"$array":["uint8"]}}',
        b'{"a":{"$array":{}}}',
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
    ],
)
def test_a_header_that_lies_is_malformed(header: bytes) -> None:
    with pytest.raises(Malformed):
        decode(raw(header))


@pytest.mark.parametrize(
    ("shape", "blob"),
    [([0, 2**39, 2**39], b""), ([1] * 65, b"\0"), ([0] * 100, b"")],
    ids=["an empty array of absurd sides", "65 dimensions", "100 empty dimensions"],
)
def test_a_shape_that_numpy_cannot_hold_is_malformed(shape: list[int], blob: bytes) -> None:
    with pytest.raises(Malformed):
        decode(raw(json.dumps({"a": {"$array": ["uint8", shape]}}).encode(), blob))


@pytest.mark.parametrize("depth", [100, 300, 450, 500, 700, 900, 960, 980, 5000, 100_000])
def test_depth_is_no_crash(depth: int) -> None:
    header = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    with contextlib.suppress(Malformed):
        decode(raw(header))


def test_arrays_are_read_only_views_of_the_bytes() -> None:
    data = encode({"a": np.arange(5, dtype=np.uint32)})
    array = decode(data)["a"]
    assert not array.flags.writeable
    assert array.base is not None


def test_a_strided_array_is_written_by_value() -> None:
    array = np.arange(12, dtype=np.int64).reshape(3, 4)[:, ::2]
    np.testing.assert_array_equal(decode(encode({"a": array}))["a"], array)


@pytest.mark.parametrize("dtype", ["bool", "float16", ">u4", "complex64", "object", "int16"])
def test_an_array_that_cannot_be_read_back_is_not_written(dtype: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode({"a": np.zeros(2, dtype)})


@pytest.mark.parametrize("fields", [{"$bytes": 0}, {"$array": ["uint8", [0]]}])
def test_a_mapping_that_looks_like_a_blob_is_not_mistaken_for_one(fields: dict[str, Any]) -> None:
    try:
        written = encode({"a": fields})
    except (ValueError, TypeError):
        return
    assert same(decode(written), {"a": fields})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_canonical_json_has_no_nan(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": value})


def test_canonical_json_is_one_form() -> None:
    assert canonical_json({"b": 1, "a": [1, "é"]}) == b'{"a":[1,"\\u00e9"],"b":1}'


@given(st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10))
def test_canonical_json_is_read_back(value: Any) -> None:
    assert same(strict_json(canonical_json(value)), value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{} {}",
        b"\xff",
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b'{"a":1,"a":1}',
        b'{"x":{"a":1,"a":2}}',
        b"'a'",
        b"[1,]",
        b"[" * 100_000,
    ],
)
def test_what_is_not_strict_json_is_malformed(text: bytes) -> None:
    with pytest.raises(Malformed):
        strict_json(text)


@pytest.mark.parametrize("text", [b"1e999", b'{"a":[-1e400]}'])
def test_a_number_beyond_floats_is_malformed_and_not_infinity(text: bytes) -> None:
    """Else it is parsed, and `canonical_json` of the same value fails later."""
    with pytest.raises(Malformed):
        strict_json(text)


def test_an_integer_of_absurd_length_is_malformed() -> None:
    with pytest.raises(Malformed):
        strict_json(b"9" * 5000)
