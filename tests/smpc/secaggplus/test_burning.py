"""What was used stays used: in memory, and in a folder that processes share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from secagg.errors import Aborted
from smpc.secaggplus.burning import BurnedKeys

BURN = "import sys; from pathlib import Path; from smpc.secaggplus.burning import BurnedKeys; "
BURN += "BurnedKeys(Path(sys.argv[1])).burn(b'key')"


def test_a_key_is_burned_once() -> None:
    burned = BurnedKeys()
    burned.burn(b"one")
    burned.burn(b"two")
    with pytest.raises(Aborted, match="used before: the session was restored twice from one state"):
        burned.burn(b"one")


def test_m9_a_folder_remembers_beyond_the_process(tmp_path: Path) -> None:
    folder = tmp_path / "burned"
    assert subprocess.run([sys.executable, "-c", BURN, folder], timeout=60).returncode == 0
    with pytest.raises(Aborted, match="used before"):
        BurnedKeys(folder).burn(b"key")
    again = subprocess.run([sys.executable, "-c", BURN, folder], timeout=60, capture_output=True, text=True)
    assert "used before" in again.stderr
    BurnedKeys(folder).burn(b"another")


def test_the_folder_tells_nothing_of_keys_and_is_the_owners(tmp_path: Path) -> None:
    folder = tmp_path / "burned"
    BurnedKeys(folder).burn(b"key")
    (mark,) = folder.iterdir()
    assert mark.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert mark.read_bytes() == b""


def test_r4_a_key_that_cannot_be_recorded_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "burned"
    burned = BurnedKeys(folder)
    folder.rmdir()
    with pytest.raises(Aborted, match="cannot record a used mask: No such file or directory; nothing was sent"):
        burned.burn(b"key")
