"""What the server reads of one client under `selective`: the input of whoever measures what that gives away."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from he.selective.backend import Selective
from he.selective.mask import Mask
from secagg.errors import Refused
from secagg.ringsum import RingSum
from secagg.spec import RoundSpec


@dataclass(frozen=True)
class ServerView:
    """One client's update as it lies open in its upload.

    Attributes:
        clear: bool of shape `(size,)`: the coordinates that are open.
        values: float64 of shape `(size,)`: w * x on the grid of the encoding, NaN where encrypted. The weight w is
            encrypted; under a public divisor it is 1.
    """

    clear: Mask = field(repr=False)
    values: NDArray[np.float64] = field(repr=False)


def server_view(backend: Selective, spec: RoundSpec, upload: bytes | memoryview) -> ServerView:
    """Read the body of an upload of the round `spec` as the server can, with no key.

    Raises:
        Refused: the body is shorter than the coordinates in the clear.
    """
    clear = ~backend.mask(spec.layout)
    open_half = RingSum(spec.encoding, int(np.count_nonzero(clear)))
    if len(upload) < open_half.wire_bytes:
        raise Refused(f"upload of {len(upload)} bytes, expected more than {open_half.wire_bytes}")
    open_half.fold(memoryview(upload)[len(upload) - open_half.wire_bytes :])
    values = np.full(spec.layout.size, np.nan)
    values[clear] = spec.encoding.to_floats(open_half.signed())
    return ServerView(clear, values)
