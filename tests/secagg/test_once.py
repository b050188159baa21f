"""What was done stays done: in memory, and in a folder that processes share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from secagg.errors import Aborted
from secagg.once import Once

FIRST = "import sys; from pathlib import Path; from secagg.once import Once; "
FIRST += "sys.exit(not Once(Path(sys.argv[1])).first(b'key'))"


def test_a_thing_is_done_once() -> None:
    once = Once()
    assert once.first(b"one")
    assert once.first(b"two")
    assert not once.first(b"one")


def test_m9_a_folder_remembers_beyond_the_process(tmp_path: Path) -> None:
    folder = tmp_path / "once"
    assert subprocess.run([sys.executable, "-c", FIRST, folder], timeout=60).returncode == 0
    assert not Once(folder).first(b"key")
    assert subprocess.run([sys.executable, "-c", FIRST, folder], timeout=60).returncode == 1
    assert Once(folder).first(b"another")


def test_the_folder_tells_nothing_of_keys_and_is_the_owners(tmp_path: Path) -> None:
    folder = tmp_path / "once"
    Once(folder).first(b"key")
    (mark,) = folder.iterdir()
    assert mark.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert mark.read_bytes() == b""


def test_m9_the_folder_is_on_the_disk_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file outlives a loss of power only if the folder that names it was synced."""
    folder = tmp_path / "once"
    once = Once(folder)
    synced: list[tuple[os.stat_result, list[Path]]] = []
    monkeypatch.setattr(os, "fsync", lambda opened: synced.append((os.fstat(opened), list(folder.iterdir()))))
    assert once.first(b"key")
    status, marks = synced[-1]
    assert os.path.samestat(status, folder.stat())
    assert marks == list(folder.iterdir()) != []


def test_r4_what_cannot_be_noted_is_not_done(tmp_path: Path) -> None:
    folder = tmp_path / "once"
    once = Once(folder)
    folder.rmdir()
    with pytest.raises(Aborted, match="cannot note what may be done only once: No such file or directory; nothing was"):
        once.first(b"key")


def test_m9_a_fork_does_not_share_a_record_in_memory() -> None:
    """Parent and child would each find the thing undone."""
    once = Once()
    child = os.fork()
    if child == 0:
        try:
            once.first(b"key")
        except Aborted:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert once.first(b"key")


def test_what_was_noted_is_known_without_noting_it(tmp_path: Path) -> None:
    for once in (Once(), Once(tmp_path)):
        assert not once.noted(b"key")
        assert once.first(b"key")
        assert once.noted(b"key")
    assert Once(tmp_path).noted(b"key")
