"""Selective encryption: masks and their text, messages of two halves, and what the server reads of a client."""

from __future__ import annotations

import base64
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from he.bfv.parameters import COMPACT
from he.bfv.scheme import BfvScheme
from he.residues import Malformed
from he.scheme import Scheme
from he.selective.backend import Selective
from he.selective.mask import Mask, from_text, of_layers, spread, to_text
from he.selective.scheme import SelectiveScheme, encrypted_part
from he.selective.view import server_view
from secagg.driver import Driver, Letter
from secagg.errors import Refused
from secagg.fixedpoint import FixedPoint
from secagg.frames import HEADER_BYTES
from secagg.registry import build
from secagg.spec import task_digest
from secagg.vectors import Layout
from tests.adversary.federation import is_vector

SHARED = {"key_mode": "shared", "acknowledge_shared_key": True}
LAYOUT = Layout.of(
    {
        "conv1.weight": np.zeros((4, 3), np.float32),
        "conv1.bias": np.zeros(4, np.float32),
        "fc.weight": np.zeros((2, 4), np.float32),
        "fc.bias": np.zeros(2, np.float32),
    }
)
ENCODING = FixedPoint.fit(clients=3, value_bound=1.0, max_weight=20, sum_bits=24)


def text_of(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw)).decode()


# Masks.


@given(st.lists(st.booleans(), min_size=1, max_size=70).filter(any))
def test_a_mask_comes_back_from_its_text_and_is_taken_for_no_other_length(bits: list[bool]) -> None:
    mask = np.array(bits)
    text = to_text(mask)
    np.testing.assert_array_equal(from_text(text, size=mask.size), mask)
    for size in {1, mask.size - 1, mask.size + 1, mask.size + 8} - {mask.size, 0}:
        with pytest.raises(Refused, match=f"not the mask of {size} coordinates, as many as the model has"):
            from_text(text, size=size)


@pytest.mark.parametrize(
    "text",
    ["", "no mask", "ÄÖ", "AAAA", to_text(np.ones(9, bool))[:-4], to_text(np.ones(9, bool)) + "AAAA", text_of(b"")],
)
def test_what_is_not_the_text_of_a_mask_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"mask: not the (text of a mask|mask of 9 coordinates)"):
        from_text(text, size=9)


@pytest.mark.parametrize("extra", [b"\0", b"\x80", bytes(1000)])
def test_bits_behind_the_end_of_a_mask_are_refused(extra: bytes) -> None:
    for raw in (b"\xff\xff\x80" + extra, b"\xff\xff\xc0", b"\xff\xff\x81", bytes(3)):
        with pytest.raises(Refused, match="not the mask of 16 coordinates"):
            from_text(text_of(raw), size=16)


def test_t12_a_mask_never_expands_beyond_the_size_of_the_model() -> None:
    bomb = text_of(bytes(1 << 28))
    assert len(bomb) < 400_000
    tracemalloc.start()
    with pytest.raises(Refused, match="not the mask of 1000 coordinates"):
        from_text(bomb, size=1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_mask_that_encrypts_nothing_is_refused() -> None:
    with pytest.raises(Refused, match="mask: no coordinate would be encrypted, expected one at least"):
        from_text(to_text(np.zeros(9, bool)), size=9)
    with pytest.raises(Refused, match="layers: no coordinate would be encrypted"):
        of_layers("empty", Layout.of({"empty": np.zeros(0, np.float32), "full": np.zeros(3, np.float32)}))


@pytest.mark.parametrize(
    ("patterns", "tensors"),
    [
        ("conv1.*", {"conv1.weight", "conv1.bias"}),
        ("conv1.*, fc.bias", {"conv1.weight", "conv1.bias", "fc.bias"}),
        ("*.bias", {"conv1.bias", "fc.bias"}),
        ("fc.bias,fc.bias", {"fc.bias"}),
        ("*", {tensor.name for tensor in LAYOUT.tensors}),
    ],
)
def test_layers_are_named_by_patterns(patterns: str, tensors: set[str]) -> None:
    mask = of_layers(patterns, LAYOUT)
    for tensor, place in LAYOUT.slices():
        assert mask[place].all() == mask[place].any() == (tensor.name in tensors)


@pytest.mark.parametrize(
    ("patterns", "why"),
    [
        ("conv2.weight", r"layers: 'conv2.weight' matches no tensor \(did you mean 'conv1.weight'\?\)"),
        ("fc.*, FC.*", r"layers: 'FC.\*' matches no tensor"),
        ("fc.*,", "layers: '' matches no tensor"),
    ],
)
def test_a_layer_that_the_model_does_not_have_is_refused(patterns: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        of_layers(patterns, LAYOUT)


@pytest.mark.parametrize("size", [1, 2, 10, 999, 10_000])
@pytest.mark.parametrize("fraction", [1e-9, 0.1, 1 / 3, 0.5, 1.0])
def test_a_share_is_as_many_coordinates_and_one_at_least(fraction: float, size: int) -> None:
    mask = spread(fraction, size)
    assert np.count_nonzero(mask) == max(1, round(fraction * size))
    gaps = np.diff(np.append(np.flatnonzero(mask), size))
    assert gaps.max() - gaps.min() <= 1


# Parameters.


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"layers": "fc.*", "fraction": 0.1}, "layers, mask and fraction each say what is encrypted; give one of them"),
        ({"mask": "x", "layers": "fc.*"}, "give one of them"),
        ({"mask": "x", "fraction": 0.1}, "give one of them"),
        ({"fraction": 0.0}, "fraction: input should be greater than 0"),
        ({"fraction": 1.1}, "fraction: input should be less than or equal to 1"),
        ({"scheme": "rsa"}, "scheme: input should be 'ckks' or 'bfv'"),
        ({"flooding_bits": 39}, "backend 'selective': flooding_bits: input should be greater than or equal to 40"),
        ({"preset": "n4096-q56"}, "has no room for flooding"),
        ({"scheme": "bfv", "preset": "n4096-q56"}, "preset 'n4096-q56'"),
        ({"key_mode": "shared"}, "the server and any one client together read every update"),
    ],
)
def test_parameters_that_do_not_hold_are_refused(parameters: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        build("selective", parameters)


@pytest.mark.parametrize("parameters", [{}, SHARED, {"scheme": "bfv"}, {"scheme": "bfv"} | SHARED, {"fraction": 0.1}])
def test_it_is_labelled_a_defence_before_anything_else(parameters: dict[str, Any]) -> None:
    record = build("selective", parameters).guarantees
    assert record.protection.startswith("a defence, not secure aggregation: ")
    assert (record.alpha, record.sum_only, record.adversary) == (1, False, "none")
    assert (
        record.limitations[0] == "the coordinates outside the mask are seen in the clear by the server, in every round"
    )
    assert record.sees["server"][0] == "the coordinates outside the mask of every single update, in the clear"
    assert record.result_at == ("clients" if "key_mode" in parameters else "server")


def test_noise_around_it_takes_nothing_from_its_limitations() -> None:
    """dp+selective is dp+plain with some coordinates encrypted: the server adds the noise and reads the others."""
    inner, record = (
        build("selective", {"fraction": 0.1}).guarantees,
        build("dp+selective", {"fraction": 0.1}).guarantees,
    )
    assert record.limitations[: len(inner.limitations)] == inner.limitations
    assert (record.alpha, record.sum_only, record.adversary) == (1, False, "none")
    assert record.sees["server"] == inner.sees["server"]


def test_the_noise_is_for_the_encrypted_coordinates_alone() -> None:
    """A model for which all coordinates have no room under the flooding, and a hundredth of them has."""
    names, layout = [f"site-{number}" for number in range(100)], Layout.flat(40_000_000)
    encoding = FixedPoint.fit(clients=100, value_bound=1.0)
    for fraction in (0.01, 1.0):
        driver = Driver(build("selective", {"fraction": fraction}).backend, names)
        if fraction < 1:
            driver.spec(0, layout=layout, encoding=encoding, task="0" * 64, phase="setup")
        else:
            with pytest.raises(Refused, match="has no room for the noise that hides the sums of 100 clients"):
                driver.spec(0, layout=layout, encoding=encoding, task="0" * 64, phase="setup")


# Messages.


class House:
    """BFV under one shared key, around a mask."""

    def __init__(self, mask: Mask, *, weighted: bool = True) -> None:
        inner: Scheme = BfvScheme(COMPACT, "symmetric")
        divisor = None if weighted else 3
        self.encoding = FixedPoint.fit(clients=3, value_bound=1.0, sum_bits=24, divisor=divisor)
        self.scheme = SelectiveScheme(inner, mask, self.encoding)
        self.length = self.encoding.length(mask.size)
        self.key = self.scheme.generate()[0].local().for_state()
        names = [f"site-{number}" for number in range(3)]
        self.spec = Driver(build("selective", {"scheme": "bfv"}).backend, names).spec(
            1, layout=Layout.flat(mask.size), encoding=self.encoding, task="0" * 64
        )

    def message(self, values: Any) -> bytes:
        return b"".join(self.scheme.encryptor(self.key, clients=3).encrypt(np.asarray(values, np.int32)))

    def open(self, body: bytes) -> Any:
        decryptor = self.scheme.decryptor(self.key, self.spec, rng=bytes)
        return decryptor.decrypt(body, length=self.length, clients=3)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("size", [1, 2, 9, 40_000])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_sum_of_messages_is_the_sum_of_vectors(share: float, size: int, weighted: bool) -> None:
    generator = np.random.default_rng(size)
    mask = generator.random(size) < share
    mask[generator.integers(size)] = True
    house = House(mask, weighted=weighted)
    vectors = generator.integers(-1000, 1000, (3, house.length))
    total = house.scheme.empty_sum(house.length)
    for vector in vectors:
        message = house.message(vector)
        assert len(message) == house.scheme.fresh_bytes(house.length)
        total.fold(message)
    body = total.to_bytes()
    assert len(body) == house.scheme.sum_bytes(house.length)
    np.testing.assert_array_equal(house.open(body), vectors.sum(axis=0))
    again = house.scheme.empty_sum(house.length)
    again.restore(total.state(), count=3)
    again.fold(house.message(vectors[0]))
    assert again.count == 4
    np.testing.assert_array_equal(house.open(again.to_bytes()), vectors.sum(axis=0) + vectors[0])


@pytest.mark.parametrize("change", [-9, -8, -4, -1, 1, 4])
def test_c4_a_message_of_another_length_is_malformed_and_changes_nothing(change: int) -> None:
    house = House(np.arange(9) % 3 == 0)
    vector = np.arange(house.length)
    total = house.scheme.empty_sum(house.length)
    total.fold(house.message(vector))
    before = total.state()
    message = house.message(vector)
    with pytest.raises(Malformed, match=r"bytes, expected exactly"):
        total.fold(message[:change] if change < 0 else message + bytes(change))
    assert (total.count, total.state()) == (1, before)
    body = total.to_bytes()
    with pytest.raises(Malformed, match=r"bytes, expected exactly"):
        house.open(body[:change] if change < 0 else body + bytes(change))


def test_c5_of_a_message_with_a_malformed_ciphertext_neither_half_is_added() -> None:
    house = House(np.arange(9) % 3 == 0)
    vector = np.arange(house.length)
    total = house.scheme.empty_sum(house.length)
    for _ in range(2):
        total.fold(house.message(vector))
    before = total.state()
    with pytest.raises(Malformed):
        total.fold(b"\xff" * 100 + house.message(vector)[100:])
    assert (total.count, total.state()) == (2, before)


# What the server reads.


@pytest.mark.parametrize("parameters", [{}, SHARED, {"scheme": "bfv"}, {"scheme": "bfv"} | SHARED])
@pytest.mark.parametrize("divisor", [None, 3])
def test_the_server_reads_exactly_the_coordinates_outside_the_mask(
    parameters: dict[str, Any], divisor: int | None
) -> None:
    """From the bytes of a real upload: nothing stands behind the coordinates, the weight least of all."""
    mask = np.random.default_rng(1).random(LAYOUT.size) < 0.4
    backend = build("selective", parameters | {"mask": to_text(mask)}).backend
    assert isinstance(backend, Selective)
    names = ["site-0", "site-1", "site-2"]
    encoding = FixedPoint.fit(clients=3, value_bound=1.0, max_weight=1 if divisor else 20, sum_bits=24, divisor=divisor)
    vectors = {n: np.random.default_rng(i).uniform(-1, 1, LAYOUT.size).astype("f4") for i, n in enumerate(names)}
    weights = {name: 1 if divisor else 7 + place for place, name in enumerate(names)}
    uploads: dict[str, bytes] = {}

    def server_reads(letter: Letter) -> Any:
        if is_vector(letter) and len(letter.frame) > 10_000:
            uploads[letter.sender] = bytes(letter.frame[HEADER_BYTES:])
        return (letter,)

    driver = Driver(backend, names, intercept=server_reads)
    driver.set_up(layout=LAYOUT, encoding=encoding)
    spec = driver.spec(1, layout=LAYOUT, encoding=encoding, task=task_digest(b"view"))
    uploads.clear()
    driver.round(spec, lambda name: (vectors[name], weights[name]))
    assert sorted(uploads) == names
    for name, upload in uploads.items():
        view = server_view(backend, spec, upload)
        np.testing.assert_array_equal(view.clear, ~mask)
        assert np.isnan(view.values[mask]).all()
        expected = encoding.encode(vectors[name], weights[name]).integers[: LAYOUT.size] / encoding.scale
        np.testing.assert_array_equal(view.values[~mask], expected[~mask])
        assert len(upload) == backend.traffic(spec).client_upload - HEADER_BYTES
    with pytest.raises(Refused, match="upload of 3 bytes, expected more than"):
        server_view(backend, spec, b"abc")


def test_the_part_that_is_encrypted_is_a_vector_of_the_mask() -> None:
    house = House(np.arange(10) % 3 == 0)
    part = encrypted_part(house.spec, np.arange(10) % 3 == 0)
    assert part.layout.size == 4
    assert (part.setup, part.round, part.encoding) == (house.spec.setup, house.spec.round, house.spec.encoding)
