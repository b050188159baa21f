"""Vectors of a narrow ring on the wire: nothing rides along behind the last element, and shares look uniform."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from secagg.driver import Letter
from secagg.fixedpoint import FixedPoint
from secagg.frames import split
from secagg.identity import SERVER
from secagg.packing import packed_bytes, unpack
from tests.adversary.federation import Federation, is_vector, step_of

VICTIM = "site-2"


def federation_of(name: str, bits: int, *, size: int = 257) -> Federation:
    federation = Federation(name, size=size)
    federation.encoding = FixedPoint.fit(clients=5, value_bound=1.0, max_weight=20, modulus_bits=bits)
    return federation


@pytest.mark.parametrize("name", ["plain", "smpc"])
@pytest.mark.parametrize("bits", [21, 23])
def test_t16_bits_behind_the_last_element_are_rejected(name: str, bits: int) -> None:
    """They would not change the sum, so that a client and a server could talk through them unseen."""
    federation = federation_of(name, bits)
    spec = federation.spec()

    def hide(letter: Letter) -> Iterable[Letter]:
        body = bytearray(split(letter.frame)[1]) if letter.kind == "frame" else bytearray()
        if is_vector(letter) and letter.sender == VICTIM and len(body) == packed_bytes(258, bits):
            body[-1] |= 0x80
            yield replace(letter, frame=federation.forge(VICTIM, SERVER, spec, step_of(letter), bytes(body)))
        else:
            yield letter

    federation.wire = hide
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {VICTIM})
    assert [(error.sender, error.why) for error in outcome.rejected] == [
        (VICTIM, f"vector of 258 elements of {bits} bits goes on behind its last element")
    ]


@pytest.mark.parametrize("bits", [20, 24])
def test_m15_what_the_server_sees_of_a_packed_share_is_uniform_the_top_value_included(bits: int) -> None:
    """The input is the largest value everywhere; its share takes every value, the ring's last one included."""
    size = 1 << 18
    federation = federation_of("smpc", bits, size=size)
    federation.vectors = {name: np.ones(size, np.float32) for name in federation.names}
    seen = np.zeros(size + 1, np.uint32)

    def watch(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == VICTIM and len(letter.frame) > size:
            for place, elements in unpack(split(letter.frame)[1], size + 1, bits):
                seen[place] = elements
        return (letter,)

    federation.wire = watch
    federation.check(federation.round())
    for shift in (0, bits - 16, bits - 8):
        counts = np.bincount((seen >> shift) & 255, minlength=256)
        expected = seen.size / 256
        assert float(((counts - expected) ** 2 / expected).sum()) < 400  # 255 degrees of freedom: 1e-8
    # The last 2^-12 of the ring: missed by 2^18 uniform draws with probability e^-64.
    assert seen.max() >= 2**bits - 2 ** (bits - 12)
