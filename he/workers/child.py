"""What a worker process runs: one call after the other, until whoever started it is gone."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from he.residues import Malformed
from he.workers.arena import Arena
from he.workers.wire import CLOSING, PACKET_BYTES, Answer, Opening, Piece
from secagg import record
from secagg.errors import InvalidUpdate, Refused


def serve(descriptor: int) -> None:
    """Answer on the socket `descriptor` until its other end closes. Does not return."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # an interrupt is for the process that started us: it closes the socket
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # what a crash leaves behind would hold keys (T20)
    channel = socket.socket(fileno=descriptor)
    try:
        while True:
            packet, descriptors, _, _ = socket.recv_fds(channel, PACKET_BYTES, 1)
            if not packet:
                os._exit(0)
            _Call(channel, Opening.from_bytes(packet), descriptors[0]).serve()
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)


class _Call:
    """One call: the task is opened once, then does piece after piece. All that it holds goes with it."""

    def __init__(self, channel: socket.socket, opening: Opening, descriptor: int) -> None:
        self._channel = channel
        self._opening = opening
        self._arena = Arena(descriptor, opening.shape)
        os.close(descriptor)

    def serve(self) -> None:
        work = self._answer(self._open)
        while (piece := self._next_piece()) != CLOSING:
            if work is not None:
                self._answer(partial(self._do, work, piece))

    def _do(self, work: Callable[..., None], piece: Piece) -> None:
        work(self._arena.items[piece.slot][: piece.items], self._arena.results[piece.slot][: piece.items])

    def _open(self) -> Callable[..., None]:
        task = getattr(importlib.import_module(self._opening.module), self._opening.name)
        work: Callable[..., None] = task(**record.decode(self._arena.arguments.tobytes()))
        return work

    def _next_piece(self) -> Piece:
        packet = self._channel.recv(PACKET_BYTES)
        if not packet:
            os._exit(0)
        return Piece.from_bytes(packet)

    def _answer(self, action: Callable[[], Any]) -> Any:
        """Do it and answer. What these packages raise is answered by name; anything else ends this process."""
        # The kernel's alarm ends native code that hangs, also when nobody is left to wait for it.
        signal.setitimer(signal.ITIMER_REAL, 2 * self._opening.limit_s)
        started = time.process_time()
        outcome, kind, text = None, "", ""
        try:
            outcome = action()
        except (InvalidUpdate, Malformed, Refused) as error:
            kind, text = type(error).__name__, str(error)
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._channel.send(Answer(time.process_time() - started, kind, text).to_bytes())
        return outcome
