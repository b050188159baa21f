"""Pins: remembered outside the run, by run, in a file that another account cannot be talked out of."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path

import pytest

from secagg.errors import Refused
from secagg.pins import pin, pinned, run_made_in
from secagg.record import strict_json

ONE, TWO = b"\x01" * 32, b"\x02" * 32


def test_a_pin_is_remembered_by_run(secagg_home: Path) -> None:
    assert pinned("run-1") is None
    pin("run-1", ONE, Path("run-1"))
    pin("run-2", TWO, Path("run-2"))
    assert pinned("run-1") == ONE
    assert pinned("run-2") == TWO
    assert pinned("run-3") is None
    known = strict_json((secagg_home / "known_runs.json").read_bytes())
    made = {f"path:{Path(run).resolve()}": run for run in ("run-1", "run-2")}
    assert known == {"run-1": ONE.hex(), "run-2": TWO.hex(), **made}
    assert run_made_in(Path("run-2")) == "run-2"
    assert run_made_in(Path("run-3")) is None


def test_the_same_pin_twice_is_one_pin() -> None:
    pin("run-1", ONE, Path("run-1"))
    pin("run-1", ONE, Path("run-1"))
    assert pinned("run-1") == ONE


def test_a_known_run_does_not_silently_get_another_key() -> None:
    """As with ssh's known hosts: the key that the run began with stays, and the change is an error."""
    pin("run-1", ONE, Path("run-1"))
    with pytest.raises(Refused):
        pin("run-1", TWO, Path("run-1"))
    assert pinned("run-1") == ONE


def test_without_secagg_home_it_is_under_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SECAGG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    pin("run-1", ONE, Path("run-1"))
    file = tmp_path / ".local" / "share" / "secagg" / "known_runs.json"
    assert strict_json(file.read_bytes())["run-1"] == ONE.hex()


def test_a_fresh_home_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECAGG_HOME", str(tmp_path / "fresh"))
    pin("run-1", ONE, Path("run-1"))
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) & 0o077 == 0


def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SECAGG_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(Refused, match=r"cannot remember the run's key: .* \(set SECAGG_HOME\)"):
        pin("run-1", ONE, Path("run-1"))


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"\xff", b'{"run-1":5}', b'{"run-1":"zz"}', b'{"run-1":"0101"}', b'{"run-1":"a","run-1":"b"}'],
)
def test_a_damaged_file_is_refused_and_named(secagg_home: Path, content: bytes) -> None:
    """Fail closed: forgetting all pins because the file is damaged would let any rebuilt run pass."""
    (secagg_home / "known_runs.json").write_bytes(content)
    with pytest.raises(Refused, match=r"known_runs\.json"):
        pinned("run-1")


@pytest.mark.parametrize("content", [b"", b"[]", b"{"])
def test_a_damaged_file_is_not_overwritten(secagg_home: Path, content: bytes) -> None:
    (secagg_home / "known_runs.json").write_bytes(content)
    with pytest.raises(Refused, match=r"known_runs\.json"):
        pin("run-1", ONE, Path("run-1"))
    assert (secagg_home / "known_runs.json").read_bytes() == content


def _pin_ten(first: int) -> None:
    for number in range(first, first + 10):
        pin(f"run-{number}", bytes([number]) * 32, Path(f"run-{number}"))


def test_processes_that_pin_at_once_lose_nothing() -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_pin_ten, args=(first,)) for first in (0, 10, 20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)  # 30 times onto the disk, whoever else writes to it
    assert [pinned(f"run-{number}") for number in range(30)] == [bytes([number]) * 32 for number in range(30)]
