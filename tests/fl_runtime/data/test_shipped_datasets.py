import numpy as np
import pytest

from fl_runtime import data
from secagg.errors import Refused


@pytest.mark.parametrize(
    ("name", "shape", "classes", "rows", "held_out"),
    [("digits", (1, 8, 8), 10, 1437, 360), ("breast_cancer", (30,), 2, 455, 114)],
)
def test_shapes_types_and_a_stratified_split(name, shape, classes, rows, held_out):
    dataset = data.load(name)
    assert (dataset.shape, len(dataset.classes)) == (shape, classes)
    assert (len(dataset.train), len(dataset.test)) == (rows, held_out)
    for part in (dataset.train, dataset.test):
        assert (part.features.dtype, part.labels.dtype) == (np.float32, np.int64)
        assert part.features.shape == (len(part), *shape)
    shares = [np.bincount(p.labels, minlength=classes) / len(p) for p in (dataset.train, dataset.test)]
    np.testing.assert_allclose(*shares, atol=0.01)
    again = data.load(name)
    np.testing.assert_array_equal(dataset.train.features, again.train.features)


def test_no_test_row_is_a_training_row():
    for name, together in (("digits", 1797), ("breast_cancer", 569)):
        dataset = data.load(name)
        rows = np.concatenate([dataset.train.features, dataset.test.features]).reshape(together, -1)
        assert len(np.unique(rows, axis=0)) == together


def test_scaling():
    digits, cancer = data.load("digits"), data.load("breast_cancer")
    assert (digits.train.features.min(), digits.train.features.max()) == (0, 1)
    np.testing.assert_allclose(cancer.train.features.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(cancer.train.features.std(axis=0), 1, atol=1e-4)
    assert np.abs(cancer.test.features.mean(axis=0)).max() > 1e-3, "the test rows must not have been fitted"
    assert cancer.train.labels.mean() == pytest.approx(212 / 569, abs=0.01), "class 1 is malignant"


def test_names_paths_and_limits_are_checked(tmp_path):
    with pytest.raises(Refused, match=r"unknown data set 'digit'.*'digits'"):
        data.load("digit")
    with pytest.raises(Refused, match=r"'digits' takes no path"):
        data.load("digits", tmp_path)
    with pytest.raises(Refused, match=r"'heart_disease' needs a path"):
        data.load("heart_disease")
    with pytest.raises(Refused, match=r"takes no limit"):
        data.load("digits", limit=3)
