"""Noise flooding: how much noise hides the errors of a decrypted sum, and for how many sums under one key.

A decrypted CKKS value carries the errors of its ciphertexts, and who sees enough of them computes the secret key
(Li and Micciancio 2021, IACR ePrint 2020/1533, IND-CPA-D). The remedy is to add, before anything leaves the
decryptor, discrete Gaussian noise to every coefficient of the plaintext, wide enough that the errors drown
(Li, Micciancio, Schultz and Sorrell 2022, ePrint 2022/816):

    sigma = B * sqrt(24 * n * alpha) * 2^(s / 2)

* B bounds the error of one coefficient of a sum of C ciphertexts, in the worst case over all randomness and keys,
  never on average: C times `fresh_error`. C is the number of clients in the round's roster: fewer only err less.
* n = N is the number of coefficients of a ciphertext.
* alpha, the query budget, counts the ciphertexts ever decrypted under the key: those of one sum times the rounds.
* s, the statistical bits. The Kullback-Leibler divergence between what is seen with and without the errors is at most
  n B^2 / (2 sigma^2) a ciphertext, 2^-s / 48 over all alpha. By Pinsker, no observer tells the two apart with an
  advantage over 2^(-s / 2) / 9.7 in the whole life of the key: 2^-23 at s = 40. In the measure of Micciancio and
  Walter (2018), in which a distinguisher of advantage d costs 1 / d^2, that is s bits of security.

The error of a fresh encryption, a coefficient (SEAL: ternary u and s, noise within +-21):

    under the secret key          e                               21
    under a public key            e_pk u + e0 + e1 s              21 (2N + 1)
    the same, special prime P     divided by P and rounded, with a rounding of 1/2 in c0 and in c1, which s multiplies:
                                  21 (2N + 1) / P + (N + 1) / 2

What a fresh ciphertext leaves out of c0 on the wire comes on top (`wire.fresh_error`). What a sum leaves out
is known to its sender: it takes room from the noise, and is nothing to hide.

Encoding integers into coefficients errs by nothing (`rings`).

Guarantee: let at most alpha ciphertexts, each a sum of at most C encryptions made as the protocol says (by clients
who may choose their randomness within its range), be decrypted and flooded with `sigma`. Then whoever sees the results
and collects the ciphertexts has at most the advantage above over one who is told the exact sums instead. Rounding
afterwards is post-processing: it takes nothing away from this and adds nothing. Errors over B (crafted ciphertexts) are
outside the guarantee.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from he.ckks.flooded import wire
from he.ckks.flooded.rings import RINGS, RingParameters
from he.security import NOISE_BOUND, KeyMode
from secagg.errors import Refused
from secagg.gaussian import SIGMA_MAX

MIN_BITS = 40
# P[|noise| > TAIL * sigma] <= 2 exp(-TAIL^2 / 2): under 2^-40 for 2^30 values together.
TAIL = math.sqrt(2 * math.log(2) * (30 + 1 + 40))


@dataclass(frozen=True)
class Flooding:
    """The noise of one round.

    Attributes:
        sigma: standard deviation of the noise of a coefficient, an integer.
        bound: B, the worst error of a coefficient of the sum, an integer.
        bits: s.
        queries: alpha.
        reach: how far a coefficient is from Delta * sum at most, but for a probability of 2^-40 over 2^30 values.
    """

    sigma: int
    bound: int
    bits: int
    queries: int

    @property
    def sigma_float(self) -> float:
        """`sigma` as a float that is not below it."""
        nearest = float(self.sigma)
        return nearest if nearest >= self.sigma else math.nextafter(nearest, math.inf)

    @property
    def reach(self) -> int:
        """See the class."""
        return self.bound + math.ceil(TAIL * self.sigma)


def fresh_error(degree: int, key_mode: KeyMode, *, special: int | None = None) -> Fraction:
    """The worst error of a coefficient of one fresh encryption; see the module's text."""
    if key_mode == "symmetric":
        return Fraction(NOISE_BOUND)
    whole = Fraction(NOISE_BOUND * (2 * degree + 1))
    return whole if special is None else whole / special + Fraction(degree + 1, 2)


def worst_error(parameters: RingParameters) -> Fraction:
    """The worst error of a coefficient of one fresh ciphertext as it arrives."""
    return fresh_error(parameters.degree, "public", special=parameters.special) + wire.fresh_error(parameters)


def flooding_sigma(bound: int, *, degree: int, queries: int, bits: int) -> int:
    """The formula, rounded up, in integers throughout.

    Raises:
        Refused: fewer than 40 statistical bits, or a query budget below 1.
    """
    if bits < MIN_BITS:
        raise Refused(f"flooding_bits is {bits}, expected {MIN_BITS} at least")
    if queries < 1:
        raise Refused(f"a query budget of {queries} ciphertexts, expected 1 at least")
    return math.isqrt(bound * bound * 24 * degree * queries << bits) + 1


def flooding(parameters: RingParameters, *, clients: int, length: int, rounds: int, bits: int) -> Flooding:
    """The noise for sums of `clients` vectors of `length` integers, in each of up to `rounds` rounds under one key.

    Rounds may differ in clients and length: each then takes its own noise, and spends 1 / rounds of 2^-s / 48.

    Raises:
        Refused: as `flooding_sigma`, or the noise would reach over half a step of the integers. Names what would do.
    """
    found = _flooding(parameters, clients, length, rounds, bits)
    if _fits(parameters, found):
        return found
    wider = [p.name for p in RINGS.values() if _fits(p, _flooding(p, clients, length, rounds, bits))]
    raise Refused(
        f"{parameters.name} has no room for the noise that hides the sums of {clients} clients, {length} values, "
        f"in {rounds} rounds at {bits} bits: "
        + (
            f"preset {wider[0]} would do"
            if wider
            else f"query_budget = {most} would do"
            if (most := _most_rounds(parameters, found, rounds)) >= 1
            else "no budget would do; take fewer clients, a shorter vector or fewer bits, or backend 'bfv'"
        )
    )


def _flooding(parameters: RingParameters, clients: int, length: int, rounds: int, bits: int) -> Flooding:
    bound = math.ceil(clients * worst_error(parameters))
    queries = parameters.ciphertexts(length) * rounds
    sigma = flooding_sigma(bound, degree=parameters.degree, queries=queries, bits=bits)
    return Flooding(sigma, bound, bits, queries)


def _most_rounds(parameters: RingParameters, wanted: Flooding, rounds: int) -> int:
    """The largest query budget that fits where `rounds` does not: sigma grows with its square root."""
    room = min((_room(parameters) - wanted.bound) / TAIL, SIGMA_MAX)
    return math.floor(rounds * (room / wanted.sigma_float) ** 2 * (1 - 1e-9))


def _fits(parameters: RingParameters, noise: Flooding) -> bool:
    return noise.sigma_float <= SIGMA_MAX and noise.reach < _room(parameters)


def _room(parameters: RingParameters) -> int:
    """How far errors and noise may reach: half a step, less what sums leave out, less a part p (`rings.split`)."""
    return parameters.delta // 2 - wire.sum_error(parameters) - parameters.primes[0]


def check_round(number: int, rounds: int) -> None:
    """Raise `Refused` for a round outside the query budget of a key: rounds 1 to `rounds` (C6).

    That each of them is opened once is for whoever opens it (`he.rounds.open_once`).
    """
    if not 1 <= number <= rounds:
        raise Refused(
            f"ckks: round {number} is over the query budget of {rounds} rounds under one key; "
            "set up new keys, or raise query_budget"
        )
