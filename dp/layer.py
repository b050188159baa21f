"""`dp`: client-level differential privacy around a sum. `dp` alone is `dp+plain`, with noise at the server.

Every client clips its whole update to L2 norm `clip_l2`, with room for rounding, so that its *integer* vector has
norm at most `clip_l2 * scale`. Weights are 1 and the divisor is public. Where the sum appears, discrete Gaussian
noise of sigma = noise_multiplier * clip_l2 * scale is added to it before anybody else sees it (McMahan et
al. 2018, arXiv 1710.06963, with the integer noise of Canonne, Kamath and Steinke 2020).

Guarantee: each released sum is (epsilon, delta)-DP for adding or removing one client, as `spent` says, against
whoever sees the released sums. The server adds the noise, so it is trusted with what the inner backend shows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from dp.accountant import account, solve_noise_multiplier
from dp.clipping import clip_to_grid, grid_bound
from secagg.errors import InvalidUpdate, Refused
from secagg.fixedpoint import FixedPoint, Integers
from secagg.gaussian import SIGMA_MAX, SIGMA_MIN, discrete_gaussian
from secagg.guarantees import Guarantees
from secagg.protocol import Rng, SecureSum
from secagg.settings import Settings
from secagg.spec import RoundSpec


class ClientLevelParameters(Settings):
    """Parameters of `dp`.

    Attributes:
        noise_multiplier: sigma over `clip_l2`; 1 when neither it nor `target_epsilon` is given.
        clip_l2: largest L2 norm of one client's update, in the unit of the model's weights.
        target_epsilon: solve for the noise multiplier that `rounds` rounds at `target_delta` need.
        target_delta: the delta of every epsilon that is stated.
        rounds: how many rounds are planned; `train` and `plan` fill it in.
        sampling_rate: for plans only: below 1, epsilon holds against outsiders under secret Poisson sampling.
        noise: who adds it; around another backend than `plain` it must be said.
    """

    noise_multiplier: float | None = None
    clip_l2: Annotated[float, Field(gt=0)] = 1.0
    target_epsilon: Annotated[float, Field(gt=0)] | None = None
    target_delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    rounds: Annotated[int, Field(ge=1)] = 1
    sampling_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    noise: Literal["server"] | None = None


class ClientLevel:
    """The layer; see the module's text."""

    kind: ClassVar[Literal["layer"]] = "layer"
    Parameters: ClassVar[type[Settings]] = ClientLevelParameters
    name = "dp"

    def __init__(self, parameters: ClientLevelParameters) -> None:
        self._noise_multiplier = _resolve(parameters)
        self._clip_l2 = parameters.clip_l2
        self._delta = parameters.target_delta
        self._sampling_rate = parameters.sampling_rate
        self._noise_stated = parameters.noise is not None
        # Resolved, so that the spec binds the noise itself and not the wish that it came from.
        self.parameters: Mapping[str, Any] = parameters.model_dump() | {
            "noise_multiplier": self._noise_multiplier,
            "target_epsilon": None,
            "noise": "server",
        }

    def check(self, spec: RoundSpec) -> None:
        encoding = spec.encoding
        if encoding.divisor is None:
            raise Refused("dp: expected a public divisor and weights of 1: an exact sum of weights has no guarantee")
        if encoding.rounding != "nearest":
            raise Refused(
                f"dp: rounding is {encoding.rounding!r}, expected 'nearest': the clip has room for half a step"
            )
        sigma = self._noise_multiplier * self._clip_l2 * encoding.scale
        if not SIGMA_MIN <= sigma <= SIGMA_MAX:
            raise Refused(f"dp: noise of {sigma:g} grid steps, expected {SIGMA_MIN} to {SIGMA_MAX:g}; change the ring")
        grid_bound(self._clip_l2, size=spec.layout.size, scale=encoding.scale)

    def before(self, vector: NDArray[np.float32], encoding: FixedPoint) -> NDArray[np.float32]:
        return clip_to_grid(vector, self._clip_l2, scale=encoding.scale).vector

    def onto(self, integers: Integers, encoding: FixedPoint, rng: Rng) -> Integers:
        # Whoever encodes by itself has skipped `before`: the noise is calibrated to this norm.
        norm = math.sqrt(float(np.einsum("i,i->", integers, integers, dtype=np.float64)))
        if norm > self._clip_l2 * encoding.scale * (1 + 2.0**-30):
            raise InvalidUpdate(f"the encoded update has norm {norm:g}, dp allows {self._clip_l2 * encoding.scale:g}")
        return integers

    def after(self, total: SecureSum, rng: Rng) -> SecureSum:
        sigma = self._noise_multiplier * self._clip_l2 * total.encoding.scale
        noise = discrete_gaussian(sigma, total.totals.size, rng=rng)
        noise += total.totals
        return total.with_totals(noise)

    def compose(self, inner: Guarantees) -> Guarantees:
        if inner.privacy is not None:
            raise Refused("dp: two layers of noise would be two claims; one is enough")
        if inner.result_at != "server":
            raise Refused(
                "dp: noise at the server, but the sum appears at the clients: they would see it without noise"
            )
        if inner.sum_only and not self._noise_stated:
            raise Refused(
                "dp around another backend: distributed noise is not available yet; say noise = 'server' to have "
                "the server add it, which trusts the server with the sum"
            )
        privacy = {
            "unit": "client",
            "adjacency": "add/remove",
            "noise": "discrete Gaussian, added at the server",
            "noise_multiplier": self._noise_multiplier,
            "clip_l2": self._clip_l2,
        }
        return replace(
            inner,
            protection=f"client-level differential privacy (noise multiplier {self._noise_multiplier:g}, clip "
            f"{self._clip_l2:g}, noise at the server) around: {inner.protection}",
            sees={**inner.sees, "everybody else": ("the noisy mean of every round",)},
            exactness="the mean is of clipped updates and carries discrete Gaussian noise",
            uniform_weights=True,
            privacy=privacy,
            limitations=(
                *inner.limitations,
                "the server sees the sum before the noise",
                "clipping is each client's own promise: one that skips it has no bound of its own, and can set the sum",
            ),
        )

    def spent(self, rounds: int, *, clients: int | None = None) -> Mapping[str, Any] | None:
        sampled = self._sampling_rate < 1
        claim = account(
            self._noise_multiplier,
            rounds,
            delta=self._delta,
            sampling_rate=self._sampling_rate,
            secret_poisson=sampled,
            population=clients,
        ).to_json()
        claim["noise"] += ", added at the server"
        if sampled:
            # The plan asked for the outsiders' figure; the one for those who see the roster stands beside it.
            claim["epsilon_roster"], claim["epsilon"] = claim["epsilon"], claim["epsilon_outsiders"]
        return claim


def _resolve(parameters: ClientLevelParameters) -> float:
    if parameters.target_epsilon is None:
        multiplier = 1.0 if parameters.noise_multiplier is None else parameters.noise_multiplier
        if not multiplier > 0:
            raise Refused(f"noise_multiplier is {multiplier:g}: without noise there is no differential privacy")
        return multiplier
    if parameters.noise_multiplier is not None:
        raise Refused("dp: noise_multiplier and target_epsilon are both given, expected one of them")
    return solve_noise_multiplier(
        parameters.target_epsilon,
        parameters.target_delta,
        rounds=parameters.rounds,
        sampling_rate=parameters.sampling_rate,
    )
