"""The canonical embedding of Z[X] / (X^N + 1): coefficients to slots and back, in SEAL's order of slots.

Slot k is the polynomial at zeta^(3^k), zeta = exp(i pi / N), for k < N/2; the other half are the conjugates
(Cheon et al. 2017, section 3.2, has 5 for 3). In double precision: SEAL's encoder is what messages pass through,
this is what keys are checked with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def to_slots(coefficients: NDArray[np.float64]) -> NDArray[np.complex128]:
    """N real coefficients to N/2 complex slots."""
    degree = coefficients.shape[-1]
    twist = np.exp(1j * np.pi * np.arange(degree) / degree)
    at_odd_powers = np.fft.ifft(coefficients * twist) * degree
    slots: NDArray[np.complex128] = at_odd_powers[_slot_positions(degree)]
    return slots


def to_coefficients(slots: NDArray[np.complex128]) -> NDArray[np.float64]:
    """N/2 complex slots to N real coefficients, not rounded."""
    degree = 2 * slots.shape[-1]
    positions = _slot_positions(degree)
    at_odd_powers = np.empty(degree, np.complex128)
    at_odd_powers[positions] = slots
    at_odd_powers[degree - 1 - positions] = np.conj(slots)
    twist = np.exp(-1j * np.pi * np.arange(degree) / degree)
    coefficients: NDArray[np.float64] = (np.fft.fft(at_odd_powers) * twist).real / degree
    return coefficients


def _slot_positions(degree: int) -> NDArray[np.int64]:
    """Where slot k is among the odd powers 1, 3, 5, ... of zeta."""
    powers = [1]
    for _ in range(degree // 2 - 1):
        powers.append(powers[-1] * 3 % (2 * degree))
    return (np.array(powers, np.int64) - 1) // 2
