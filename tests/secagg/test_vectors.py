"""Named tensors and the flat vector: what goes in comes out, and what is wrong is named before anything is sent."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from pydantic import ValidationError

from secagg.errors import InvalidUpdate, Refused
from secagg.vectors import Layout, Tensor

TENSORS: dict[str, NDArray[Any]] = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.array([0.5, -2.0], np.float16),
    "scale": np.array(3.25, np.float64),
    "steps": np.array(7, np.int64),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 4), np.float32),
}
LAYOUT = Layout.of(TENSORS)

models = st.dictionaries(
    st.text(min_size=1, max_size=5),
    st.sampled_from(["float16", "float32", "float64", "int64", "uint8"]).flatmap(
        lambda dtype: npst.arrays(
            dtype,
            npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
            elements=st.floats(width=16, allow_nan=False, allow_infinity=False) if dtype[0] == "f" else None,
        )
    ),
    max_size=5,
).filter(lambda model: any(array.size and array.dtype.kind == "f" for array in model.values()))


@given(models)
def test_flatten_and_back(model: dict[str, NDArray[Any]]) -> None:
    """Values that fit float16 survive in every dtype, bit for bit, in their own shapes and dtypes."""
    layout = Layout.of(model)
    back = layout.unflatten(layout.flatten(model))
    assert list(back) == [name for name, array in model.items() if array.dtype.kind == "f"]
    for name, array in back.items():
        assert array.dtype == model[name].dtype
        assert array.shape == model[name].shape
        assert array.tobytes() == model[name].tobytes()
    assert set(layout.held) == {name for name, array in model.items() if array.dtype.kind != "f"}


@given(models)
def test_flatten_equals_its_slow_twin(model: dict[str, NDArray[Any]]) -> None:
    slow = [float(value) for array in model.values() if array.dtype.kind == "f" for value in array.ravel()]
    assert Layout.of(model).flatten(model).tolist() == slow


@given(npst.arrays("float64", 5, elements=st.floats(-1e38, 1e38)))
def test_float64_is_rounded_to_float32_once(values: NDArray[np.float64]) -> None:
    layout = Layout.of({"x": values})
    vector = layout.flatten({"x": values})
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(layout.unflatten(vector)["x"], values.astype(np.float32).astype(np.float64))


def test_integer_buffers_are_held_and_never_sent() -> None:
    assert LAYOUT.held == ("steps", "mask")
    assert LAYOUT.size == 6 + 2 + 1
    assert set(LAYOUT.unflatten(LAYOUT.flatten(TENSORS))) == {"w", "half", "scale", "empty"}
    # A site may hand them over or keep them.
    without = {name: array for name, array in TENSORS.items() if name not in LAYOUT.held}
    np.testing.assert_array_equal(LAYOUT.flatten(without), LAYOUT.flatten(TENSORS))


def test_slices_cover_the_vector_once() -> None:
    places = [place for _, place in LAYOUT.slices()]
    covered = np.concatenate([np.arange(LAYOUT.size)[place] for place in places])
    np.testing.assert_array_equal(covered, np.arange(LAYOUT.size))


def test_unflatten_gives_fresh_arrays() -> None:
    vector = LAYOUT.flatten(TENSORS)
    back = LAYOUT.unflatten(vector)
    back["w"][0, 0] = 99
    assert vector[0] == 0


@pytest.mark.parametrize("name", ["w", "half", "scale"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_t15_a_value_that_is_not_finite_names_its_tensor(name: str, value: float) -> None:
    bad = {key: array.copy() for key, array in TENSORS.items()}
    bad[name].reshape(-1)[-1] = value
    size = bad[name].size
    with pytest.raises(
        InvalidUpdate, match=rf"tensor '{name}' holds {value} at flat index {size - 1} \(1 of {size} values"
    ):
        LAYOUT.flatten(bad)


def test_t15_a_float64_beyond_float32_is_infinite() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidUpdate, match="tensor 'scale' holds inf"):
            LAYOUT.flatten(TENSORS | {"scale": np.array(1e39)})


def test_t15_all_bad_values_of_the_first_bad_tensor_are_counted() -> None:
    vector = LAYOUT.flatten(TENSORS)
    vector[[2, 4, 7]] = np.nan
    with pytest.raises(InvalidUpdate, match=r"tensor 'w' holds nan at flat index 2 \(2 of 6 values"):
        LAYOUT.check(vector)


def test_a_mean_that_float16_cannot_hold_is_not_turned_into_infinity() -> None:
    """1e6 is a fine float32; a model that gets it back as infinity is broken without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InvalidUpdate, match="half"):
            LAYOUT.unflatten(np.full(LAYOUT.size, 1e6, np.float32))


@pytest.mark.parametrize("shape", [(3, 2), (6,), (2, 3, 1), ()])
def test_t16_another_shape_names_the_tensor(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidUpdate, match=r"tensor 'w' is float32\[.*\], expected float32\[2, 3\]"):
        LAYOUT.flatten(TENSORS | {"w": np.zeros(shape, np.float32)})


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "bool", "complex64", "object"])
def test_t16_another_dtype_names_the_tensor(dtype: str) -> None:
    with pytest.raises(InvalidUpdate, match=rf"tensor 'w' is {dtype}\[2, 3\], expected float32\[2, 3\]"):
        LAYOUT.flatten(TENSORS | {"w": np.zeros((2, 3), dtype)})


def test_t16_missing_and_unknown_tensors_are_named() -> None:
    with pytest.raises(InvalidUpdate, match="tensor 'half' is missing"):
        LAYOUT.flatten({name: array for name, array in TENSORS.items() if name != "half"})
    with pytest.raises(InvalidUpdate, match="tensor 'extra' is not in the layout"):
        LAYOUT.flatten(TENSORS | {"extra": np.zeros(1, np.float32)})


@pytest.mark.parametrize(
    "vector",
    [np.zeros(8, np.float32), np.zeros(10, np.float32), np.zeros((9, 1), np.float32), np.zeros(9), [0.0] * 9, None],
    ids=["short", "long", "matrix", "float64", "list", "None"],
)
def test_t16_a_vector_of_another_form_is_refused(vector: Any) -> None:
    with pytest.raises(InvalidUpdate, match=r"expected float32\[9\]"):
        LAYOUT.check(vector)
    with pytest.raises(InvalidUpdate, match=r"expected float32\[9\]"):
        LAYOUT.unflatten(vector)


def test_a_layout_refuses_what_has_no_mean() -> None:
    with pytest.raises(Refused, match=r"tensor 'z' has dtype complex64, expected a float or an integer type"):
        Layout.of({"z": np.zeros(2, np.complex64)})
    with pytest.raises(Refused, match="no floating-point tensor"):
        Layout.of({"n": np.zeros(2, np.int64)})
    with pytest.raises(Refused, match="0 parameters"):
        Layout.of({"x": np.zeros(0, np.float32)})


def test_a_layout_refuses_names_that_stand_twice_and_absurd_sizes() -> None:
    tensor = Tensor(name="x", shape=(2,))
    with pytest.raises(Refused, match="tensor 'x' stands twice"):
        Layout(tensors=(tensor, tensor))
    with pytest.raises(Refused, match="tensor 'x' stands twice"):
        Layout(tensors=(tensor,), held=("x",))
    with pytest.raises(Refused, match="expected 1 to"):
        Layout(tensors=(Tensor(name="x", shape=(2**16, 2**16, 2)),))


def test_a_hostile_list_of_names_is_refused_at_once() -> None:
    """A layout comes from the server: looking for the name that stands twice must not take quadratic time."""
    held = (*tuple(f"buffer-{number}" for number in range(15000)), "buffer-14999")
    started = time.process_time()
    with pytest.raises(Refused, match="'buffer-14999' stands twice"):
        Layout(tensors=(Tensor(name="x", shape=(2,)),), held=held)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    "fields",
    [
        {"shape": [-1]},
        {"shape": [2.0]},
        {"shape": ["2"]},
        {"shape": [True]},
        {"shape": [1] * 17},
        {"shape": [2**33]},
        {"dtype": "int64"},
        {"dtype": "bfloat16"},
        {"name": ""},
        {"name": "x" * 257},
        {"name": 5},
        {"order": "C"},
    ],
)
def test_a_tensor_is_parsed_strictly(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Tensor.model_validate({"name": "x", "shape": [2]} | fields)


def test_the_digest_tells_every_difference() -> None:
    variants = [
        {"w": ("float32", (2, 3)), "b": ("float32", (3,))},
        {"b": ("float32", (3,)), "w": ("float32", (2, 3))},
        {"w": ("float32", (3, 2)), "b": ("float32", (3,))},
        {"w": ("float32", (6,)), "b": ("float32", (3,))},
        {"w": ("float64", (2, 3)), "b": ("float32", (3,))},
        {"v": ("float32", (2, 3)), "b": ("float32", (3,))},
        {"w": ("float32", (2, 3)), "b": ("float32", (3,)), "n": ("int64", ())},
        {"w": ("float32", (2, 3))},
    ]
    digests = {Layout.of({n: np.zeros(s, d) for n, (d, s) in variant.items()}).digest for variant in variants}
    assert len(digests) == len(variants)
    assert Layout.model_validate_json(LAYOUT.model_dump_json()).digest == LAYOUT.digest
