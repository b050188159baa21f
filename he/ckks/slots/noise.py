"""How far a decrypted slot can be from the integer that it stands for, and when rounding is therefore exact.

Four errors add up in a slot, in units of the integer grid (Delta the scale, C the ciphertexts added):

* Encryption: sum_i e_i(zeta). Every coefficient of e is a sum of 42 signs / 2, which is sub-Gaussian with proxy
  variance 21/2. The real and the imaginary part of f(zeta) are linear in the coefficients of f with squared weights
  that add up to N/2, hence sub-Gaussian with proxy C * V, where V = 21/2 * N/2. With 2^30 values,
  P[any error > t sqrt(C V)] <= 2^-40 at t^2 = 2 ln(2) (30 + 1 + 40).
* Rounding coefficients at encoding: at most 1/2 each, and sum |cos| <= N / sqrt(2), so C N / (2 sqrt(2)) / Delta.
* Floating point: a transform errs by at most 8 log2(N) u in relative 2-norm (Higham 2002, theorem 24.2, twiddles
  within 2u), u = 2^-53, and one more u for every conversion. A slot errs by sqrt(N) times that, twice: the
  encodings of all clients together (their magnitudes add up to 2^31 at most), and the decoding.
* Modular wrap-around: none, by construction of `parameters.Parameters`.

Guarantee: for ciphertexts encrypted as the protocol says, the error of every one of up to 2^30 values is below
`slot_error(...)` except with probability 2^-40. Where that is below 1/2, the rounded sum is the integer sum:
it is a function of the inputs alone, and says nothing of the noise or the key (Li and Micciancio 2021).
Ciphertexts that were not encrypted as the protocol says have no such bound; `decryption` checks for them.
"""

from __future__ import annotations

import math

from he.ckks.slots.parameters import PRESETS, Parameters
from he.security import MAX_CLIENTS, NOISE_VARIANCE, SUM_BITS
from secagg.errors import Refused

MAX_VALUES = 1 << 30
LOG2_FAILURE = -40
_UNIT_ROUNDOFF = 2.0**-53


def slot_error(parameters: Parameters, *, clients: int) -> float:
    """Bound on |decrypted - integer| over all values of a sum of `clients` ciphertexts, in integer steps.

    Raises:
        Refused: `clients` is below 1 or over 2^20.
    """
    if not 1 <= clients <= MAX_CLIENTS:
        raise Refused(f"{clients} ciphertexts in a sum, expected 1 to {MAX_CLIENTS}")
    degree = parameters.degree
    tail = math.sqrt(2 * math.log(2) * (math.log2(MAX_VALUES) + 1 - LOG2_FAILURE))
    encryption = tail * math.sqrt(clients * NOISE_VARIANCE * degree / 2)
    rounding = clients * degree / (2 * math.sqrt(2))
    transform = math.sqrt(degree) * (8 * math.log2(degree) + 2) * _UNIT_ROUNDOFF * math.sqrt(2) * 2.0**SUM_BITS
    return (encryption + rounding) / parameters.scale + 2 * transform


def exact_clients(parameters: Parameters) -> int:
    """The largest number of clients whose rounded sum is exact."""
    low, high = 0, MAX_CLIENTS + 1
    while high - low > 1:
        middle = (low + high) // 2
        if slot_error(parameters, clients=middle) < 0.5:
            low = middle
        else:
            high = middle
    return low


def require_exact(parameters: Parameters, *, clients: int) -> None:
    """Raise `Refused`, with the preset that would do, unless the rounded sum of `clients` is exact."""
    if slot_error(parameters, clients=clients) < 0.5:
        return
    wider = [p.name for p in PRESETS.values() if slot_error(p, clients=clients) < 0.5]
    limit = exact_clients(parameters)
    raise Refused(
        f"{parameters.name} sums {limit} clients exactly, {clients} asked for"
        + (f" ({wider[0]} would do)" if wider else "")
    )
