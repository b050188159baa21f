import numpy as np
import pytest

from fl_runtime import data
from fl_runtime.data.heart_disease import HOSPITALS
from secagg.errors import Refused


def invented(rng, rows=20):
    """Rows in the files' own form, chest pain 1-4, resting ECG 0-2, diagnosis 0-4, the last features unknown."""
    lines = []
    for row in range(rows):
        values = [rng.integers(30, 70), row % 2, 1 + row % 4, rng.integers(90, 160), rng.integers(100, 300), 0]
        lines.append([*values, row % 3, rng.integers(90, 190), 0, 1.5, "?", "?", "?", row % 5])
    return lines


def written(folder, tables):
    for hospital, lines in zip(HOSPITALS, tables, strict=True):
        text = "\n".join(",".join(map(str, line)) for line in lines)
        (folder / f"processed.{hospital}.data").write_text(text + "\n")
    return folder


def test_preprocessing_step_by_step(tmp_path):
    rng = np.random.default_rng(0)
    tables = [invented(rng) for _ in HOSPITALS]
    tables[1][3][4] = "?"  # an incomplete row goes; unknown slope, ca and thal do not matter
    for line in tables[2]:
        line[2] = min(line[2], 3)  # a hospital without chest pain 4 has its column all the same
    dataset = data.load("heart_disease", written(tmp_path, tables))
    assert dataset.shape == (13,)
    assert dataset.sites.names == HOSPITALS
    assert np.bincount(dataset.sites.train).tolist() == [13, 12, 13, 13]
    assert np.bincount(dataset.sites.test).tolist() == [7, 7, 7, 7]
    for site in range(4):
        own = dataset.train.features[dataset.sites.train == site]
        np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-5)
        deviation = own.std(axis=0)
        assert np.all(np.isclose(deviation, 1, atol=1e-4) | (deviation == 0))
    third = dataset.train.features[dataset.sites.train == 2]
    assert (third[:, 8 + 2] == 0).all(), "columns: 8 plain, chest pain 2-4, resting ECG 1-2"
    assert set(np.unique(dataset.train.labels)) == {0, 1}


@pytest.mark.parametrize(
    ("line", "says"), [([1, 2, 3], "row 1 has 3 columns, expected 14"), (["x"] * 14, "row 1: could not convert")]
)
def test_malformed_rows_are_refused(tmp_path, line, says):
    tables = [invented(np.random.default_rng(0)) for _ in HOSPITALS]
    tables[3].insert(0, line)
    with pytest.raises(Refused, match=f"va.data: {says}"):
        data.load("heart_disease", written(tmp_path, tables))


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(Refused, match=r"processed.cleveland.data: no such file"):
        data.load("heart_disease", tmp_path)
    with pytest.raises(Refused, match=r"no complete row"):
        data.load("heart_disease", written(tmp_path, [[]] * 4))


def test_the_hospitals_have_flambys_sizes(real_data):
    dataset = data.load("heart_disease", real_data / "heart_disease")
    assert np.bincount(dataset.sites.train).tolist() == [199, 172, 30, 85]
    assert np.bincount(dataset.sites.test).tolist() == [104, 89, 16, 45]
