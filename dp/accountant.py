"""What the noise buys: epsilon of a client's participations, and the noise multiplier for a wanted epsilon.

One release is the sum of integer vectors, one a client, each of L2 norm at most `clip_l2 * scale` (dp.clipping), plus
discrete Gaussian noise of sigma = noise_multiplier * clip_l2 * scale in every coordinate (secagg.gaussian). Unit: one
client's whole contribution to a round. Adjacency: add or remove one client, under a public fixed divisor.

Why the accountant of the *continuous* Gaussian bounds it. The two sums differ by an integer vector m, |m| <=
clip_l2 * scale. For order a > 1, with N_Z normalised by Z = sum_x exp(-x^2 / 2 sigma^2), coordinate by coordinate

    exp((a-1) D_a(N_Z(m) || N_Z(0))) = exp(a (a-1) m^2 / 2 sigma^2) * sum_x exp(-(x - a m)^2 / 2 sigma^2) / Z,

and the last fraction is at most 1, since a Gaussian sums to the most over the integers when centred on one (Poisson
summation; Canonne, Kamath, Steinke 2020, arXiv 2004.00030, proposition 5). Divergences add over coordinates,
hence D_a <= a |m|^2 / (2 sigma^2) <= a / (2 noise_multiplier^2): the continuous value. Composition and the
conversion to (epsilon, delta) use nothing else of the mechanism.

At *whole* orders a the fraction is exactly 1, so that every moment of the privacy loss equals the continuous one. The
binomial formula for Poisson subsampling (Mironov, Talwar, Zhang 2019, arXiv 1908.10530) is made of these moments,
and the reflection x -> m - x, on which its worst direction rests, maps the integers onto themselves: it
holds for discrete noise too, and therefore the subsampled figure here uses whole orders only.

Guarantee: each epsilon returned is an upper bound at its delta, for clients that clip and a sampler that does what it
claims; secagg.gaussian's distance from N_Z, 2^-320 a draw, is not added. Epsilon says nothing against one who draws,
or sees, the noise before it is added (noise at the server is central DP only).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from decimal import ROUND_CEILING, Context
from typing import Any, Literal

from secagg.errors import Refused

ACCOUNTANT = "dp-accounting RDP"
_ORDERS = tuple(1 + 2.0 ** (eighths / 8) for eighths in range(-40, 97))
_WHOLE_ORDERS = (*range(2, 129), 160, 192, 256, 320, 384, 512, 640, 768, 1024)
_ALWAYS_ASSUMED = (
    "every client clips its own update to clip_l2 and rounds it to the grid; one that does not voids its own bound",
    "the divisor of the mean is public and fixed",
    "the discrete Gaussian is drawn afresh each round, by a party that keeps it to itself",
)
_OUTSIDERS_ASSUMED = (
    "epsilon_outsiders: each round's cohort is a Poisson sample that stays secret; it holds against nobody who sees "
    "a roster, such as the server or another client"
)
_SMALLEST_MULTIPLIER, _LARGEST_MULTIPLIER = 2.0**-10, 2.0**30


@dataclass(frozen=True)
class PrivacySpent:
    """A claim, with what it rests on; the privacy data sheet prints it whole.

    Attributes:
        epsilon: against anyone who sees the roster, after `participations` rounds at full charge (q = 1).
        delta: of both epsilons.
        noise_multiplier: sigma over the L2 sensitivity.
        rounds: rounds released.
        participations: rounds in which the client in question took part at most.
        sampling_rate: chance of a client to be in a round.
        epsilon_outsiders: with amplification by sampling over all `rounds`; None where not claimed.
        assumptions: sentences without which the figures do not hold.
        warnings: why the figures say less than they seem to.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    rounds: int
    participations: int
    sampling_rate: float = 1.0
    epsilon_outsiders: float | None = None
    assumptions: tuple[str, ...] = _ALWAYS_ASSUMED
    warnings: tuple[str, ...] = field(default=())
    unit: Literal["client"] = "client"
    adjacency: Literal["add/remove"] = "add/remove"
    noise: str = "discrete Gaussian"
    accountant: str = ACCOUNTANT

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`, metrics and data sheets."""
        return asdict(self)


def account(
    noise_multiplier: float,
    rounds: int,
    *,
    delta: float,
    sampling_rate: float = 1.0,
    secret_poisson: bool = False,
    participations: int | None = None,
    population: int | None = None,
) -> PrivacySpent:
    """The claim for a run of `rounds` releases, of which a client took part in `participations` (default: all).

    `sampling_rate` in (0, 1]. The outsiders' figure is given only for `secret_poisson`: rosters that are Poisson
    samples and never published; shuffled or fixed cohorts earn none. `population`, if known, is the number of
    clients that delta is held against.

    Raises:
        Refused: a value is out of range, or `secret_poisson` at sampling rate 1, where nothing is amplified.
    """
    taken = rounds if participations is None else participations
    if taken > rounds:
        raise Refused(f"participations is {taken}, expected at most the {rounds} rounds")
    _check_sampling_rate(sampling_rate)
    if secret_poisson and sampling_rate == 1:
        raise Refused("secret_poisson is set, expected a sampling_rate below 1: at 1 everybody knows the roster")
    outsiders = None
    if secret_poisson:
        outsiders = epsilon_against_outsiders(noise_multiplier, rounds, delta=delta, sampling_rate=sampling_rate)
    return PrivacySpent(
        epsilon=epsilon(noise_multiplier, taken, delta=delta),
        delta=delta,
        noise_multiplier=noise_multiplier,
        rounds=rounds,
        participations=taken,
        sampling_rate=sampling_rate,
        epsilon_outsiders=outsiders,
        assumptions=(*_ALWAYS_ASSUMED, _OUTSIDERS_ASSUMED) if secret_poisson else _ALWAYS_ASSUMED,
        warnings=() if population is None else warnings_for(delta, population),
    )


def epsilon(noise_multiplier: float, participations: int, *, delta: float) -> float:
    """Epsilon of one client after so many participations, each fully charged. Holds against anyone without the noise.

    Raises:
        Refused: the noise multiplier is outside [2^-10, 2^30] or 0, delta outside (0, 1), or participations below 1.

    Guarantee: the composition of that many discrete Gaussian releases is (epsilon, delta)-DP; see the module.
    """
    import dp_accounting

    _check(noise_multiplier, participations, delta)
    return _rdp_epsilon(dp_accounting.GaussianDpEvent(noise_multiplier), participations, delta, _ORDERS)


def epsilon_against_outsiders(noise_multiplier: float, rounds: int, *, delta: float, sampling_rate: float) -> float:
    """Epsilon with amplification by Poisson sampling, over all `rounds`, whoever was sampled.

    Holds only if every client is in each round independently with probability `sampling_rate`, and only against
    someone who never learns a roster. The server and the other clients do learn it: to them, see `epsilon`.

    Raises:
        Refused: as in `epsilon`, or the sampling rate is outside (0, 1].

    Guarantee: (epsilon, delta)-DP of the released sums alone, under secret Poisson sampling; see the module.
    """
    import dp_accounting

    _check(noise_multiplier, rounds, delta)
    _check_sampling_rate(sampling_rate)
    unsampled = epsilon(noise_multiplier, rounds, delta=delta)
    if sampling_rate == 1:
        return unsampled
    event = dp_accounting.PoissonSampledDpEvent(sampling_rate, dp_accounting.GaussianDpEvent(noise_multiplier))
    # Divergences are quasi-convex: sampling never costs more than taking part. Whole orders alone may not show it.
    return min(unsampled, _rdp_epsilon(event, rounds, delta, _WHOLE_ORDERS))


def solve_noise_multiplier(
    target_epsilon: float, target_delta: float, *, rounds: int, sampling_rate: float = 1.0
) -> float:
    """The smallest noise multiplier, rounded up to four digits, that keeps `rounds` releases within the target.

    At sampling rate 1 the target is `epsilon` after `rounds` participations; below 1 it is
    `epsilon_against_outsiders`, with all that this assumes.

    Raises:
        Refused: a target is out of range, or no noise multiplier up to 2^30 reaches it.

    Guarantee: the accountant's epsilon at the value returned is at most `target_epsilon`.
    """
    if not (math.isfinite(target_epsilon) and target_epsilon > 0):
        raise Refused(f"target_epsilon is {target_epsilon}, expected a positive number")
    _check(1.0, rounds, target_delta)
    _check_sampling_rate(sampling_rate)

    def within(noise_multiplier: float) -> bool:
        spent = epsilon_against_outsiders(noise_multiplier, rounds, delta=target_delta, sampling_rate=sampling_rate)
        return spent <= target_epsilon

    enough = _smallest(within)
    if enough is None:
        raise Refused(
            f"target_epsilon is {target_epsilon:g} at delta {target_delta:g} over {rounds} rounds: no noise multiplier "
            f"up to 2^30 reaches it"
        )
    digits = Context(prec=4, rounding=ROUND_CEILING)
    rounded = digits.create_decimal_from_float(enough)
    # The bisection's answer is verified as it is returned: as a float, which may lie under the decimal.
    while not within(float(rounded)):
        rounded = digits.next_plus(rounded)
    return float(rounded)


def warnings_for(delta: float, population: int) -> tuple[str, ...]:
    """Why `delta` is too large for so many clients, in sentences; empty if it is not.

    A mechanism that publishes one client in full, picked at random, has delta = 1 / population and epsilon 0: a
    delta above that allows it.
    """
    if population < 1:
        raise Refused(f"population is {population}, expected at least 1 client")
    _check_delta(delta)
    if delta * population <= 1:
        return ()
    return (
        f"delta = {delta:g} is larger than 1/{population}: it would permit publishing a whole client, picked at "
        f"random; stay well under {1 / population:.2g}",
    )


def _rdp_epsilon(event: Any, count: int, delta: float, orders: Sequence[float]) -> float:
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(orders)
    accountant.compose(event, count)
    return float(accountant.get_epsilon(delta))


def _smallest(within: Callable[[float], bool]) -> float | None:
    """The least multiplier that passes, from above to one part in 10^5, by bisection of a monotone test."""
    low = high = 1.0
    while not within(high):
        low, high = high, 2 * high
        if high > _LARGEST_MULTIPLIER:
            return None
    while low == high or within(low):
        low, high = low / 2, low
        if low < _SMALLEST_MULTIPLIER:
            return high
    while high - low > 1e-5 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if within(middle) else (middle, high)
    return high


def _check(noise_multiplier: float, count: int, delta: float) -> None:
    if noise_multiplier == 0:
        raise Refused("noise_multiplier is 0, expected a positive number: without noise it is not differential privacy")
    if not _SMALLEST_MULTIPLIER <= noise_multiplier <= _LARGEST_MULTIPLIER:
        raise Refused(f"noise_multiplier is {noise_multiplier}, expected a number from 2^-10 to 2^30")
    if count < 1:
        raise Refused(f"rounds taken part in are {count}, expected at least 1")
    _check_delta(delta)


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise Refused(f"delta is {delta}, expected a number above 0 and below 1 (well under 1 / clients)")


def _check_sampling_rate(sampling_rate: float) -> None:
    if not 0 < sampling_rate <= 1:
        raise Refused(f"sampling_rate is {sampling_rate}, expected a number above 0 and at most 1")
