"""How many worker processes this process keeps busy, and what CPU time they took: a local matter.

The number is chosen where a party runs, by `use_workers`, by `--workers` or by the environment variable
`SECAGG_WORKERS`. No spec and no frame names it, and no result depends on it. Backends that start workers ask here,
and say here what CPU time the work took, so that a measurement of a party counts all of it.
"""

from __future__ import annotations

import os
import time

from secagg.errors import Refused

VARIABLE = "SECAGG_WORKERS"
DEFAULT_WORKERS = 1
MAX_WORKERS = 256


class _Local:
    chosen: int | None = None
    charged_s = 0.0


def use_workers(count: int | None) -> None:
    """From now on, use so many worker processes; 0 does everything in this one. None asks the environment again.

    Raises:
        Refused: not from 0 to 256.
    """
    _Local.chosen = None if count is None else _checked(count, "workers")


def workers() -> int:
    """How many worker processes to use. Raises `Refused` where `SECAGG_WORKERS` is no number from 0 to 256."""
    if _Local.chosen is not None:
        return _Local.chosen
    stated = os.environ.get(VARIABLE, str(DEFAULT_WORKERS))
    if not stated.isascii() or not stated.isdigit():
        raise Refused(f"{VARIABLE} is {stated!r}, expected a number from 0 to {MAX_WORKERS}")
    return _checked(int(stated), VARIABLE)


def charge(seconds: float) -> None:
    """Count CPU time that a worker process has taken for this one."""
    _Local.charged_s += seconds


def cpu_s() -> float:
    """CPU seconds of this process, and of its workers for what they were given."""
    return time.process_time() + _Local.charged_s


def _checked(count: int, name: str) -> int:
    if not 0 <= count <= MAX_WORKERS:
        raise Refused(f"{name} is {count}, expected 0 to {MAX_WORKERS}")
    return count
