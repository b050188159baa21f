"""Worker processes: results in place whatever their number, and what is left when one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from he import workers
from he.residues import Malformed
from he.workers import pool
from he.workers.wire import Answer, Opening
from secagg import cores
from secagg.errors import Refused
from tests.he import worker_tasks


@pytest.fixture(autouse=True)
def _default_number() -> Iterator[None]:
    yield
    workers.use(None)


def run(task: workers.Task, items: NDArray[np.uint8], **arguments: object) -> NDArray[np.uint8]:
    results = np.zeros_like(items)

    def fill(start: int, stop: int, into: NDArray[np.uint8]) -> None:
        into[:] = items[start:stop]

    workers.run(task, arguments, fill, item_bytes=items.shape[1], results=results)
    return results


def pids(count: int) -> list[int]:
    """The ids of the processes that do the work, once `count` have been asked for work."""
    # A row of a megabyte is a piece of its own.
    found = set(run(worker_tasks.open_report, np.zeros((4 * count, 1 << 20), np.uint8)).view(np.int64)[:, 0].tolist())
    workers = {worker.process.pid for worker in pool._POOL.workers}
    assert found <= (workers or {os.getpid()})
    return sorted(workers or found)


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def eventually(condition: Callable[[], bool], *, within_s: float = 30) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("count", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 1), (1, 1 << 21), (7, 3), (1000, 64), (5000, 1024)])
def test_every_item_has_its_result_in_its_place(count: int, shape: tuple[int, int]) -> None:
    workers.use(count)
    items = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.array_equal(run(worker_tasks.open_reverse, items), items[:, ::-1])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_blocks_on_threads_cover_everything_once(count: int) -> None:
    workers.use(count)
    for size in (0, 1, 7, 16, 17, 100):
        seen = np.zeros(size, int)

        def visit(start: int, stop: int, seen: NDArray[np.int64] = seen) -> None:
            seen[start:stop] += 1

        workers.spread(visit, size, block=8)
        assert (seen == 1).all()
        covered = [place for part in workers.blocks(3, size, block=8) for place in range(size)[part]]
        assert covered == list(range(3, size))


def test_what_a_thread_raises_arrives() -> None:
    workers.use(2)

    def fail(start: int, stop: int) -> None:
        raise Malformed(f"block {start}")

    with pytest.raises(Malformed, match="block"):
        workers.spread(fail, 100, block=8)


def test_work_is_done_elsewhere_and_by_as_many_as_were_asked_for() -> None:
    workers.use(2)
    both = pids(2)
    assert len(both) == 2
    assert os.getpid() not in both
    assert pids(2) == both

    def at_work() -> list[int]:
        """Who took part. On a busy machine one may do all the pieces before the other gets a core."""
        found = run(worker_tasks.open_slow_report, np.zeros((8, 1 << 20), np.uint8)).view(np.int64)[:, 0]
        return sorted(set(found.tolist()))

    assert eventually(lambda: at_work() == both)
    workers.use(1)
    (one,) = pids(2)
    assert one in both
    assert eventually(lambda: all(gone(pid) for pid in both if pid != one))
    workers.use(0)
    assert pids(2) == [os.getpid()]


def test_by_default_native_work_is_done_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cores.VARIABLE, raising=False)
    workers.use(None)
    assert os.getpid() not in pids(1)


def test_the_environment_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    workers.use(None)
    monkeypatch.setenv(cores.VARIABLE, "0")
    assert pids(1) == [os.getpid()]
    for wrong in ("", "-1", "two", "257", "1.5"):
        monkeypatch.setenv(cores.VARIABLE, wrong)
        with pytest.raises(Refused, match="SECAGG_WORKERS is"):
            pids(1)
    with pytest.raises(Refused, match="expected 0 to 256"):
        workers.use(-1)


def test_the_time_of_workers_is_counted() -> None:
    workers.use(1)
    before = cores._Local.charged_s
    run(worker_tasks.open_reverse, np.zeros((200, 1 << 18), np.uint8))
    assert cores._Local.charged_s > before


@pytest.mark.parametrize("count", [0, 2])
def test_what_a_task_raises_arrives_and_the_workers_go_on(count: int) -> None:
    workers.use(count)
    before = pids(2)
    with pytest.raises(Malformed, match="a word: or two"):
        run(worker_tasks.open_refusal, np.zeros((9, 1 << 20), np.uint8), words="a word: or two")
    assert pids(2) == before


def test_c4_a_worker_that_dies_is_named_and_replaced() -> None:
    workers.use(2)
    before = pids(2)
    with pytest.raises(workers.Lost, match="killed by SIGSEGV"):
        run(worker_tasks.open_crash, np.zeros((9, 1 << 20), np.uint8))
    after = pids(2)
    assert len(after) == 2
    assert after != before


def test_a_bug_in_a_task_is_no_answer(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy machine an interpreter needs longer than that to end, and would be killed at it.
    monkeypatch.setattr(pool, "_GRACE_S", 30)
    workers.use(0)
    run(worker_tasks.open_reverse, np.zeros((1, 8), np.uint8))  # ends workers that write to where it is not captured
    workers.use(1)
    with pytest.raises(workers.Lost, match="ended with status 1"):
        run(worker_tasks.open_bug, np.zeros((1, 8), np.uint8))
    assert "ZeroDivisionError: a bug" in capfd.readouterr().err


@pytest.mark.timeout(60)
def test_c4_a_worker_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    workers.use(1)
    (before,) = pids(1)
    monkeypatch.setattr(pool, "LIMIT_S", 1)
    with pytest.raises(workers.Lost, match="took over 1 s"):
        run(worker_tasks.open_endless, np.zeros((1, 8), np.uint8))
    monkeypatch.undo()
    assert gone(before)
    assert pids(1) != [before]


def test_r7_a_worker_that_was_killed_while_it_had_no_work_costs_nothing() -> None:
    workers.use(1)
    (before,) = pids(1)
    os.kill(before, signal.SIGKILL)
    assert eventually(lambda: gone(before))
    assert pids(1) != [before]


def test_an_interrupted_call_leaves_no_answer_for_the_next() -> None:
    workers.use(2)
    items = np.zeros((9, 1 << 20), np.uint8)

    def interrupted(start: int, stop: int, into: NDArray[np.uint8]) -> None:
        if start > 2:
            raise KeyboardInterrupt
        into[:] = 7

    with pytest.raises(KeyboardInterrupt):
        workers.run(worker_tasks.open_reverse, {}, interrupted, item_bytes=1 << 20, results=np.zeros_like(items))
    assert not run(worker_tasks.open_reverse, items).any()


def test_a_call_leaves_no_memory_and_no_descriptor() -> None:
    workers.use(1)
    (worker,) = pids(1)

    def mapped(process: object) -> bool:
        return "memfd:secagg" in Path(f"/proc/{process}/maps").read_text()

    assert eventually(lambda: not mapped(worker))
    before = len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{worker}/fd"))
    for _ in range(20):
        run(worker_tasks.open_reverse, np.zeros((3, 1000), np.uint8), key=b"secret")
    assert not mapped("self")
    assert eventually(lambda: not mapped(worker))
    after = len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{worker}/fd"))
    assert all(now <= then for now, then in zip(after, before, strict=True))  # what its start took may be gone


def test_a_failed_call_leaves_no_memory() -> None:
    """Also while the traceback of the failure is kept, with everything that its frames hold."""
    workers.use(1)
    with pytest.raises(Malformed) as kept:
        run(worker_tasks.open_refusal, np.zeros((3, 1000), np.uint8), words="no", key=b"secret")
    assert "memfd:secagg" not in Path("/proc/self/maps").read_text()
    assert kept.tb is not None


def test_t20_a_worker_leaves_no_core_dump_and_its_command_line_says_nothing() -> None:
    workers.use(1)
    (worker,) = pids(1)
    limits = Path(f"/proc/{worker}/limits").read_text()
    assert limits.split("Max core file size")[1].split()[:2] == ["0", "0"]
    command = Path(f"/proc/{worker}/cmdline").read_bytes().split(b"\0")
    assert command[:3] == [sys.executable.encode(), b"-c", pool._COMMAND.encode()]
    assert command[4:-1] == [entry.encode() for entry in sys.path]


PARENT = """
import sys, time
import numpy as np
from he import workers
from he.workers import pool
from tests.he import worker_tasks
from tests.he.test_workers import pids, run
workers.use(2)
print(*pids(2), flush=True)
pool.LIMIT_S = 2
if sys.argv[1] == "busy":
    run(worker_tasks.open_endless, np.zeros((9, 1 << 20), np.uint8))
time.sleep(sys.argv[1] == "idle" and 100)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_workers_end_with_a_parent_that_was_killed(state: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, state], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        if state == "busy":
            time.sleep(0.5)
        parent.kill()
    try:
        assert eventually(lambda: all(gone(pid) for pid in children))
    finally:
        for pid in (pid for pid in children if not gone(pid)):
            os.kill(pid, signal.SIGKILL)


FORKED = """
import os, time
from he import workers
from tests.he.test_workers import pids
workers.use(1)
both = pids(1)
child = os.fork()
if child:
    print(child, *both, flush=True)
time.sleep(100)
"""


def test_workers_end_with_their_parent_though_a_fork_of_it_lives_on() -> None:
    """A fork holds copies of the sockets, unless it lets go of them: a worker would never see the other end close."""
    with subprocess.Popen([sys.executable, "-c", FORKED], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child, worker = (int(pid) for pid in parent.stdout.readline().split())
        try:
            parent.kill()
            assert eventually(lambda: gone(worker))
            assert not gone(child)
        finally:
            for pid in (pid for pid in (child, worker) if not gone(pid)):
                os.kill(pid, signal.SIGKILL)


def test_workers_end_with_a_parent_that_ends() -> None:
    done = subprocess.run([sys.executable, "-c", PARENT, "done"], stdout=subprocess.PIPE, text=True, check=True)
    assert all(gone(int(pid)) for pid in done.stdout.split())


def test_a_forked_child_has_workers_of_its_own() -> None:
    workers.use(1)
    (ours,) = pids(1)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, str(pids(1)[0]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = int(os.read(reader, 100))
    assert theirs not in (ours, os.getpid(), child)
    assert pids(1) == [ours]


@pytest.mark.parametrize("packet", [b"", b"\0", b"\0" * 8, b"\0" + b"\xff" * 8, bytes(7) + b"\xf0\xbf"])
def test_what_is_no_answer_is_not_taken_for_one(packet: bytes) -> None:
    with pytest.raises(ValueError, match="answer"):
        Answer.from_bytes(packet)


def test_an_answer_that_names_no_known_error_is_a_loss() -> None:
    answer = Answer.from_bytes(Answer(0.0, "SystemExit", "x" * 5000).to_bytes())
    assert (answer.kind, len(answer.text) < 1000) == ("SystemExit", True)
    assert answer.kind not in pool._KINDS


def test_an_opening_survives_the_wire() -> None:
    opening = Opening("a.module", "a_name", pool.Shape(10, 3, 8, 16), 1.5)
    assert Opening.from_bytes(opening.to_bytes()) == opening
