"""Blocks of a vector on several threads: for numpy, which lets other threads run while it computes on large arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from secagg.cores import workers


def spread(work: Callable[[int, int], None], count: int, *, block: int) -> None:
    """Call `work(start, stop)` on parts of 0..count, as many as there are workers, each on a thread of its own.

    Parts are whole blocks, but for the last one. Raises what `work` raises, once no thread works any more.
    """
    blocks = -(-count // block)
    threads = max(1, min(workers(), blocks))
    edges = [min(count, block * (blocks * thread // threads)) for thread in range(threads + 1)]
    if threads == 1:
        work(0, count)
        return
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(work, *edge) for edge in itertools.pairwise(edges)]
    for part in parts:
        part.result()


def blocks(start: int, stop: int, *, block: int) -> Iterator[slice]:
    """The blocks of a part, in order."""
    return (slice(at, min(at + block, stop)) for at in range(start, stop, block))
