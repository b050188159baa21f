"""A vector block by block, each in a ciphertext of its own: the work on them is spread over `he.workers`.

Blocks are independent, so that any worker can do any of them; results come back in order. Where a worker is lost,
all of the vector is: nothing is sent, and nothing is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he import workers
from he.residues import Bytes, Malformed
from secagg.errors import Aborted

Integers = NDArray[np.signedinteger[Any]]

# What a worker puts into a block that it opened and that cannot be an honest sum's.
DISHONEST = np.iinfo(np.int64).min


def encrypt_blocks(
    task: workers.Task, arguments: Mapping[str, Any], values: Integers, *, block: int, record_bytes: int
) -> Iterator[memoryview]:
    """The records of `values`, shape `(n,)`, within 32 bits, `block` of them in each; the last is padded with zeros.

    Args:
        task: blocks as int32, shape `(k, block)`, to records.

    Raises:
        Aborted: a worker was lost.
    """
    records = np.empty((-(-values.size // block), record_bytes), np.uint8)

    def fill(start: int, stop: int, items: Bytes) -> None:
        part, padded = values[start * block : stop * block], items.view(np.int32).reshape(-1)
        padded[: part.size] = part
        padded[part.size :] = 0

    try:
        workers.run(task, arguments, fill, item_bytes=4 * block, results=records)
    except workers.Lost as error:
        raise Aborted(f"the update could not be encrypted: {error}; nothing was sent") from None
    return (record.data for record in records)


def open_blocks(
    task: workers.Task,
    arguments: Mapping[str, Any],
    rows: Bytes,
    *,
    block: int,
    tail: Callable[[], bytes] = bytes,
    tail_bytes: int = 0,
) -> NDArray[np.int64]:
    """The integers, int64 of shape `(count, block)`, in the records of a sum, shape `(count, bytes)`.

    Args:
        task: records, each with its tail behind it, to integers as int64, shape `(k, block)`.
        tail: gives `tail_bytes` for every record.

    Raises:
        Malformed: a record that cannot be read, or a worker was lost over one.
    """
    opened = np.empty((len(rows), block), np.int64)
    width = rows.shape[1]

    def fill(start: int, stop: int, items: Bytes) -> None:
        items[:, :width] = rows[start:stop]
        for item in items:
            item[width:] = np.frombuffer(tail(), np.uint8)

    try:
        workers.run(task, arguments, fill, item_bytes=width + tail_bytes, results=opened.view(np.uint8))
    except workers.Lost as error:
        raise Malformed(f"the sum could not be opened: {error}") from None
    return opened
