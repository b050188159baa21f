"""What noise in some placement is worth: the claim of a run, and the noise multiplier for a wanted epsilon.

A noise multiplier is sigma over `clip_l2`. What counts for epsilon is sigma over the sensitivity: `clip_l2` for adding,
removing or zeroing one client's update, twice that for replacing it by another (local noise).

The accountant of one discrete Gaussian serves sums of them as well (`dp.distributed`); Skellam noise has Renyi bounds
only. No amplification by sampling is claimed for noise that clients add: who takes part is known.

Guarantee: an upper bound of epsilon at the delta that it is stated with. That is the target delta and, a round,
(1 + e^epsilon) times the samplers' statistical distance and the chance that a client's rounding fails (`dp.clipping`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dp.accountant import Adjacency, PrivacySpent, account, no_guarantee, solve_noise_multiplier
from dp.clipping import ROUNDING_MISSED
from dp.distributed import SKELLAM_ACCOUNTANT, skellam_epsilon, solve_skellam
from dp.placement import Placement, Where
from secagg.errors import Refused

_ADJACENCIES: Mapping[Where, Adjacency] = {"server": "add/remove", "distributed": "zero-out", "local": "replace"}
_MECHANISMS = {"gaussian": "discrete Gaussian", "skellam": "Skellam"}
_TAKING_PART = "that a client took part is no secret, only what it sent"


def noise_name(placement: Placement) -> str:
    """What noise it is and who adds it, in a few words."""
    name = _MECHANISMS[placement.mechanism] + (" from tables" if placement.sampler == "table" else "")
    if placement.where == "distributed":
        return (
            f"{name}, a share from every client: all of it from {placement.survivors} survivors less "
            f"{placement.colluders} colluders"
        )
    return f"{name}, added at the server" if placement.where == "server" else f"{name}, all of it from every client"


def adjacency(placement: Placement) -> Adjacency:
    """Between which two collections of clients nobody can tell."""
    return _ADJACENCIES[placement.where]


def limitations(placement: Placement) -> tuple[str, ...]:
    """What the placement of the noise leaves unprotected, in sentences."""
    if placement.where == "server":
        return ("the server sees the sum before the noise", _TAKING_PART)
    if placement.where == "local":
        return ("all clients' noise adds up: the mean has as many times the variance as there are clients",)
    return (
        f"a sum of fewer than {placement.survivors} clients, or with more than {placement.colluders} that tell their "
        "noise or add none, has less noise than is claimed: a server that breaks the protocol for one is not covered",
        "whoever this backend lets open single updates finds one share of the noise in each",
        _TAKING_PART,
    )


def claim(
    placement: Placement,
    noise_multiplier: float,
    rounds: int,
    *,
    delta: float,
    sampling_rate: float = 1.0,
    population: int | None = None,
) -> Mapping[str, Any]:
    """The claim after `rounds` rounds, as plain values; see `dp.accountant.PrivacySpent`.

    Raises:
        Refused: a value is out of range, or amplification is asked for that cannot be claimed.
    """
    _check_sampling(placement, sampling_rate)
    multiplier = noise_multiplier / _sensitivities(placement)
    sampled = sampling_rate < 1
    spent = account(
        multiplier, rounds, delta=delta, sampling_rate=sampling_rate, secret_poisson=sampled, population=population
    )
    if placement.mechanism == "skellam":
        epsilon = skellam_epsilon(multiplier, rounds, delta=delta)
        spent = replace(spent, epsilon=epsilon, accountant=SKELLAM_ACCOUNTANT)
    whole_delta = _whole_delta(placement, spent, rounds)
    spent = replace(
        spent,
        noise=noise_name(placement),
        adjacency=adjacency(placement),
        delta=whole_delta,
        assumptions=(*spent.assumptions, *_assumed(placement)),
        warnings=(*spent.warnings, *no_guarantee(whole_delta)),
    )
    stated = spent.to_json()
    if sampled:
        # The plan asked for the outsiders' figure; the one for those who see the roster stands beside it.
        stated["epsilon_roster"], stated["epsilon"] = stated["epsilon"], stated["epsilon_outsiders"]
    return stated


def solve(
    placement: Placement, target_epsilon: float, target_delta: float, *, rounds: int, sampling_rate: float = 1.0
) -> float:
    """The smallest noise multiplier, to four digits, whose claim after `rounds` rounds is within the target.

    Raises:
        Refused: as `claim`, or no noise multiplier reaches the target.
    """
    _check_sampling(placement, sampling_rate)
    if placement.mechanism == "skellam":
        found = solve_skellam(target_epsilon, target_delta, rounds=rounds)
    else:
        found = solve_noise_multiplier(target_epsilon, target_delta, rounds=rounds, sampling_rate=sampling_rate)
    return found * _sensitivities(placement)


def _sensitivities(placement: Placement) -> int:
    """The sensitivity in units of `clip_l2`."""
    return 2 if placement.where == "local" else 1


def _check_sampling(placement: Placement, sampling_rate: float) -> None:
    if sampling_rate < 1 and (placement.at_client or placement.mechanism == "skellam"):
        raise Refused(
            f"dp: sampling_rate is {sampling_rate:g}, expected 1: amplification is claimed only for "
            "discrete Gaussian noise at the server"
        )


def _whole_delta(placement: Placement, spent: PrivacySpent, rounds: int) -> float:
    if not placement.at_client and placement.distance == 0:
        return spent.delta
    missed = placement.distance + ROUNDING_MISSED
    return min(1.0, spent.delta + rounds * missed * (1 + math.exp(min(spent.epsilon, 700.0))))


def _assumed(placement: Placement) -> tuple[str, ...]:
    if placement.where == "distributed":
        return (
            f"every sum that anybody sees has {placement.survivors} clients or more, of whom {placement.colluders} at "
            "most tell others their share of the noise, or add none",
        )
    return ()
