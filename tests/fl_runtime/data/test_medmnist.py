import numpy as np
import pytest

from fl_runtime import data
from secagg.errors import Refused


def arrays(rows=20, shape=(28, 28), labels=2):
    rng = np.random.default_rng(0)
    return {
        f"{split}_{kind}": value
        for split in ("train", "val", "test")
        for kind, value in (
            ("images", rng.integers(0, 256, (rows, *shape), dtype=np.uint8)),
            ("labels", (np.arange(rows) % labels).astype(np.uint8)[:, None]),
        )
    }


def saved(path, **contents):
    np.savez(path, **contents)
    return path


def test_grey_and_colour_images_come_channel_first_and_scaled(tmp_path):
    raw = arrays()
    grey = data.load("medmnist", saved(tmp_path / "grey.npz", **raw))
    assert grey.shape == (1, 28, 28)
    assert grey.train.features.dtype == np.float32
    np.testing.assert_allclose(grey.train.features[:, 0], raw["train_images"] / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(grey.test.labels, raw["test_labels"].ravel())

    raw = arrays(shape=(28, 28, 3), labels=5)
    colour = data.load("medmnist", saved(tmp_path / "colour.npz", **raw))
    assert (colour.shape, len(colour.classes)) == ((3, 28, 28), 5)
    np.testing.assert_allclose(colour.train.features[:, 2], raw["train_images"][..., 2] / 127.5 - 1, atol=1e-6)


def test_limit_draws_training_rows_by_seed_and_leaves_the_test_whole(tmp_path):
    path = saved(tmp_path / "x.npz", **arrays(rows=50))
    first, again, other = (data.load("medmnist", path, limit=10, seed=seed).train.features for seed in (1, 1, 2))
    assert len(first) == len(np.unique(first.reshape(10, -1), axis=0)) == 10
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(data.load("medmnist", path, limit=10).test) == 50
    assert len(data.load("medmnist", path, limit=1000).train) == 50


def test_files_that_are_no_such_archive_are_refused(tmp_path):
    with pytest.raises(Refused, match=r"nowhere\.npz: no such file"):
        data.load("medmnist", tmp_path / "nowhere.npz")
    for name, content in (("text", b"not an archive"), ("empty", b""), ("zip", b"PK\x03\x04broken")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Refused, match=r"not an .npz archive"):
            data.load("medmnist", tmp_path / name)
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(Refused, match=r"not an .npz archive"):
        data.load("medmnist", tmp_path / "single.npy")
    pickled = np.array([{"evil": 1}], dtype=object)
    with pytest.raises(Refused, match=r"not an .npz archive of plain arrays"):
        data.load("medmnist", saved(tmp_path / "pickled.npz", **arrays() | {"train_images": pickled}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"test_labels": None}, "'test_labels' is missing"),
        ({"train_labels": np.zeros((20, 14), np.uint8)}, "train_labels.*expected one label a row"),
        ({"train_labels": np.zeros((20, 1), np.float32)}, "train_labels is float32"),
        ({"test_images": np.zeros((20, 28, 28), np.float32)}, "test_images is float32.*uint8"),
        ({"test_images": np.zeros((20, 64, 64), np.uint8)}, "differ in shape"),
        ({"train_images": np.zeros((20, 28), np.uint8)}, "expected uint8 2D images"),
    ],
)
def test_malformed_arrays_are_refused(tmp_path, change, says):
    contents = {name: value for name, value in (arrays() | change).items() if value is not None}
    with pytest.raises(Refused, match=says):
        data.load("medmnist", saved(tmp_path / "x.npz", **contents))
