"""Frames: the only thing that crosses from one party to another.

    magic 4 | version 1 | step 1 | part 2 | body length 8 | spec digest 32 | sender 32 | recipient 32
    | nonce 12 | tag 16 | signature 64 | body

All integers are big-endian. `sender` and `recipient` are identity fingerprints. `tag` is GMAC over the body
under a key that only the two parties hold, bound to the spec; `signature` is Ed25519 over everything before
it, so a third party can check *who sent a body of that tag under which spec* without ever seeing the body.
Signing or hashing bodies of megabytes would cost more than masking them. A frame authenticates; it does not
hide: what must stay hidden from a relay is sealed in the body (`secagg.sealing`).

A limit on the body is checked before anything of the body is looked at.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

MAGIC = b"SAGG"
VERSION = 1
_PREFIX = struct.Struct(">4sBBHQ32s32s32s12s16s")
SIGNATURE_BYTES = 64
HEADER_BYTES = _PREFIX.size + SIGNATURE_BYTES
# What the library can authenticate in one call.
MAX_BODY_BYTES = (1 << 31) - 1


class Malformed(ValueError):
    """The bytes are not a frame. The reason says which field is wrong."""


@dataclass(frozen=True)
class Header:
    """The signed part of a frame. `part` numbers the pieces of a step that is sent in several frames."""

    step: int
    part: int
    length: int
    spec: bytes
    sender: bytes
    recipient: bytes
    nonce: bytes
    tag: bytes
    signature: bytes = b""

    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return _PREFIX.pack(
            MAGIC, VERSION, self.step, self.part, self.length,
            self.spec, self.sender, self.recipient, self.nonce, self.tag,
        )  # fmt: skip

    def to_bytes(self) -> bytes:
        return self.signed_bytes() + self.signature

    def sign_with(self, signature: bytes) -> Header:
        return replace(self, signature=signature)

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Header:
        """Parse the first `HEADER_BYTES` of `data`. Raises `Malformed`; verifies no signature."""
        if len(data) < HEADER_BYTES:
            raise Malformed(f"truncated: {len(data)} bytes, a header has {HEADER_BYTES}")
        magic, version, step, part, length, spec, sender, recipient, nonce, tag = _PREFIX.unpack_from(data)
        if magic != MAGIC:
            raise Malformed("not a frame: wrong magic")
        if version != VERSION:
            raise Malformed(f"frame version {version}, this side speaks {VERSION}")
        signature = bytes(data[_PREFIX.size : HEADER_BYTES])
        return cls(step, part, length, spec, sender, recipient, nonce, tag, signature)


def split(frame: bytes | memoryview, *, limit: int = MAX_BODY_BYTES) -> tuple[Header, memoryview]:
    """Split a frame into header and body, without copying the body.

    Raises:
        Malformed: truncated, trailing bytes, wrong magic or version, or a body longer than `limit`.
    """
    header = Header.from_bytes(frame)
    if header.length > limit:
        raise Malformed(f"body of {header.length} bytes, at most {limit} expected")
    if len(frame) != HEADER_BYTES + header.length:
        raise Malformed(f"{len(frame) - HEADER_BYTES} bytes behind the header, which states {header.length}")
    return header, memoryview(frame)[HEADER_BYTES:]
