"""Doing the jobs: each once, out of the cache where it has been done, over as many processes as asked for.

What is done is stored at once, so that an evaluation that was stopped goes on where it stood.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from fl_runtime.evaluation.attempts.cache import Cache
from fl_runtime.evaluation.attempts.measured import Measured
from fl_runtime.evaluation.matrix.cells import Cell, SeesJob, TrainingJob, key
from fl_runtime.evaluation.matrix.world import Changed
from secagg.errors import Aborted, Refused, SecaggError

Job = TrainingJob | Cell | SeesJob
FIELDS: dict[type[Job], tuple[str, ...]] = {
    TrainingJob: ("weights", "accuracy", "auc", "loss", "upload_bytes", "spent", "audit"),
    Cell: tuple(field.name for field in fields(Measured)),
    SeesJob: ("clients", "coalitions"),
}
"""What a result holds."""
_TYPES: dict[str, type[Job]] = {"TrainingJob": TrainingJob, "Cell": Cell, "SeesJob": SeesJob}


def do_all(
    jobs: Sequence[Job], cache: Cache, *, processes: int, done: Callable[[], object] = lambda: None
) -> dict[str, dict[str, Any]]:
    """Results by `cells.key(job)`. `done` is called after each job, also for those that the cache had.

    Raises:
        SecaggError: a training cannot be run as the evaluation asks; an attack that fails is a result.
    """
    results: dict[str, dict[str, Any]] = {}
    pending: dict[str, Job] = {}
    for job in {key(job): job for job in jobs}.values():
        found = cache.get(job, FIELDS[type(job)])
        if found is None:
            pending[key(job)] = job
        else:
            results[key(job)] = found
            done()
    for name in _run(pending, cache, processes):
        results[name] = obtain(pending[name], cache)
        done()
    return results


def obtain(job: Job, cache: Cache) -> dict[str, Any]:
    """The result of a job, done now if the cache lacks it."""
    return cache.get(job, FIELDS[type(job)]) or _compute(job, cache)


def _compute(job: Job, cache: Cache) -> dict[str, Any]:
    with _one_thread():
        result = _do(job, cache)
    cache.put(job, result)
    return result


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order, whatever the machine, so that figures repeat; and no two threads for one core."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run(pending: dict[str, Job], cache: Cache, processes: int) -> Iterator[str]:
    if processes == 1 or len(pending) < 2:
        for name, job in pending.items():
            _compute(job, cache)
            yield name
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(pending)), mp_context=context) as pool:
        running = {pool.submit(_work, type(job).__name__, name, cache.path(job)): name for name, job in pending.items()}
        try:
            for future in as_completed(running):
                future.result()
                yield running[future]
        except BrokenProcessPool:
            raise Aborted(
                "a process died while it computed a cell, out of memory perhaps; what is done is kept"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _work(kind: str, text: str, path: Path) -> None:
    job, cache = _TYPES[kind].model_validate_json(text), Cache(path.parent)
    if cache.path(job) != path:
        raise Refused("the project's sources changed while the evaluation ran; start it again")
    _compute(job, cache)


def _do(job: Job, cache: Cache) -> dict[str, Any]:
    if isinstance(job, TrainingJob):
        from fl_runtime.evaluation.attempts.training import train

        return train(job)
    if isinstance(job, SeesJob):
        from fl_runtime.evaluation.attempts.sees import sees

        return sees(job)
    try:
        return _attack(job, cache).to_record()
    except Changed:
        raise
    except SecaggError as error:
        return Measured(problem=str(error)).to_record()


def _attack(cell: Cell, cache: Cache) -> Measured:
    from fl_runtime.evaluation.attempts.checkpoint import checkpoint
    from fl_runtime.evaluation.attempts.private_step import accounted

    if cell.family == "membership":
        from fl_runtime.evaluation.attempts.membership import infer_members

        return infer_members(cell)
    trained = obtain(cell.training(), cache)
    model, cell = checkpoint(cell, trained), accounted(cell, trained["spent"])
    if cell.family == "imprint":
        from fl_runtime.evaluation.attempts.malicious import imprint

        return imprint(cell, model)
    if cell.family == "inconsistency":
        from fl_runtime.evaluation.attempts.malicious import inconsistency

        return inconsistency(cell, model)
    if cell.family == "labels":
        from fl_runtime.evaluation.attempts.labels import read_labels

        return read_labels(cell, model)
    from fl_runtime.evaluation.attempts.inversion import invert

    return invert(cell, model)
