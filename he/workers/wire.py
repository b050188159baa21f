"""What passes between this process and a worker, one packet each: short, of fixed form, and never pickled."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict, dataclass

from he.workers.arena import Shape

PACKET_BYTES = 4096
DONE, FAILED = 0, 1
_PIECE = struct.Struct("<BI")
_ANSWER = struct.Struct("<Bd")
_TEXT_BYTES = 1000


@dataclass(frozen=True)
class Opening:
    """A call begins: which task, as module and name, with what memory, and how long a piece may take."""

    module: str
    name: str
    shape: Shape
    limit_s: float

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, packet: bytes) -> Opening:
        fields = json.loads(packet)
        return cls(**fields | {"shape": Shape(**fields["shape"])})


@dataclass(frozen=True)
class Piece:
    """Do the first `items` of a slot. With none of them, the call is over."""

    slot: int
    items: int

    def to_bytes(self) -> bytes:
        return _PIECE.pack(self.slot, self.items)

    @classmethod
    def from_bytes(cls, packet: bytes) -> Piece:
        return cls(*_PIECE.unpack(packet))


CLOSING = Piece(0, 0)


@dataclass(frozen=True)
class Answer:
    """To an opening or a piece: the CPU seconds it took, and what was raised, as the name of its type and its text."""

    cpu_s: float
    kind: str = ""
    text: str = ""

    def to_bytes(self) -> bytes:
        if not self.kind:
            return _ANSWER.pack(DONE, self.cpu_s)
        return _ANSWER.pack(FAILED, self.cpu_s) + f"{self.kind}:{self.text}".encode()[:_TEXT_BYTES]

    @classmethod
    def from_bytes(cls, packet: bytes) -> Answer:
        """Raises `ValueError` for anything that is no answer: a worker is not trusted to be well."""
        if len(packet) < _ANSWER.size:
            raise ValueError("a packet that is no answer")
        status, cpu_s = _ANSWER.unpack_from(packet)
        if not 0 <= cpu_s < math.inf:
            raise ValueError("an answer that states no time")
        if status == DONE:
            return cls(cpu_s)
        kind, _, text = packet[_ANSWER.size :].decode("utf-8", "replace").partition(":")
        return cls(cpu_s, kind or "unknown", text)
