"""What applies masks where the caller does not say: a device and threads, a local matter.

Chosen where a party runs, by `use` or by the environment: `SECAGG_DEVICE` is "cpu" (default) or "cuda", and threads
are as many as the workers of `secagg.cores` (`--workers`, `SECAGG_WORKERS`, else 1). No spec and no frame names them,
and no result depends on them. A device that is not to be had is an error, and never another device instead.
"""

from __future__ import annotations

import os
from typing import Literal, get_args

from secagg.cores import workers
from secagg.errors import Refused, did_you_mean
from smpc.masks import gpu

Device = Literal["cpu", "cuda"]
VARIABLE = "SECAGG_DEVICE"


class _Local:
    device: Device | None = None
    threads: int | None = None


def use(*, device: Device | None = None, threads: int | None = None) -> None:
    """From now on, apply masks on this device, with so many threads on the CPU. None asks the environment again.

    Raises:
        Refused: an unknown device, or one that is not there; fewer threads than 1. All stays as it was.
    """
    if device is not None:
        check_device(device)
        if device == "cuda":
            gpu.require_device()
    if threads is not None:
        check_threads(threads)
    _Local.device, _Local.threads = device, threads


def chosen_device() -> Device:
    """The device to use. Raises `Refused` where `SECAGG_DEVICE` names an unknown one, or one that is not there."""
    if _Local.device is not None:
        return _Local.device
    stated = os.environ.get(VARIABLE, "cpu")
    try:
        device = check_device(stated)
        if device == "cuda":
            gpu.require_device()
    except Refused as error:
        raise Refused(f"{VARIABLE} is {stated!r}: {error}") from None
    return device


def chosen_threads() -> int:
    """How many threads to use. Raises `Refused` where `SECAGG_WORKERS` is no number of workers."""
    # Without worker processes the work is done in this one: by one thread.
    return max(1, workers()) if _Local.threads is None else _Local.threads


def check_device(device: str) -> Device:
    for known in get_args(Device):
        if device == known:
            return known  # type: ignore[no-any-return]
    raise Refused(f"unknown device {device!r}{did_you_mean(device, get_args(Device))}")


def check_threads(threads: int) -> None:
    if threads < 1:
        raise Refused(f"threads is {threads}, expected 1 at least")
