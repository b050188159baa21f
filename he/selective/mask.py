"""Which coordinates are encrypted: one public mask for all clients and rounds, bound into every spec.

A mask is a bool vector of shape `(size,)`, True where a coordinate is encrypted. It is said in one of three ways:
by the layers of the model, as text (a mask that somebody computed, from public or privately summed data), or as
a share of coordinates that are spread evenly, which measures costs and protects by chance.

As text a mask is its bits, one 1 behind the last of them, deflated, in base64. The 1 marks the end: a mask of
another length is never taken for this one. A tenth of a million coordinates, chosen at random, is 92 kB.
"""

from __future__ import annotations

import base64
import zlib
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from secagg.errors import Refused, did_you_mean
from secagg.vectors import Layout

Mask = NDArray[np.bool_]


def of_layers(patterns: str, layout: Layout) -> Mask:
    """The coordinates of the tensors that one of `patterns` matches: "conv1.*, fc.bias", case counts.

    Raises:
        Refused: a pattern that matches no tensor, or tensors without a coordinate.
    """
    names = [tensor.name for tensor in layout.tensors]
    wanted = [pattern.strip() for pattern in patterns.split(",")]
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise Refused(f"layers: {pattern!r} matches no tensor{did_you_mean(pattern, names)}")
    mask = np.zeros(layout.size, np.bool_)
    for tensor, place in layout.slices():
        mask[place] = any(fnmatchcase(tensor.name, pattern) for pattern in wanted)
    return _some(mask, "layers")


def spread(fraction: float, size: int) -> Mask:
    """`fraction` of the coordinates, one at least, evenly spread: no statement about what is sensitive."""
    count = max(1, round(fraction * size))
    mask = np.zeros(size, np.bool_)
    mask[np.arange(count) * size // count] = True
    return mask


def to_text(mask: Mask) -> str:
    """A mask of shape `(size,)` as text, for the parameter `mask` or a file."""
    return base64.b64encode(zlib.compress(np.packbits(np.append(mask, True)).tobytes(), 9)).decode()


def from_text(text: str, *, size: int) -> Mask:
    """The mask of `size` coordinates that `to_text` wrote; never expands to more than such a mask has bytes.

    Raises:
        Refused: not such a text, a mask of another size, or one that encrypts nothing.
    """
    expected = size // 8 + 1
    inflate = zlib.decompressobj()
    try:
        packed = inflate.decompress(base64.b64decode(text, validate=True), expected + 1)
    except (ValueError, zlib.error):
        raise Refused("mask: not the text of a mask") from None
    bits = np.unpackbits(np.frombuffer(packed, np.uint8)).astype(np.bool_)
    if len(packed) != expected or not inflate.eof or inflate.unused_data or not bits[size] or bits[size + 1 :].any():
        raise Refused(f"mask: not the mask of {size} coordinates, as many as the model has")
    return _some(bits[:size], "mask")


def _some(mask: Mask, parameter: str) -> Mask:
    if not mask.any():
        raise Refused(f"{parameter}: no coordinate would be encrypted, expected one at least")
    return mask
