"""From an evaluation to its rows: what has to be done, done once, and pooled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fl_runtime.evaluation.attempts.cache import Cache
from fl_runtime.evaluation.attempts.jobs import Job, do_all
from fl_runtime.evaluation.checks import check
from fl_runtime.evaluation.matrix.cells import NAIVE, Cell, SeesJob, expand, key, repeats
from fl_runtime.evaluation.matrix.settings import Evaluation
from fl_runtime.evaluation.rows import Results, Row, pool


@dataclass(frozen=True)
class Finished:
    """All that a report is made of. `damaged`: cache entries that were found damaged and were computed again."""

    evaluation: Evaluation
    rows: list[Row]
    results: Results
    damaged: tuple[str, ...]

    @property
    def backends(self) -> dict[str, SeesJob]:
        """By label, in the order in which they occur."""
        return sees_jobs(self.evaluation, [row.cell for row in self.rows])


def plan(evaluation: Evaluation) -> list[Job]:
    """Every job, trainings before attacks. Raises `Refused` for a part that cannot be built as asked."""
    rows = expand(evaluation)
    for row in rows:
        check(row)
    if rows[0].lpips is not None:
        from fl_runtime.evaluation.attempts.scoring import load_lpips

        load_lpips(rows[0].lpips.paths)
    cells = [cell for row in rows for cell in repeats(row, evaluation)]
    trainings = {key(job): job for cell in cells for job in (cell.training(), cell.control().training())}
    return [*trainings.values(), *sees_jobs(evaluation, rows).values(), *cells]


def evaluate(
    evaluation: Evaluation,
    *,
    folder: Path,
    processes: int = 1,
    done: Callable[[], object] = lambda: None,
    damaged: Callable[[Path, str], None] = lambda path, reason: None,
) -> Finished:
    """Do every job, with the cache in `folder`. `done` is called after each.

    Raises:
        Refused: a part cannot be built as asked. Nothing was computed.
        SecaggError: a training cannot be run, or diverged.
    """
    found: list[str] = []

    def note(path: Path, reason: str) -> None:
        found.append(f"{path.name}: {reason}")
        damaged(path, reason)

    jobs, cache = plan(evaluation), Cache(folder, damaged=note)
    first = [job for job in jobs if not isinstance(job, Cell)]
    results = do_all(first, cache, processes=processes, done=done)
    results |= do_all([job for job in jobs if isinstance(job, Cell)], cache, processes=processes, done=done)
    return Finished(evaluation, pool(evaluation, results), results, tuple(found))


def sees_jobs(evaluation: Evaluation, rows: list[Cell]) -> dict[str, SeesJob]:
    """One for each backend in the rows, by label."""
    terms = evaluation.evaluation
    shown = [row.backend for row in rows if row.backend != NAIVE]
    return {backend.label: SeesJob(backend=backend, rounds=terms.rounds, seed=terms.seed) for backend in shown}
