"""SEAL objects as bytes, without a disk: what SEAL writes is inflated here, what it reads is written here.

SEAL saves to paths only; a path to a memory file does. SEAL compresses what it writes; the zstd that it was built
with takes that off again. What SEAL reads is uncompressed, and every header is made here from local facts:
no byte of a peer's choosing is ever read by SEAL as anything but a coefficient or a seed.
"""

from __future__ import annotations

import ctypes
import os
import struct
from functools import cache
from typing import Any

import numpy as np
from tenseal import sealapi

from he.residues import Bytes, Residues
from secagg.errors import Refused

HEADER_BYTES = 16
ARRAY_BYTES = 24
# What SEAL writes in front of the residues of a ciphertext (or public key), and of a plaintext (or secret key).
CIPHERTEXT_MEMBERS = 73
PLAINTEXT_MEMBERS = 48


def inflated(item: Any, *, start: int, limit: int) -> Bytes:
    """What SEAL writes for `item`, without its header, `limit` bytes at most; aligned for words from `start` on."""
    # A file for every object: one kept open would be shared with the children of a fork.
    descriptor = os.memfd_create("seal")
    try:
        item.save(f"/proc/self/fd/{descriptor}")
        compressed = os.pread(descriptor, os.fstat(descriptor).st_size, HEADER_BYTES)
    finally:
        os.close(descriptor)
    out = np.empty(limit + 7, np.uint8)[-start % 8 :][:limit]
    written = zstd_decompress()(out.ctypes.data, out.size, compressed, len(compressed))
    if not 0 < written <= limit:
        raise Refused("this build of SEAL does not write the layout of SEAL 4.x")
    return out[:written]


def read(item: Any, members: int, *, words: int, tail: int = 0) -> tuple[Bytes, Residues, Bytes]:
    """An object with an array of exactly `words` words: its members, the array, and the `tail` bytes after it."""
    start = members + ARRAY_BYTES
    end = start + 8 * words
    out = inflated(item, start=start, limit=end + tail)
    if out.size != end + tail:
        raise Refused("this build of SEAL does not write the layout of SEAL 4.x")
    return out[:members], out[start:end].view("<u8"), out[end:]


def load(item: Any, context: Any, members: bytes, residues: Residues, tail: bytes = b"") -> None:
    """Have SEAL read an object of these members and residues."""
    words = np.ascontiguousarray(residues, "<u8")
    array = header(ARRAY_BYTES + words.nbytes) + struct.pack("<Q", words.size)
    size = HEADER_BYTES + len(members) + len(array) + words.nbytes + len(tail)
    descriptor = os.memfd_create("seal")
    try:
        if os.writev(descriptor, [header(size), members, array, words.data, tail]) != size:
            raise Refused(f"no memory for an object of {size} bytes")
        item.load(context, f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def header(size: int) -> bytes:
    """SEAL's header of an uncompressed object of `size` bytes, itself included."""
    magic, major, minor, uncompressed = 0xA15E, 4, _SEAL_MINOR, 0
    return struct.pack("<HBBBBHQ", magic, HEADER_BYTES, major, minor, uncompressed, 0, size)


_SEAL_MINOR = int(sealapi.Serialization.SEALHeader().version_minor)


@cache
def zstd_decompress() -> Any:
    """`ZSTD_decompress` of the zstd that SEAL itself was built with. It is given local data only."""
    if not hasattr(os, "memfd_create"):
        raise Refused("SEAL objects pass through memory files, which this system does not have (Linux does)")
    library = ctypes.CDLL(sealapi._sealapi_cpp.__file__)
    if not hasattr(library, "ZSTD_decompress"):
        raise Refused("this build of tenseal does not export its zstd")
    function = library.ZSTD_decompress
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    return function
