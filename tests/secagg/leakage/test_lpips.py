"""LPIPS with weights drawn here and written to disk, against AlexNet built from torch's own layers."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from secagg.errors import Refused
from secagg.leakage import LPIPS

Weights = dict[str, Tensor]
CHANNELS = (64, 192, 384, 256, 256)


def alexnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(64, 192, kernel_size=5, padding=2), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(192, 384, kernel_size=3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, kernel_size=3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def network() -> Weights:
    torch.manual_seed(0)
    others = {"classifier.1.weight": torch.zeros(4, 3)}
    return {f"features.{name}": tensor for name, tensor in alexnet().state_dict().items()} | others


@pytest.fixture(scope="module")
def heads() -> Weights:
    chance = torch.Generator().manual_seed(1)
    return {
        f"lin{place}.model.1.weight": torch.rand((1, count, 1, 1), generator=chance)
        for place, count in enumerate(CHANNELS)
    }


@pytest.fixture(scope="module")
def metric(network: Weights, heads: Weights, tmp_path_factory: pytest.TempPathFactory) -> LPIPS:
    path = tmp_path_factory.mktemp("lpips") / "both.pt"
    torch.save(network | heads, path)
    return LPIPS.load(path)


def pairs(*shape: int, value_range: tuple[float, float] = (0.0, 1.0), seed: int = 0) -> tuple[Tensor, Tensor]:
    low, high = value_range
    first, second = torch.rand((2, *shape), generator=torch.Generator().manual_seed(seed)) * (high - low) + low
    return first.clamp(low, high), second.clamp(low, high)


def straightforward(network: Weights, heads: Weights, first: Tensor, second: Tensor) -> list[float]:
    """One pair at a time, colours in [0, 1], no smaller than 64 pixels, pixel sums in numpy."""
    layers = alexnet().double()
    own = {name.removeprefix("features."): t for name, t in network.items() if name.startswith("features.")}
    layers.load_state_dict(own)
    distances = []
    for pair in zip(first.double(), second.double(), strict=True):
        features: list[list[np.ndarray[Any, Any]]] = []
        for image in pair:
            at = torch.stack(
                [
                    (2 * image[0] - 1 + 0.030) / 0.458,
                    (2 * image[1] - 1 + 0.088) / 0.448,
                    (2 * image[2] - 1 + 0.188) / 0.450,
                ]
            )[None]
            features.append([])
            for layer in layers:
                at = layer(at)
                if isinstance(layer, nn.ReLU):
                    features[-1].append(at[0].detach().numpy())
        total = 0.0
        for place, (mine, other) in enumerate(zip(*features, strict=True)):
            weights = heads[f"lin{place}.model.1.weight"].double().numpy().reshape(-1)
            mine = mine / np.sqrt((mine**2).sum(0))
            other = other / np.sqrt((other**2).sum(0))
            total += float(np.einsum("c,chw->hw", weights, (mine - other) ** 2).mean())
        distances.append(total)
    return distances


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (2, 3, 70, 91)])
def test_it_is_the_published_distance(metric: LPIPS, network: Weights, heads: Weights, shape: tuple[int, ...]) -> None:
    first, second = pairs(*shape)
    found = metric(first, second)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(straightforward(network, heads, first, second), rel=1e-7)


def test_grey_images_of_another_range_count_as_three_equal_colours(
    metric: LPIPS, network: Weights, heads: Weights
) -> None:
    first, second = pairs(2, 1, 64, 66, value_range=(-2.0, 2.0))
    expected = straightforward(network, heads, *((images.expand(-1, 3, -1, -1) + 2) / 4 for images in (first, second)))
    assert metric(first, second, value_range=(-2.0, 2.0)).tolist() == pytest.approx(expected, rel=1e-5)


def test_small_images_are_enlarged(metric: LPIPS, network: Weights, heads: Weights) -> None:
    first, second = pairs(2, 3, 32, 48)
    larger = nn.Upsample(size=(64, 96), mode="bilinear")
    expected = straightforward(network, heads, larger(first), larger(second))
    assert metric(first, second).tolist() == pytest.approx(expected, rel=1e-5)


def test_equal_images_have_no_distance_and_others_one_that_does_not_depend_on_the_order(metric: LPIPS) -> None:
    first, second = pairs(3, 1, 28, 28)
    assert metric(first, first).tolist() == [0.0, 0.0, 0.0]
    there = metric(first, second)
    assert (there > 0).all()
    assert torch.equal(there, metric(second, first))
    nearer = metric(first, first + 0.1 * (second - first))
    assert (nearer < there).all()


def test_a_long_batch_has_the_figures_of_its_images(metric: LPIPS) -> None:
    first, second = pairs(35, 1, 8, 8)
    alone = torch.cat([metric(first[place : place + 1], second[place : place + 1]) for place in (0, 31, 32, 34)])
    torch.testing.assert_close(metric(first, second)[[0, 31, 32, 34]], alone, rtol=1e-9, atol=0)


def test_images_that_it_cannot_take_are_refused(metric: LPIPS) -> None:
    first, second = pairs(1, 2, 8, 8)
    with pytest.raises(Refused, match="1 or 3"):
        metric(first, second)
    with pytest.raises(Refused, match="1 or 3"):
        metric(first.flatten(1), second.flatten(1))
    with pytest.raises(Refused, match="the originals have"):
        metric(first[:, :1], second[:, :1, :4])
    with pytest.raises(Refused, match="originals: values from"):
        metric(first[:, :1], second[:, :1] + 2)


def test_the_heads_may_lie_in_a_file_of_their_own(
    metric: LPIPS, network: Weights, heads: Weights, tmp_path: Path
) -> None:
    torch.save(network, tmp_path / "alexnet.pth")
    save_file(heads, tmp_path / "heads.safetensors")
    two = LPIPS.load(tmp_path / "alexnet.pth", heads=str(tmp_path / "heads.safetensors"))
    assert {name: weights.tolist() for name, weights in two.weights.items() if name in heads} == {
        name: weights.double().tolist() for name, weights in heads.items()
    }
    first, second = pairs(1, 1, 8, 8)
    assert torch.equal(two(first, second), metric(first, second))
    with pytest.raises(Refused, match=r"alexnet\.pth: no tensor 'lin0\.model\.1\.weight'"):
        LPIPS.load(tmp_path / "alexnet.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_safetensors_of_other_widths_are_read(network: Weights, heads: Weights, tmp_path: Path, dtype: Any) -> None:
    held = {name: tensor.to(dtype) for name, tensor in (network | heads).items()}
    save_file(held, tmp_path / "both.safetensors")
    read = LPIPS.load(tmp_path / "both.safetensors").weights
    assert all(torch.equal(weights, held[name].double()) for name, weights in read.items())


HEAD = "lin3.model.1.weight"


@pytest.mark.parametrize(
    ("name", "instead", "reason"),
    [
        (HEAD, None, "no tensor 'lin3.model.1.weight', expected one of shape [1, 256, 1, 1]"),
        ("features.8.bias", None, "no tensor 'features.8.bias', expected one of shape [256]"),
        (HEAD, torch.ones(1, 255, 1, 1), "is torch.float32[1, 255, 1, 1], expected dense floats of shape [1, 256"),
        (HEAD, torch.ones(1, 256, 1, 1).to_sparse(), "expected dense floats"),
        (HEAD, torch.ones((1, 256, 1, 1), device="meta"), "expected dense floats"),
        (HEAD, torch.ones((1, 256, 1, 1), dtype=torch.complex64), "is torch.complex64"),
        (HEAD, torch.ones((1, 256, 1, 1), dtype=torch.int64), "is torch.int64"),
        (HEAD, [1.0] * 256, "is list, expected dense floats"),
        (HEAD, torch.full((1, 256, 1, 1), torch.nan), "holds NaN or Inf"),
        (HEAD, torch.full((1, 256, 1, 1), -1e-3), "holds a negative weight"),
    ],
)
def test_a_tensor_that_is_missing_or_wrong_is_named(
    network: Weights, heads: Weights, tmp_path: Path, name: str, instead: object, reason: str
) -> None:
    held: dict[str, object] = {**network, **heads, name: instead}
    if instead is None:
        del held[name]
    torch.save(held, tmp_path / "both.pt")
    with pytest.raises(Refused) as refused:
        LPIPS.load(tmp_path / "both.pt")
    assert str(refused.value).startswith(f"{tmp_path / 'both.pt'}: ")
    assert name in str(refused.value)
    assert reason in str(refused.value)


def test_a_file_that_is_missing_or_of_another_kind_is_named(tmp_path: Path) -> None:
    for suffix in ("pt", "safetensors"):
        with pytest.raises(Refused, match=rf"none\.{suffix}: cannot be read: No such file"):
            LPIPS.load(tmp_path / f"none.{suffix}")
    with pytest.raises(Refused, match=r"weights\.onnx: expected a file \.safetensors, \.pt or \.pth"):
        LPIPS.load(tmp_path / "weights.onnx")
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    with pytest.raises(Refused, match="holds list, expected tensors by name"):
        LPIPS.load(tmp_path / "list.pt")


@pytest.mark.parametrize("content", [b"", b"\x00", b"PK\x03\x04", b"\x80\x02.", b"weights", bytes(range(256)) * 8])
@pytest.mark.parametrize("suffix", ["pt", "pth", "safetensors"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"damaged.{suffix}"
    path.write_bytes(content)
    with pytest.raises(Refused, match=rf"damaged\.{suffix}: "):
        LPIPS.load(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("zipped", [True, False])
def test_whatever_is_altered_in_a_file_it_is_refused(tmp_path: Path, zipped: bool) -> None:
    path, chance = tmp_path / "altered.pt", random.Random(1)
    torch.save({"features.0.weight": torch.zeros(4)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for _ in range(600):
        altered = bytearray(whole)
        altered[chance.randrange(min(len(whole), 700))] = chance.randrange(256)
        path.write_bytes(altered[: chance.choice([len(whole), chance.randrange(len(whole))])])
        with pytest.raises(Refused):
            LPIPS.load(path)


class Touch:
    """Creates a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, (str(self.path), "w")


def test_code_in_a_file_of_weights_is_not_run(tmp_path: Path) -> None:
    held, mark = {"features.0.weight": Touch(tmp_path / "run")}, tmp_path / "run"
    torch.save(held, tmp_path / "code.pt")
    with pytest.raises(Refused, match="holds more than tensors"):
        LPIPS.load(tmp_path / "code.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(held, protocol=2))
    with pytest.raises(Refused, match="holds more than tensors"):
        LPIPS.load(tmp_path / "bare.pt")
    assert not mark.exists()


@pytest.mark.parametrize(
    "table",
    [
        b"[" * 100_000,
        b"{",
        b"[]",
        7,
        {"shape": [1]},
        {"dtype": "F32", "shape": 3, "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [0, 10**30], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
    ],
)
def test_a_false_table_of_a_safetensors_file_is_refused(tmp_path: Path, table: Any) -> None:
    text = table if isinstance(table, bytes) else json.dumps({"features.0.weight": table}).encode()
    path = tmp_path / "false.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(Refused, match=r"false\.safetensors: damaged: "):
        LPIPS.load(path)


def test_a_safetensors_file_that_is_cut_off_is_refused(heads: Weights, tmp_path: Path) -> None:
    path = tmp_path / "heads.safetensors"
    save_file(heads, path)
    whole = path.read_bytes()
    for length in (7, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(Refused, match=r"heads\.safetensors: "):
            LPIPS.load(path, heads=path)
