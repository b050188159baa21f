"""Device and threads that nobody passes: in which order they are told, that backends take them, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from secagg import cores
from secagg.errors import Refused
from smpc import masks
from smpc.masks import cpu, gpu
from smpc.masks.local import VARIABLE
from tests.adversary.federation import Federation

Applied = list[tuple[str, int]]


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(cores.VARIABLE, raising=False)
    cores.use_workers(None)
    yield
    masks.use()
    cores.use_workers(None)


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> Applied:
    """What applied masks, and with how many threads; a device that computes on the CPU."""
    calls: Applied = []
    on_cpu = cpu.apply

    def by_cpu(vector: Any, masks: Any, threads: int) -> None:
        calls.append(("cpu", threads))
        on_cpu(vector, masks, threads)

    def by_device(vector: Any, masks: Any) -> None:
        calls.append(("cuda", 1))
        on_cpu(vector, masks, 1)

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True)))
    monkeypatch.setattr(cpu, "apply", by_cpu)
    monkeypatch.setattr(gpu, "apply", by_device)
    return calls


@pytest.mark.parametrize("name", ["secaggplus", "smpc"])
def test_backends_apply_masks_as_the_process_is_told(
    name: str, applied: Applied, monkeypatch: pytest.MonkeyPatch
) -> None:
    def round_on(place: tuple[str, int]) -> None:
        applied.clear()
        federation.check(federation.round(next(numbers)))
        assert set(applied) == {place}

    federation, numbers = Federation(name), iter(range(1, 9))
    round_on(("cpu", 1))
    monkeypatch.setenv(cores.VARIABLE, "3")
    round_on(("cpu", 3))
    cores.use_workers(0)
    round_on(("cpu", 1))
    monkeypatch.setenv(VARIABLE, "cuda")
    round_on(("cuda", 1))
    masks.use(device="cpu", threads=2)
    round_on(("cpu", 2))
    masks.use(device="cuda")
    round_on(("cuda", 1))


def test_an_argument_comes_before_all_else(applied: Applied, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "cuda")
    masks.use(device="cuda", threads=4)
    masks.apply_masks(np.zeros(3, np.uint32), [], device="cpu", threads=2)
    assert applied == [("cpu", 2)]


@pytest.mark.parametrize(
    ("cupy", "why"),
    [
        (None, "needs CuPy"),
        (SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False)), "CuPy finds no CUDA device here"),
    ],
)
def test_a_device_that_is_not_there_is_an_error_that_names_who_asked_for_it(
    cupy: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(Refused, match=f"^device 'cuda'.*{why}"):
        masks.use(device="cuda")
    vector = np.zeros(3, np.uint32)
    masks.apply_masks(vector, [])  # what was refused is not in force
    monkeypatch.setenv(VARIABLE, "cuda")
    with pytest.raises(Refused, match=f"{VARIABLE} is 'cuda': device 'cuda'.*{why}"):
        masks.apply_masks(vector, [(masks.MaskStream(bytes(32), suite="chacha20", context=()), 1)])
    assert not vector.any()


def test_what_is_neither_a_device_nor_a_number_of_threads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="unknown device 'gpu'"):
        masks.use(device="gpu")  # type: ignore[arg-type]
    with pytest.raises(Refused, match="threads is 0, expected 1 at least"):
        masks.use(threads=0)
    monkeypatch.setenv(VARIABLE, "cud")
    with pytest.raises(Refused, match=r"SECAGG_DEVICE is 'cud': unknown device 'cud' .did you mean 'cuda'"):
        masks.apply_masks(np.zeros(3, np.uint32), [])
