"""What the noise buys: epsilon of everything that one unit was charged, and the noise multiplier for a wanted epsilon.

A `Charge` is a number of releases of one kind: noise of `noise_multiplier` times the L2 sensitivity, and the chance of
the unit to be in each. `composed_epsilon` composes charges of any kinds by privacy loss distributions, as the library
dp-accounting has them (Koskela, Jalko, Honkela 2020, arXiv 1906.03049; Doroshenko et al. 2022, arXiv 2207.04380).
Without sampling the composition is one Gaussian, whose epsilon has a closed form (Balle, Wang 2018, arXiv 1805.06530).

At the client level one release is the sum of integer vectors, one a client, each of L2 norm at most `clip_l2 * scale`
(dp.clipping), plus discrete Gaussian noise of sigma = noise_multiplier * clip_l2 * scale in every coordinate
(secagg.gaussian). Adjacency: add or remove one client, under a public fixed divisor.

Why the accountant of the *continuous* Gaussian bounds the discrete one. Let m be an integer, y a draw of
N(m, sigma^2 - s^2), and x a draw of the discrete Gaussian of parameter s around y. Then

    P(x) = integral of N(y; m, sigma^2 - s^2) exp(-(x - y)^2 / 2 s^2) / Z(y) dy,   Z(y) = sum_x exp(-(x - y)^2 / 2 s^2),

and Z(y) is within a factor 1 +- 2.1 exp(-2 pi^2 s^2) of s sqrt(2 pi) wherever y lies (Poisson summation). With Z
constant, the integral is the Gaussian of variance sigma^2 around m at the integer x. So for s = 4 the discrete
Gaussian around m is, to a factor 1 +- 2^-452, what becomes of the continuous one of variance sigma^2 - 16 when chance
that knows nothing of m is applied to it, and that costs no privacy (after Peikert 2010, theorem 3.1). Over all
coordinates and rounds together, below 2^60 of them, the factor stays under 1 + 2^-390, which is not added. At sigma of
`SMALLEST_SIGMA` grid steps and more, the smaller variance is a noise multiplier smaller by 8 in a million:
`composed_epsilon` takes that off every multiplier. It holds for mixtures too, hence under Poisson sampling.

Guarantee: each epsilon returned is an upper bound at its delta (up to float rounding), for units whose contribution is
clipped, noise of at least `SMALLEST_SIGMA` steps and a sampler that does what it claims; secagg.gaussian's distance
from the discrete Gaussian, 2^-320 a draw, is not added. Epsilon says nothing against one who draws, or sees, the noise
before it is added (noise at the server is central DP only).
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from decimal import ROUND_CEILING, Context
from typing import Any, Literal

from secagg.errors import Refused

# One client more or less; its update replaced by zero; its update replaced by another.
Adjacency = Literal["add/remove", "zero-out", "replace"]
ACCOUNTANT = "dp-accounting PLD"
SMALLEST_SIGMA = 2.0**10
MEANINGFUL_EPSILON = 10.0
# sqrt(sigma^2 - 16) / sigma at the smallest sigma.
_SMOOTHED = math.sqrt(1 - 2.0**-16)
# The grid of the privacy loss: a coarser one costs less and claims more.
_FINEST_STEP, _COARSE_STEP, _STEPS = 1e-4, 1e-3, 1e5
# For ledgers, which are asked at every round: claims up to a thousandth more, in a seventh of the time.
LEDGER_STEP = 1e-3
_WHOLE_ORDERS = (*range(2, 65), 96, 128, 256, 512)
# An epsilon that promises nothing is left as rough as it is.
_HOPELESS = 1e4
_ALWAYS_ASSUMED = (
    "every client clips its own update to clip_l2 and rounds it to the grid; one that does not voids its own bound",
    "the divisor of the mean is public and fixed",
    "the noise is drawn afresh each round, and whoever draws it keeps it to itself",
)
_OUTSIDERS_ASSUMED = (
    "epsilon_outsiders: each round's cohort is a Poisson sample that stays secret; it holds against nobody who sees "
    "a roster, such as the server or another client"
)
_MOST_STEPS = 2**40
_SMALLEST_MULTIPLIER, _LARGEST_MULTIPLIER = 2.0**-10, 2.0**30


@dataclass(frozen=True)
class Charge:
    """What one unit is charged: `steps` releases, in each of which it is with chance `sampling_rate`.

    `noise_multiplier` is sigma over the L2 sensitivity. A `sampling_rate` below 1 claims Poisson sampling, unknown to
    those against whom the epsilon is to hold: of rows within a client (DP-SGD), or of clients to outsiders.

    Raises:
        Refused: the noise multiplier is outside [2^-10, 2^30] or 0, steps below 1, or the rate outside (0, 1].
    """

    noise_multiplier: float
    steps: int = 1
    sampling_rate: float = 1.0

    def __post_init__(self) -> None:
        multiplier = self.noise_multiplier
        if multiplier == 0:
            raise Refused(
                "noise_multiplier is 0, expected a positive number: without noise it is not differential privacy"
            )
        if not _SMALLEST_MULTIPLIER <= multiplier <= _LARGEST_MULTIPLIER:
            raise Refused(f"noise_multiplier is {multiplier}, expected a number from 2^-10 to 2^30")
        if not (isinstance(self.steps, int) and 1 <= self.steps <= _MOST_STEPS):
            raise Refused(f"rounds taken part in are {self.steps}, expected a whole number from 1 to 2^40")
        if not 0 < self.sampling_rate <= 1:
            raise Refused(f"sampling_rate is {self.sampling_rate}, expected a number above 0 and at most 1")


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
    adjacency: Adjacency = "add/remove"
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
    Charge(noise_multiplier, taken, sampling_rate)
    if secret_poisson and sampling_rate == 1:
        raise Refused("secret_poisson is set, expected a sampling_rate below 1: at 1 everybody knows the roster")
    outsiders = None
    if secret_poisson:
        outsiders = epsilon_against_outsiders(noise_multiplier, rounds, delta=delta, sampling_rate=sampling_rate)
    total = epsilon(noise_multiplier, taken, delta=delta)
    delta_warnings = () if population is None else warnings_for(delta, population)
    return PrivacySpent(
        epsilon=total,
        delta=delta,
        noise_multiplier=noise_multiplier,
        rounds=rounds,
        participations=taken,
        sampling_rate=sampling_rate,
        epsilon_outsiders=outsiders,
        assumptions=(*_ALWAYS_ASSUMED, _OUTSIDERS_ASSUMED) if secret_poisson else _ALWAYS_ASSUMED,
        warnings=(*large_epsilon(total), *delta_warnings),
    )


def composed_epsilon(charges: Iterable[Charge], *, delta: float, finest_step: float = _FINEST_STEP) -> float:
    """Epsilon at `delta` of everything that is charged, whatever the order; 0 for nothing.

    Each charge may depend on the releases before it. `finest_step` is the grid of the privacy loss, in epsilon; a
    coarser one answers sooner and claims more, and a large epsilon has a coarser one in any case.

    Raises:
        Refused: delta is outside (0, 1).

    Guarantee: the composition of all charges is (epsilon, delta)-DP; see the module.
    """
    _check_delta(delta)
    steps: Counter[tuple[float, float]] = Counter()
    for charge in charges:
        steps[charge.noise_multiplier * _SMOOTHED, charge.sampling_rate] += charge.steps
    if not steps:
        return 0.0
    # Sampling never costs more than taking part: the mixture's divergence is at most that of its part.
    unsampled = _gaussian_epsilon(
        math.sqrt(sum(count / multiplier**2 for (multiplier, _), count in steps.items())), delta
    )
    if all(rate == 1 for _, rate in steps):
        return unsampled
    return min(unsampled, _sampled_epsilon(steps, delta, rough=unsampled, finest_step=finest_step))


def epsilon(noise_multiplier: float, participations: int, *, delta: float) -> float:
    """Epsilon of one client after so many participations, each fully charged. Holds against anyone without the noise.

    Raises:
        Refused: as `Charge` and `composed_epsilon` do.

    Guarantee: the composition of that many discrete Gaussian releases is (epsilon, delta)-DP; see the module.
    """
    return composed_epsilon([Charge(noise_multiplier, participations)], delta=delta)


def epsilon_against_outsiders(noise_multiplier: float, rounds: int, *, delta: float, sampling_rate: float) -> float:
    """Epsilon with amplification by Poisson sampling, over all `rounds`, whoever was sampled.

    Holds only if every client is in each round independently with probability `sampling_rate`, and only against
    someone who never learns a roster. The server and the other clients do learn it: to them, see `epsilon`.

    Raises:
        Refused: as `Charge` and `composed_epsilon` do.

    Guarantee: (epsilon, delta)-DP of the released sums alone, under secret Poisson sampling; see the module.
    """
    return composed_epsilon([Charge(noise_multiplier, rounds, sampling_rate)], delta=delta)


def solve_noise_multiplier(
    target_epsilon: float,
    target_delta: float,
    *,
    rounds: int,
    sampling_rate: float = 1.0,
    finest_step: float = _FINEST_STEP,
) -> float:
    """The smallest noise multiplier, rounded up to four digits, that keeps `rounds` releases within the target.

    At sampling rate 1 the target is `epsilon` after `rounds` participations; below 1 it is that of `rounds` steps
    under Poisson sampling, with all that this assumes. `finest_step` is that of `composed_epsilon`.

    Raises:
        Refused: a target is out of range, or no noise multiplier up to 2^30 reaches it.

    Guarantee: the accountant's epsilon at the value returned is at most `target_epsilon`.
    """
    from dp_accounting import get_sigma_gaussian

    if not (math.isfinite(target_epsilon) and target_epsilon > 0):
        raise Refused(f"target_epsilon is {target_epsilon}, expected a positive number")
    _check_delta(target_delta)
    Charge(1.0, rounds, sampling_rate)

    @functools.cache
    def over(noise_multiplier: float, step: float = finest_step) -> float:
        charge = Charge(noise_multiplier, rounds, sampling_rate)
        return composed_epsilon([charge], delta=target_delta, finest_step=step) - target_epsilon

    if over(_LARGEST_MULTIPLIER) > 0:
        raise Refused(
            f"target_epsilon is {target_epsilon:g} at delta {target_delta:g} over {rounds} rounds: no noise multiplier "
            f"up to 2^30 reaches it"
        )
    digits = Context(prec=4, rounding=ROUND_CEILING)
    # What is enough without sampling is enough with it.
    unsampled = float(get_sigma_gaussian(target_epsilon, target_delta)) * math.sqrt(rounds) * (1 + 1e-4)
    rounded = digits.create_decimal_from_float(_root(over, unsampled))
    # The root is verified as it is returned: as a float, which may lie under the decimal.
    while over(float(rounded)) > 0:
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


def large_epsilon(spent: float) -> tuple[str, ...]:
    """A sentence where an epsilon promises next to nothing, above 10 (NIST SP 800-226, 2.1); empty if it is not."""
    if spent <= MEANINGFUL_EPSILON:
        return ()
    return (
        f"epsilon = {spent:.3g} bounds next to nothing: an observer's odds may change by a factor of e^{spent:.3g}; "
        f"claims are worth something up to about {MEANINGFUL_EPSILON:g}",
    )


def no_guarantee(delta: float) -> tuple[str, ...]:
    """A sentence where a delta leaves no claim at all, at 1; empty below."""
    return () if delta < 1 else ("delta is 1: no guarantee, whatever epsilon is",)


def _gaussian_epsilon(signal: float, delta: float) -> float:
    """Epsilon of one continuous Gaussian release of sensitivity `signal` standard deviations, rounded up."""
    from dp_accounting import get_epsilon_gaussian

    return float(get_epsilon_gaussian(1 / signal, delta)) * (1 + 1e-9)


def _sampled_epsilon(steps: Counter[tuple[float, float]], delta: float, *, rough: float, finest_step: float) -> float:
    from dp_accounting import ComposedDpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant

    event = ComposedDpEvent(
        [
            SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(multiplier)), count)
            for (multiplier, rate), count in steps.items()
        ]
    )
    if rough > _FINEST_STEP * _STEPS:
        rough = min(rough, float(RdpAccountant(_WHOLE_ORDERS).compose(event).get_epsilon(delta)))
    if rough > _HOPELESS:
        return rough
    while True:
        # Every grid gives an upper bound, which tells how fine the next one may be.
        step = max(finest_step, rough / _STEPS)
        found = float(PLDAccountant(value_discretization_interval=step).compose(event).get_epsilon(delta))
        if step == finest_step or found > rough / 2:
            return found
        rough = found


def _root(over: Callable[[float, float], float], enough: float) -> float:
    """Where the falling function `over(multiplier, grid)` crosses zero, to one part in 10^4, at most at `enough`.

    The smallest multiplier, if it never does. A coarse grid finds the place, from above, and the fine one the figure.
    """
    from scipy.optimize import brentq

    high = low = min(max(enough, _SMALLEST_MULTIPLIER), _LARGEST_MULTIPLIER)
    while low > _SMALLEST_MULTIPLIER and over(low, _COARSE_STEP) <= 0:
        low, high = max(low / 2, _SMALLEST_MULTIPLIER), low
    if over(low, _COARSE_STEP) <= 0:
        return low
    high = float(brentq(over, low, high, args=(_COARSE_STEP,), xtol=1e-5 * low)) * (1 + 1e-5)
    while over(high, _FINEST_STEP) > 0:
        high *= 1 + 1e-5
    low = 0.99 * high
    while over(low, _FINEST_STEP) <= 0:
        low, high = 0.99 * low, low
    return float(brentq(over, low, high, args=(_FINEST_STEP,), xtol=1e-4 * low))


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise Refused(f"delta is {delta}, expected a number above 0 and below 1 (well under 1 / clients)")
