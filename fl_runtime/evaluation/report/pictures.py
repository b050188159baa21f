"""Originals and reconstructions as PNG data URIs, and which of them a report shows: clearest, median, poorest."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_runtime.evaluation.rows import Row


@dataclass(frozen=True)
class Pair:
    """An original and what came back of it, as data URIs."""

    what: str
    original: str
    rebuilt: str
    psnr_db: float
    ssim: float


def chosen(row: Row) -> list[Pair]:
    """The clearest, the median and the poorest reconstruction of a row by PSNR; nothing where it has no pictures."""
    pairs: list[tuple[float, float, Any]] = []
    for measured in row.measured:
        if measured.pictures is not None:
            scores = zip(measured.means["psnr_db"], measured.means["ssim"], measured.pictures, strict=True)
            pairs += list(scores)
    if not pairs:
        return []
    pairs.sort(key=lambda pair: -pair[0])
    places = {"clearest": 0, "median": len(pairs) // 2, "poorest": len(pairs) - 1}
    return [
        Pair(what, png(pairs[place][2][0]), png(pairs[place][2][1]), pairs[place][0], pairs[place][1])
        for what, place in places.items()
    ]


def png(image: NDArray[np.uint8]) -> str:
    """A data URI of a grey `(1, height, width)` or colour `(3, height, width)` image of bytes."""
    channels, height, width = image.shape
    lines = np.zeros((height, 1 + width * channels), np.uint8)  # each line begins with its filter: none
    lines[:, 1:] = np.moveaxis(image, 0, 2).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    )
    return "data:image/png;base64," + base64.b64encode(body).decode()
