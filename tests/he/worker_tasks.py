"""Tasks for workers that are not well: imported by the worker, in the place of a task of the engine."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np

from he.ckks.flooded.cipher import open_encryptor
from he.residues import Bytes, Malformed
from he.seeds import open_expander
from he.workers import Work

# A seed that begins so does what it says to the worker that expands it.
CRASH, STOP, LIE = b"crash!!!", b"stop!!!!", b"lie!!!!!"


def open_reverse(**arguments: Any) -> Work:
    """Every item backwards."""

    def work(items: Bytes, results: Bytes) -> None:
        results[:] = items[:, ::-1]

    return work


def open_report(**arguments: Any) -> Work:
    """The worker's process id."""

    def work(items: Bytes, results: Bytes) -> None:
        results.view(np.int64)[:] = os.getpid()

    return work


def open_slow_report(**arguments: Any) -> Work:
    """The same, slowly enough that no worker is done before another has begun."""

    def work(items: Bytes, results: Bytes) -> None:
        time.sleep(0.1)
        results.view(np.int64)[:] = os.getpid()

    return work


def open_refusal(words: str, **arguments: Any) -> Work:
    def work(items: Bytes, results: Bytes) -> None:
        raise Malformed(words)

    return work


def open_bug(**arguments: Any) -> Work:
    raise ZeroDivisionError("a bug")


def open_endless(**arguments: Any) -> Work:
    def work(items: Bytes, results: Bytes) -> None:
        print(os.getpid(), flush=True)
        while True:
            time.sleep(1)

    return work


def open_crash(**arguments: Any) -> Work:
    def work(items: Bytes, results: Bytes) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    return work


def open_marked_expander(primes: list[int], degree: int) -> Work:
    """The engine's task, but for marked seeds."""
    honest = open_expander(primes, degree)

    def work(seeds: Bytes, polynomials: Bytes) -> None:
        honest(seeds, polynomials)
        for seed, words in zip(seeds, polynomials.view(np.uint64), strict=True):
            match seed.tobytes()[: len(CRASH)]:
                case mark if mark == CRASH:
                    os.kill(os.getpid(), signal.SIGSEGV)
                case mark if mark == STOP:
                    os.kill(os.getpid(), signal.SIGSTOP)
                case mark if mark == LIE:
                    words[-1] = 2**64 - 1

    return work


def open_marked_encryptor(name: str, key: bytes) -> Work:
    """The engine's task under a holder's key, but a block that begins below zero kills the worker."""
    honest = open_encryptor(name, key)

    def work(blocks: Bytes, records: Bytes) -> None:
        if blocks.view(np.int32)[0, 0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        honest(blocks, records)

    return work
