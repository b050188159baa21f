"""Pairwise masking as a first sketch would have it: keys that know nothing of the round's spec. For attacks only.

Each pair of clients adds and takes off one stream under its pair's secret. With `bind`, the digest of the model that
each client was shown goes into the stream; without, whatever the clients were shown, the masks cancel.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from secagg.fixedpoint import FixedPoint
from smpc.masks import SEED_BYTES, MaskStream, apply_masks


def masked_sum(
    vectors: Mapping[str, NDArray[np.float32]],
    shown: Mapping[str, bytes],
    encoding: FixedPoint,
    *,
    bind: bool = False,
) -> NDArray[np.float64]:
    """What the server gets when it adds the masked vectors of clients that were `shown` models of these digests."""
    names = sorted(vectors)
    pairs = {(a, b): secrets.token_bytes(SEED_BYTES) for a in names for b in names if a < b}
    total = np.zeros(encoding.length(len(vectors[names[0]])), encoding.ring)
    for name in names:
        upload = encoding.encode(vectors[name]).integers.view(encoding.ring)
        context = (b"naive", shown[name] if bind else bytes(32), bytes(32))
        masks = [
            (MaskStream(secret, suite="chacha20", context=context), 1 if name == a else -1)
            for (a, b), secret in pairs.items()
            if name in (a, b)
        ]
        apply_masks(upload, masks)  # type: ignore[arg-type]
        total += upload
    signed = total.view(encoding.dtype)
    return encoding.to_floats(signed[:-1] if encoding.weighted else signed)
