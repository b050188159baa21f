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

from dp import adaptive
from dp.accountant import SMALLEST_SIGMA, account, solve_noise_multiplier
from dp.clipping import clip_to_grid, grid_bound
from secagg.errors import InvalidUpdate, Refused
from secagg.fixedpoint import FixedPoint, Integers
from secagg.gaussian import SIGMA_MAX, discrete_gaussian
from secagg.guarantees import Guarantees
from secagg.protocol import Rng, SecureSum
from secagg.settings import Settings
from secagg.spec import RoundSpec
from secagg.vectors import Layout


class ClientLevelParameters(Settings):
    """Parameters of `dp`.

    Attributes:
        noise_multiplier: sigma over `clip_l2`; 1 when neither it nor `target_epsilon` is given.
        clip_l2: largest L2 norm of one client's update, in the unit of the model's weights; where it begins, if
            clipping is adaptive.
        clipping: "flat", or "adaptive": the bound follows a quantile of the clients' norms (`dp.adaptive`).
        clip_quantile, clip_learning_rate: which share of clients should be within the bound, and how fast it moves.
        clip_min, clip_max: the site's limits of the bound; `clip_l2` / 32 and `clip_l2` * 32 by default.
        clip_count_noise: the noise on the number of clients within the bound; twice the noise multiplier by default.
        target_epsilon: solve for the noise multiplier that `rounds` rounds at `target_delta` need.
        target_delta: the delta of every epsilon that is stated.
        rounds: how many rounds are planned; `train` and `plan` fill it in.
        sampling_rate: for plans only: below 1, epsilon holds against outsiders under secret Poisson sampling.
        noise: who adds it; around another backend than `plain` it must be said.
    """

    noise_multiplier: float | None = None
    clip_l2: Annotated[float, Field(gt=0)] = 1.0
    clipping: Literal["flat", "adaptive"] = "flat"
    clip_quantile: Annotated[float, Field(gt=0, lt=1)] = 0.5
    clip_learning_rate: Annotated[float, Field(gt=0, le=2)] = 0.2
    clip_min: Annotated[float, Field(gt=0)] | None = None
    clip_max: Annotated[float, Field(gt=0)] | None = None
    clip_count_noise: Annotated[float, Field(gt=0)] | None = None
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
        self._adaptive = _adaptive(parameters, self._noise_multiplier)
        self._delta = parameters.target_delta
        self._sampling_rate = parameters.sampling_rate
        self._noise_stated = parameters.noise is not None
        # Resolved, so that the spec binds the noise itself and not the wish that it came from.
        self.parameters: Mapping[str, Any] = parameters.model_dump() | {
            "noise_multiplier": self._noise_multiplier,
            "target_epsilon": None,
            "noise": "server",
        }
        if self._adaptive is not None:
            self.parameters |= {
                "clip_min": self._adaptive.smallest,
                "clip_max": self._adaptive.largest,
                "clip_count_noise": self._adaptive.count_noise,
            }

    def extend(self, layout: Layout) -> Layout:
        return layout if self._adaptive is None else adaptive.extended(layout)

    def next_clip(self, released: SecureSum) -> float | None:
        """The clip bound for the next round, from what this one released; None where clipping is flat."""
        if self._adaptive is None:
            return None
        return self._adaptive.next_clip(self._clip(released.encoding), released)

    def check(self, spec: RoundSpec) -> None:
        encoding = spec.encoding
        if encoding.divisor is None:
            raise Refused("dp: expected a public divisor and weights of 1: an exact sum of weights has no guarantee")
        if encoding.rounding != "nearest":
            raise Refused(
                f"dp: rounding is {encoding.rounding!r}, expected 'nearest': the clip has room for half a step"
            )
        if self._adaptive is not None:
            self._adaptive.check(self._clip(encoding), spec.layout)
        grid_bound(self._clip(encoding), size=spec.layout.size, scale=encoding.scale)
        sigma = self._noise_multiplier * self._sensitivity(encoding)
        # On a coarser grid the discrete noise is no match for the continuous one that the accountant knows.
        if not SMALLEST_SIGMA <= sigma <= SIGMA_MAX:
            raise Refused(
                f"dp: noise of {sigma:g} grid steps, expected {SMALLEST_SIGMA:g} to {SIGMA_MAX:g}; change modulus_bits"
            )

    def before(self, vector: NDArray[np.float32], encoding: FixedPoint) -> NDArray[np.float32]:
        clip_l2 = self._clip(encoding)
        if self._adaptive is None:
            return clip_to_grid(vector, clip_l2, scale=encoding.scale).vector
        if vector[-1] != 0:
            raise InvalidUpdate(f"the last coordinate is {vector[-1]}, expected 0: adaptive clipping fills it in")
        clipped = clip_to_grid(vector[:-1], clip_l2, scale=encoding.scale)
        beta = self._adaptive.beta(clip_l2, encoding)
        return np.append(clipped.vector, np.float32(beta if clipped.norm <= clip_l2 else -beta))

    def onto(self, integers: Integers, encoding: FixedPoint, rng: Rng) -> Integers:
        # Whoever encodes by itself has skipped `before`: the noise is calibrated to this norm.
        norm = math.sqrt(float(np.einsum("i,i->", integers, integers, dtype=np.float64)))
        if norm > self._sensitivity(encoding) * (1 + 2.0**-30):
            raise InvalidUpdate(f"the encoded update has norm {norm:g}, dp allows {self._sensitivity(encoding):g}")
        return integers

    def after(self, total: SecureSum, rng: Rng) -> SecureSum:
        sigma = self._noise_multiplier * self._sensitivity(total.encoding)
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
            "clipping": "flat",
        }
        bound = f"clip {self._clip_l2:g}"
        released: tuple[str, ...] = ("the noisy mean of every round",)
        if (moving := self._adaptive) is not None:
            privacy |= {"clipping": "adaptive", "clip_min": moving.smallest, "clip_max": moving.largest}
            bound = f"adaptive clip from {moving.smallest:g} to {moving.largest:g}"
            released += ("the noisy share of clients within the clip bound",)
        return replace(
            inner,
            protection=f"client-level differential privacy (noise multiplier {self._noise_multiplier:g}, "
            f"{bound}, noise at the server) around: {inner.protection}",
            sees={**inner.sees, "everybody else": released},
            exactness="the mean is of clipped updates and carries discrete Gaussian noise",
            uniform_weights=True,
            privacy=privacy,
            limitations=(
                *inner.limitations,
                "the server sees the sum before the noise",
                "clipping is each client's own promise: one that skips it has no bound of its own, and can set the sum",
            ),
        )

    def _clip(self, encoding: FixedPoint) -> float:
        """The bound of the round. An adaptive one is the bound of its encoding, whose proof is made for it."""
        return self._clip_l2 if self._adaptive is None else encoding.value_bound

    def _sensitivity(self, encoding: FixedPoint) -> float:
        """The largest norm of a whole contribution in grid steps, the bit of adaptive clipping included."""
        bit = 1.0 if self._adaptive is None else self._adaptive.update_multiplier / self._noise_multiplier
        return self._clip(encoding) * bit * encoding.scale

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


def _adaptive(parameters: ClientLevelParameters, noise_multiplier: float) -> adaptive.AdaptiveClipping | None:
    given = parameters.clip_min, parameters.clip_max, parameters.clip_count_noise
    if parameters.clipping == "flat":
        if given != (None, None, None):
            raise Refused("dp: clip_min, clip_max and clip_count_noise belong to clipping = 'adaptive'")
        return None
    clip_min, clip_max, count_noise = given
    return adaptive.AdaptiveClipping(
        noise_multiplier=noise_multiplier,
        count_noise=2 * noise_multiplier if count_noise is None else count_noise,
        quantile=parameters.clip_quantile,
        learning_rate=parameters.clip_learning_rate,
        smallest=parameters.clip_l2 / 32 if clip_min is None else clip_min,
        largest=parameters.clip_l2 * 32 if clip_max is None else clip_max,
    )


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
