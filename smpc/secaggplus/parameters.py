"""The parameters of `secaggplus`, and what they come to for the clients that are present."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Annotated

from pydantic import Field

from secagg.errors import Refused
from secagg.settings import Settings
from smpc.masks import Suite
from smpc.secaggplus.calculator import (
    MAX_DEGREE,
    PRIVACY_BITS,
    Cohort,
    Neighbourhood,
    Threat,
    bits,
    choose,
    loss,
    privacy_failure,
    share_of,
    smallest_private_threshold,
)  # fmt: skip
from smpc.secaggplus.draw import ATTEMPTS, void


class SecAggPlusParameters(Settings):
    """Parameters of `secaggplus`.

    Attributes:
        threat: what the server may do: `active` (anything) or `passive` (it follows the protocol).
        corruption: the share of clients that may pool what they know with the server; at least one if not 0.
        dropout: the share of clients that may vanish; it decides how likely a round is lost, not how private it is.
        degree, threshold: neighbours of a client, and how many of them recover a secret; computed if not given.
        suite: the cipher of the masks.
        acknowledge_weak_parameters: accept a given degree or threshold that is not private to 2^-40.
    """

    threat: Threat = "active"
    corruption: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    dropout: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    degree: Annotated[int, Field(ge=2, le=MAX_DEGREE)] | None = None
    # A share under threshold 1 would be the secret itself.
    threshold: Annotated[int, Field(ge=2, le=MAX_DEGREE)] | None = None
    suite: Suite = "chacha20"
    acknowledge_weak_parameters: bool = False


def cohort(parameters: SecAggPlusParameters, *, roster: int, present: int) -> Cohort:
    """The assumptions for `present` of `roster` clients. All corrupt ones may be among them, and stay."""
    return Cohort(
        clients=present,
        corrupt=min(share_of(parameters.corruption, roster), present - 1),
        dropped=min(share_of(parameters.dropout, roster), present - 1),
        threat=parameters.threat,
        # Every draw takes a fresh secret of an honest client, and each client has so many (see `draw`).
        draws=roster * ATTEMPTS if parameters.threat == "active" else 1,
    )


@lru_cache(maxsize=256)
def neighbourhood(parameters: SecAggPlusParameters, *, roster: int, present: int) -> Neighbourhood:
    """Degree and threshold when `present` of `roster` clients take part. Every party computes them for itself.

    Raises `Refused` where no neighbourhood is private, and for given ones that are not, unless acknowledged.
    """
    assumed = cohort(parameters, roster=roster, present=present)
    if parameters.degree is None and parameters.threshold is None:
        return choose(assumed)
    around = _given(parameters, assumed)
    failure = privacy_failure(assumed, around)
    if bits(failure) < PRIVACY_BITS and not parameters.acknowledge_weak_parameters:
        raise Refused(
            f"secaggplus: with degree {around.degree} and threshold {around.threshold} among {present} clients, the "
            f"{assumed.threat} server singles one out with a probability of up to {_power(failure)}, at most "
            f"2^-{PRIVACY_BITS} is expected; leave them out, or set acknowledge_weak_parameters = true"
        )
    return around


def attempts(parameters: SecAggPlusParameters, *, roster: int) -> int:
    """In how many draws a client may be asked: in none where the graph of the whole roster is complete."""
    if parameters.threat == "passive" or neighbourhood(parameters, roster=roster, present=roster).degree == roster - 1:
        return 0
    return ATTEMPTS


def _given(parameters: SecAggPlusParameters, assumed: Cohort) -> Neighbourhood:
    """The degree and threshold that were asked for, with what was left open filled in."""
    n = assumed.clients
    degree = min(parameters.degree or choose(assumed).degree, n - 1)
    degree += degree * n % 2  # every edge has two ends
    threshold = parameters.threshold or smallest_private_threshold(assumed, degree) or 2 * degree // 3 + 1
    if threshold > degree:
        raise Refused(f"secaggplus: threshold {threshold}, and a client has {degree} neighbours among {n} clients")
    return Neighbourhood(degree, threshold)


def attained(parameters: SecAggPlusParameters, clients: int) -> str:
    """What degree and threshold give `clients` clients, in one line."""
    assumed = cohort(parameters, roster=clients, present=clients)
    around = neighbourhood(parameters, roster=clients, present=clients)
    lost = loss(assumed, around)
    if attempts(parameters, roster=clients):
        lost = min(Fraction(1), lost + void(clients, assumed.corrupt, assumed.dropped))
    server = f"{'an' if assumed.threat == 'active' else 'a'} {assumed.threat} server"
    return (
        f"degree {around.degree}, threshold {around.threshold}: {server} with {assumed.corrupt} of {clients} clients "
        f"{_chance('singles', ' one out', privacy_failure(assumed, around))}; a round that loses {assumed.dropped} of "
        f"them {_chance('ends', ' without a sum', lost)}"
    )


def _chance(verb: str, rest: str, probability: Fraction) -> str:
    if not probability:
        return f"never {verb}{rest}"
    if probability == 1:
        return f"may {verb[:-1]}{rest}"
    return f"{verb}{rest} with a probability of up to {_power(probability)}"


def _power(probability: Fraction) -> str:
    return str(probability) if probability in (0, 1) else f"2^-{bits(probability):.1f}"
