"""Settings that a file gives: read where they are written down, so that a spec holds the text and no path."""

from __future__ import annotations

from pathlib import Path

import pytest

from secagg import settings
from secagg.errors import Refused
from secagg.settings import read_files


def test_a_file_stands_for_its_text(tmp_path: Path) -> None:
    (tmp_path / "mask.txt").write_text("eNr7DwABAQEA\n")
    fields = {"mask_file": "mask.txt", "scheme": "bfv"}
    assert read_files(fields, folder=tmp_path) == {"mask": "eNr7DwABAQEA", "scheme": "bfv"}
    absolute = {"mask_file": str(tmp_path / "mask.txt")}
    assert read_files(absolute, folder=Path("elsewhere")) == {"mask": "eNr7DwABAQEA"}


def test_no_other_setting_is_taken_for_a_file(tmp_path: Path) -> None:
    assert read_files({"ledger_file": "x", "mask": "y"}, folder=tmp_path) == {"ledger_file": "x", "mask": "y"}


def test_a_file_that_cannot_be_read_as_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match=r"mask_file: .*gone: cannot be read: No such file"):
        read_files({"mask_file": "gone"}, folder=tmp_path)
    with pytest.raises(Refused, match="mask_file: mask is given as well, expected one of them"):
        read_files({"mask_file": "gone", "mask": "x"}, folder=tmp_path)
    (tmp_path / "bits").write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match="not UTF-8 text"):
        read_files({"mask_file": "bits"}, folder=tmp_path)
    monkeypatch.setattr(settings, "MAX_FILE_BYTES", 3)
    (tmp_path / "long").write_text("abcd")
    with pytest.raises(Refused, match=r"mask_file: .*long: over 3 bytes"):
        read_files({"mask_file": "long"}, folder=tmp_path)
