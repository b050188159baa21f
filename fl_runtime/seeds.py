"""One experiment seed, many independent streams: every use of chance names itself."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *labels: str | int) -> int:
    """A 63-bit seed for the use named by `labels`: `derive(7, "train", round, client)`.

    Streams of different labels are independent, so that one more client or round never shifts another's chance.
    These seeds steer training and sampling; they are never a source of secrets.
    """
    text = "\x1f".join(f"{type(label).__name__}:{label}" for label in (seed, *labels))
    return int.from_bytes(hashlib.sha256(b"fl_runtime/v1/seed" + text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *labels: str | int) -> np.random.Generator:
    """A numpy generator over `derive(seed, *labels)`."""
    return np.random.default_rng(derive(seed, *labels))
