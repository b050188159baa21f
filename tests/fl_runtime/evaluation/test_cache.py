"""Results on disk: found again, never taken when damaged, and resumed from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fl_runtime.evaluation.attempts import cache as cache_module
from fl_runtime.evaluation.attempts import jobs
from fl_runtime.evaluation.attempts.cache import PACKAGES, Cache, sources, versions
from fl_runtime.evaluation.evaluate import evaluate
from fl_runtime.evaluation.matrix.cells import Part, SeesJob
from fl_runtime.evaluation.report.document import to_json
from secagg.errors import Refused

JOB = SeesJob(backend=Part(label="plain", kind="plain"), rounds=2, seed=1)
RESULT = {"numbers": np.arange(5.0), "text": "é", "none": None}


@pytest.fixture
def damaged(tmp_path: Path):
    found: list[tuple[Path, str]] = []
    cache = Cache(tmp_path / "cache", damaged=lambda path, reason: found.append((path, reason)))
    cache.put(JOB, RESULT)
    return cache, found


def test_what_is_put_is_got(damaged) -> None:
    cache, found = damaged
    again = cache.get(JOB)
    assert (again["text"], again["none"], again["numbers"].tolist()) == ("é", None, [0, 1, 2, 3, 4])
    assert cache.get(JOB.model_copy(update={"seed": 2})) is None
    assert found == []
    assert [path.name for path in cache.folder.iterdir()] == [cache.path(JOB).name]


@pytest.mark.parametrize("place", [0, 40, -1])
def test_one_changed_byte_is_noticed_and_the_file_named(damaged, place: int) -> None:
    cache, found = damaged
    content = bytearray(cache.path(JOB).read_bytes())
    content[place] ^= 1
    cache.path(JOB).write_bytes(content)
    assert cache.get(JOB) is None
    assert found == [(cache.path(JOB), "its content does not match its digest")]


@pytest.mark.parametrize("length", [0, 10, 32, 60])
def test_a_file_that_was_cut_is_noticed(damaged, length: int) -> None:
    cache, found = damaged
    cache.path(JOB).write_bytes(cache.path(JOB).read_bytes()[:length])
    assert cache.get(JOB) is None
    assert len(found) == 1


def test_a_damaged_result_is_computed_again_and_the_report_says_so(finished, tiny_file: Path) -> None:
    folder = tiny_file.parent / "cache"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    victim = sorted(before)[0]
    (folder / victim).write_bytes(b"\0" * len(before[victim]))
    said: list[str] = []
    again = evaluate(finished.evaluation, folder=folder, damaged=lambda path, reason: said.append(path.name))
    assert said == [victim]
    assert to_json(again, command="c")["damaged"] == [f"{victim}: its content does not match its digest"]
    first, second = to_json(finished, command="c")["rows"], to_json(again, command="c")["rows"]
    # Noise is never the same twice.
    exact = [[_without_seconds(row) for row in rows if row["backend"] != "noisy"] for rows in (first, second)]
    assert exact[0] == exact[1]


def test_nothing_is_computed_twice(finished, tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(jobs, "_do", never)
    evaluate(finished.evaluation, folder=tiny_file.parent / "cache")


def test_an_interrupted_evaluation_keeps_what_was_done(settings, tmp_path: Path) -> None:
    evaluation = settings(**{'backend = ["plain", "secaggplus", "noisy"]': 'backend = ["plain"]'})
    count = 0

    def stop() -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(evaluation, folder=tmp_path / "cache", done=stop)
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_a_worker_with_other_sources_than_the_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="sources changed"):
        jobs._work("SeesJob", JOB.model_dump_json(), tmp_path / f"{'0' * 64}.result")
    assert not list(tmp_path.iterdir())


def test_several_processes_give_what_one_does(finished, tmp_path: Path) -> None:
    names = list(finished.backends.values())
    one, two = (jobs.do_all(names, Cache(tmp_path / str(count)), processes=count) for count in (1, 2))
    assert one == two


def test_one_changed_source_is_other_sources_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    for package in PACKAGES:
        (tmp_path / package / "inner").mkdir(parents=True)
        (tmp_path / package / "inner" / "module.py").write_text("ONE = 1\n")
    before = sources(tmp_path)
    changed = tmp_path / "he" / "inner" / "module.py"
    changed.write_text("ONE = 2\n")
    assert sources(tmp_path) != before
    changed.unlink()
    with pytest.raises(FileNotFoundError, match="he holds no sources"):
        sources(tmp_path)
    assert versions()["sources"] == sources(Path(cache_module.__file__).parents[3])


def _without_seconds(row: dict) -> dict:
    return {name: value for name, value in row.items() if name != "seconds"}


def test_a_whole_file_that_is_no_result_is_named_and_computed_again(damaged) -> None:
    cache, found = damaged
    content = b"not a record"
    cache.path(JOB).write_bytes(hashlib.sha256(content).digest() + content)
    assert cache.get(JOB) is None
    assert [path for path, _ in found] == [cache.path(JOB)]
    assert "cannot be read" in found[0][1]


def test_a_whole_result_of_something_else_is_named_and_computed_again(finished, tmp_path: Path) -> None:
    job, found = next(iter(finished.backends.values())), []
    cache = Cache(tmp_path, damaged=lambda path, reason: found.append(reason))
    cache.put(job, {"x": 1})
    assert set(jobs.obtain(job, cache)) == {"clients", "coalitions"}
    assert found == ["is the result of something else"]


def test_data_that_changed_are_no_result(finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = finished.rows[0].cell
    changed = cell.model_copy(update={"world": cell.world.model_copy(update={"data_digest": "0" * 64})})
    with pytest.raises(Refused, match="changed while the evaluation ran"):
        jobs.obtain(changed, Cache(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_cache_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(Refused, match="expected a folder"):
        Cache(tmp_path / "cache")
