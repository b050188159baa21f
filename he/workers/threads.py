"""Blocks of a vector on several threads: for numpy, which lets other threads run while it computes on large arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from secagg.cores import workers


def spread(work: Callable[[int, int], None], count: int, *, block: int) -> None:
    """Call `work(start, stop)` for every block of 0..count, in order within a thread; as many threads as workers.

    Raises whatever `work` raises, once no thread works any more.
    """

    def part(first: int, last: int) -> None:
        for start in range(first, last, block):
            work(start, min(start + block, last))

    threads = max(1, min(workers(), -(-count // block)))
    edges = [count * thread // threads for thread in range(threads + 1)]
    if threads == 1:
        part(0, count)
        return
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(part, *edge) for edge in itertools.pairwise(edges)]
    for done in parts:
        done.result()
