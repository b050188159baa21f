"""The pool of a process, and a call: pieces to workers as they become free, results back to their place."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from he.residues import Bytes, Malformed
from he.workers.arena import SLOTS, Arena, Shape, allocate
from he.workers.wire import CLOSING, PACKET_BYTES, Answer, Opening, Piece
from secagg import cores, record
from secagg.errors import InvalidUpdate, Refused

Work = Callable[[Bytes, Bytes], None]
Task = Callable[..., Work]
Fill = Callable[[int, int, Bytes], None]

LIMIT_S = 60.0
_GRACE_S = 0.5
_PIECE_BYTES = 1 << 19
_COMMAND = "import sys; sys.path[:] = sys.argv[2:]; from he.workers.child import serve; serve(int(sys.argv[1]))"
_WITHOUT = f"set {cores.VARIABLE}=0 to do without"
_KINDS: Mapping[str, type[Exception]] = {kind.__name__: kind for kind in (InvalidUpdate, Malformed, Refused)}


class Lost(RuntimeError):
    """A worker process died, or took too long and was ended, while it had work of this call."""


def run(task: Task, arguments: Mapping[str, Any], fill: Fill, *, item_bytes: int, results: Bytes) -> None:
    """Do `task` for every row of `results`, shape `(count, result_bytes)`, spread over the workers.

    Args:
        task: a function of a module, found by its name there; opened as `task(**arguments)` in every worker, it gives
            what is called with items, shape `(k, item_bytes)`, and their results to be filled in, piece after piece.
        arguments: values of a record (`secagg.record`). They may hold keys.
        fill: `fill(start, stop, items)` puts the items of these rows in place.

    Raises:
        Lost: see the class. What `results` holds then is to be thrown away.
        InvalidUpdate, Malformed, Refused: raised by the task.
    """
    count, result_bytes = results.shape
    workers = cores.workers()
    fitting = max(1, _PIECE_BYTES // (item_bytes + result_bytes))
    if workers == 0:
        with _POOL.lock:
            _POOL.end_all()
        items = np.empty((min(fitting, count), item_bytes), np.uint8)
        work = task(**arguments)
        for start in range(0, count, fitting):
            stop = min(start + fitting, count)
            fill(start, stop, items[: stop - start])
            work(items[: stop - start], results[start:stop])
        return
    encoded = np.frombuffer(record.encode(arguments), np.uint8)
    per_piece = min(fitting, -(-count // (workers * SLOTS)))
    shape = Shape(encoded.size, per_piece, item_bytes, result_bytes)
    opening = Opening(task.__module__, task.__qualname__, shape, LIMIT_S)
    with _POOL.lock:
        _Call(opening, fill, results).run(_POOL.ready(min(workers, -(-count // per_piece))), encoded)


class _Worker:
    """A worker process, and the socket to it."""

    def __init__(self) -> None:
        if not sys.executable:
            raise Refused(f"no worker process can be started: this interpreter has no path; {_WITHOUT}")
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.process = subprocess.Popen(  # noqa: S603 - this interpreter, with arguments of our own
                    [sys.executable, "-c", _COMMAND, str(theirs.fileno()), *sys.path],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                )
            except OSError as error:
                self.channel.close()
                raise Refused(f"no worker process can be started: {error.strerror}; {_WITHOUT}") from None

    def tell(self, packet: bytes, *descriptors: int) -> None:
        """Send it a packet. That it is gone is found when its answer is waited for."""
        with contextlib.suppress(OSError):
            socket.send_fds(self.channel, [packet], descriptors)

    def end(self) -> str:
        """End it, whatever state it is in; says how it had ended, if it had."""
        self.channel.close()  # all that a worker needs that is not busy
        try:
            code = self.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


class _Call:
    """Work spread over workers. A worker answers its opening first, then every piece, in order."""

    def __init__(self, opening: Opening, fill: Fill, results: Bytes) -> None:
        self._opening = opening
        self._fill = fill
        self._results = results
        self._next = 0
        self._failure: Exception | None = None
        self._busy: dict[int, _Worker] = {}
        self._arenas: dict[int, Arena] = {}
        self._underway: dict[int, list[tuple[Piece, int]]] = {}

    def run(self, workers: list[_Worker], arguments: Bytes) -> None:
        """Do all of it; then raise the first failure, if there was one."""
        try:
            for worker in workers:
                self._open(worker, arguments)
            while self._busy:
                self._collect()
        finally:
            # An interrupt, or what `fill` raises, leaves workers in the middle of a call.
            for number in list(self._busy):
                self._lose(number, "was left in the middle of a call")
            self._arenas.clear()  # now, whatever keeps the traceback of what is raised
        if self._failure is not None:
            raise self._failure

    def _open(self, worker: _Worker, arguments: Bytes) -> None:
        number = worker.channel.fileno()
        descriptor = allocate(self._opening.shape)
        try:
            arena = Arena(descriptor, self._opening.shape)
            arena.arguments[:] = arguments
            self._busy[number], self._arenas[number], self._underway[number] = worker, arena, []
            worker.tell(self._opening.to_bytes(), descriptor)
        finally:
            os.close(descriptor)

    def _collect(self) -> None:
        waiting = select.poll()
        for number in self._busy:
            waiting.register(number, select.POLLIN)
        ready = waiting.poll(LIMIT_S * 1000)
        for number in [number for number, _ in ready] or list(self._busy):
            if not ready:
                self._lose(number, f"took over {LIMIT_S:g} s and was ended")
                continue
            try:
                answer = Answer.from_bytes(self._busy[number].channel.recv(PACKET_BYTES))
            except (OSError, ValueError):
                self._lose(number)
            else:
                self._take(number, answer)

    def _take(self, number: int, answer: Answer) -> None:
        """Fetch what was answered, and send the next pieces."""
        cores.charge(answer.cpu_s)
        if answer.kind:
            kind = _KINDS.get(answer.kind, Lost)
            self._failure = self._failure or kind(answer.text)
        underway = self._underway[number]
        if underway:
            piece, start = underway.pop(0)
            self._results[start : start + piece.items] = self._arenas[number].results[piece.slot][: piece.items]
            free = [piece.slot]
        else:
            free = list(range(SLOTS))
        for slot in free:
            self._send(number, slot)
        if not underway:
            self._busy.pop(number).tell(CLOSING.to_bytes())

    def _send(self, number: int, slot: int) -> None:
        start, stop = self._next, min(self._next + self._opening.shape.items, len(self._results))
        if start == stop or self._failure is not None:
            return
        self._next = stop
        self._fill(start, stop, self._arenas[number].items[slot][: stop - start])
        piece = Piece(slot, stop - start)
        self._underway[number].append((piece, start))
        self._busy[number].tell(piece.to_bytes())

    def _lose(self, number: int, how: str = "") -> None:
        ended = _POOL.end(self._busy.pop(number))
        self._failure = self._failure or Lost(f"a worker process {how or ended}")


class _Pool:
    """The workers of this process. One call at a time has them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.workers: list[_Worker] = []

    def ready(self, count: int) -> list[_Worker]:
        """`count` living workers. One that died while it had nothing to do is replaced: it cost nobody anything."""
        for worker in list(self.workers):
            if worker.process.poll() is not None or len(self.workers) > cores.workers():
                self.end(worker)
        while len(self.workers) < count:
            self.workers.append(_Worker())
        return self.workers[:count]

    def end(self, worker: _Worker) -> str:
        self.workers.remove(worker)
        return worker.end()

    def end_all(self) -> None:
        for worker in list(self.workers):
            self.end(worker)

    def forget(self) -> None:
        """In a forked child: the workers are the parent's. Ours are others, when we need any."""
        for worker in self.workers:
            worker.channel.close()
            worker.process.returncode = 0  # not ours to wait for
        self.workers.clear()
        self.lock = threading.Lock()


_POOL = _Pool()
atexit.register(_POOL.end_all)
os.register_at_fork(after_in_child=_POOL.forget)
