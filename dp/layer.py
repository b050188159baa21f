"""`dp`: client-level differential privacy around a sum. `dp` alone is `dp+plain`, with noise at the server.

Every client clips its whole update to L2 norm `clip_l2`, with room for rounding, so that its *integer* vector has
norm at most `clip_l2 * scale`. Weights are 1 and the divisor is public. Noise of sigma = noise_multiplier * clip_l2 *
scale comes on top, in whole numbers, and `dp.placement` says who adds it:

* distributed (Kairouz et al. 2021, arXiv 2102.06387): every client its share, before protection. Nobody ever sees the
  sum without noise. The default around a backend that shows sums only.
* server (McMahan et al. 2018, arXiv 1710.06963): where the sum appears, before anybody else sees it.
* local: every client all of it. The comparison: what it costs to trust nobody.

Guarantee: each released sum is (epsilon, delta)-DP, as `spent` says: for adding or removing one client (server), for
one client's update replaced by zero while its noise stays (distributed; who takes part is known), or by any other
(local). It holds against whoever sees released sums; distributed, also against a server that follows the protocol and
as many clients as `colluders` says; local, against everybody. Noise at the server trusts the server with the sum.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from dp import adaptive
from dp.accountant import SMALLEST_SIGMA
from dp.claims import adjacency, claim, limitations, noise_name, solve
from dp.clipping import Clipped, clip_to_grid, grid_bound
from dp.placement import Mechanism, Placement, Sampler, Where
from secagg.errors import InvalidUpdate, Refused
from secagg.fixedpoint import FixedPoint, Integers
from secagg.gaussian import SIGMA_MAX
from secagg.guarantees import Guarantees
from secagg.protocol import Rng, SecureSum
from secagg.rotation import flat_bound
from secagg.settings import Settings
from secagg.spec import MIN_COHORT, RoundSpec
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
        noise: who adds it (`dp.placement`); if not given, the server around `plain`, else the clients in shares.
        mechanism: discrete Gaussian, or Skellam noise.
        sampler: "table" is quicker, and its use shows in a cache that is shared.
        survivors: distributed: the fewest clients in a sum, to whom the noise is calibrated; 3 if not given.
        colluders: distributed: how many of them may tell others their share of the noise; 1 if not given.
        rotation: whether updates are rotated before they are rounded (`secagg.rotation`); with distributed noise they
            are, unless clipping is adaptive.
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
    noise: Where | None = None
    mechanism: Mechanism = "gaussian"
    sampler: Sampler = "data-independent"
    survivors: Annotated[int, Field(ge=MIN_COHORT)] | None = None
    colluders: Annotated[int, Field(ge=0)] | None = None
    rotation: bool | None = None


_PLACES: Mapping[Where, str] = {
    "server": "noise at the server",
    "distributed": "noise distributed over the clients",
    "local": "all of the noise at every client",
}


class ClientLevel:
    """The layer; see the module's text."""

    kind: ClassVar[Literal["layer"]] = "layer"
    Parameters: ClassVar[type[Settings]] = ClientLevelParameters
    name = "dp"

    def __init__(self, parameters: ClientLevelParameters) -> None:
        self._given = parameters
        self._placement = _placement(parameters)
        self._noise_multiplier = _resolve(parameters, self._placement)
        self._clip_l2 = parameters.clip_l2
        self._adaptive = _adaptive(parameters, self._noise_multiplier)
        self._rotated = _rotated(parameters)
        self._delta = parameters.target_delta
        self._sampling_rate = parameters.sampling_rate
        distributed = self._placement.where == "distributed"
        # Resolved, so that the spec binds the noise itself and not the wish that it came from.
        self.parameters: Mapping[str, Any] = parameters.model_dump() | {
            "noise_multiplier": self._noise_multiplier,
            "target_epsilon": None,
            "noise": self._placement.where,
            "survivors": self._placement.survivors if distributed else None,
            "colluders": self._placement.colluders if distributed else None,
            "rotation": self._rotated,
        }
        if self._adaptive is not None:
            self.parameters |= {
                "clip_min": self._adaptive.smallest,
                "clip_max": self._adaptive.largest,
                "clip_count_noise": self._adaptive.count_noise,
            }

    def around(self, inner: Guarantees) -> ClientLevel:
        if self._given.noise is not None:
            return self
        where: Where = "distributed" if inner.sum_only else "server"
        return ClientLevel(self._given.model_copy(update={"noise": where}))

    def extend(self, layout: Layout) -> Layout:
        return layout if self._adaptive is None else adaptive.extended(layout)

    def encoding(self, value_bound: float, *, clients: int, size: int) -> Mapping[str, Any]:
        clip_l2 = self._clip_l2 if self._adaptive is None else value_bound
        sigma = self._noise_multiplier * clip_l2 * self._bit
        asked: dict[str, Any] = {}
        if self._placement.at_client:
            asked["noise_bound"] = self._placement.room(sigma, clients=clients)
            asked["most_fraction_bits"] = self._placement.most_fraction_bits(sigma)
        if self._rotated:
            asked["value_bound"] = min(value_bound, flat_bound(clip_l2, size))
            asked["rotation"] = secrets.token_hex(32)
        return asked

    def next_clip(self, released: SecureSum) -> float | None:
        """The clip bound for the next round, from what this one released; None where clipping is flat."""
        if self._adaptive is None:
            return None
        return self._adaptive.next_clip(self._clip(released.encoding), released)

    def check(self, spec: RoundSpec) -> None:
        encoding, placement, clients = spec.encoding, self._placement, len(spec.roster.clients)
        if encoding.divisor is None:
            raise Refused("dp: expected a public divisor and weights of 1: an exact sum of weights has no guarantee")
        if (encoding.rotation is not None) != self._rotated:
            raise Refused(
                f"dp: the encoding {'lacks' if self._rotated else 'has'} a rotation, rotation is {self._rotated}"
            )
        if self._adaptive is not None:
            self._adaptive.check(self._clip(encoding), spec.layout)
        if encoding.rounding != "nearest" and not placement.at_client:
            raise Refused(f"dp: rounding is {encoding.rounding!r}, expected 'nearest' where the server adds the noise")
        grid_bound(
            self._clip(encoding),
            size=spec.layout.size,
            scale=encoding.scale,
            rounding=encoding.rounding,
            rotated=self._rotated,
        )
        sensitivity = self._sensitivity(encoding)
        sigma = self._noise_multiplier * sensitivity
        # On a coarser grid the discrete noise is no match for the continuous one that the accountant knows.
        if not SMALLEST_SIGMA <= sigma <= SIGMA_MAX:
            raise Refused(
                f"dp: noise of {sigma:g} grid steps, expected {SMALLEST_SIGMA:g} to {SIGMA_MAX:g}; change modulus_bits"
            )
        placement.check(sigma, sensitivity=sensitivity, size=spec.layout.size, clients=clients)
        if spec.minimum_cohort < placement.survivors:
            raise Refused(
                f"dp: minimum_cohort is {spec.minimum_cohort}, the noise is calibrated to {placement.survivors} "
                "survivors: the sum of fewer would have too little of it"
            )
        room = placement.room(sigma, clients=clients) / encoding.scale
        if encoding.noise_bound < room * (1 - 2.0**-30):
            raise Refused(f"dp: noise_bound of the encoding is {encoding.noise_bound:g}, the noise needs {room:g}")

    def before(self, vector: NDArray[np.float32], encoding: FixedPoint) -> NDArray[np.float32]:
        clip_l2 = self._clip(encoding)
        if self._adaptive is None:
            return self._clipped(vector, encoding).vector
        if vector[-1] != 0:
            raise InvalidUpdate(f"the last coordinate is {vector[-1]}, expected 0: adaptive clipping fills it in")
        clipped = self._clipped(vector[:-1], encoding)
        beta = self._adaptive.beta(clip_l2, encoding)
        return np.append(clipped.vector, np.float32(beta if clipped.norm <= clip_l2 else -beta))

    def onto(self, integers: Integers, encoding: FixedPoint, rng: Rng) -> Integers:
        # Whoever encodes by itself has skipped `before`: the noise is calibrated to this norm.
        norm = math.sqrt(float(np.einsum("i,i->", integers, integers, dtype=np.float64)))
        sensitivity = self._sensitivity(encoding)
        if norm > sensitivity * (1 + 2.0**-30):
            raise InvalidUpdate(f"the encoded update has norm {norm:g}, dp allows {sensitivity:g}")
        if self._placement.at_client:
            noise = self._placement.noise(self._noise_multiplier * sensitivity, integers.size, rng)
            noise += integers
            return noise.astype(integers.dtype)
        return integers

    def after(self, total: SecureSum, rng: Rng) -> SecureSum:
        if self._placement.at_client:
            return total
        sigma = self._noise_multiplier * self._sensitivity(total.encoding)
        noise = self._placement.noise(sigma, total.totals.size, rng)
        noise += total.totals
        return total.with_totals(noise)

    def compose(self, inner: Guarantees) -> Guarantees:
        where = self._placement.where
        if inner.privacy is not None:
            raise Refused("dp: two layers of noise would be two claims; one is enough")
        if where == "server" and inner.result_at != "server":
            raise Refused(
                "dp: noise at the server, but the sum appears at the clients: they would see it without noise"
            )
        if where == "distributed" and (not inner.sum_only or inner.alpha < MIN_COHORT):
            raise Refused(
                "dp: a share of the noise hides a client only within a sum, and this backend shows single updates, "
                "or parts of them; say noise = 'local', or noise = 'server', which trusts the server"
            )
        if where == "distributed" and inner.result_at == "clients":
            # Where the sum appears at the clients, each of them has the key to every update.
            raise Refused(
                "dp: the clients share the key, so that a colluder opens single updates, with one share of the noise "
                "in each; say key_mode = 'holder', or noise = 'local'"
            )
        privacy = {
            "unit": "client",
            "adjacency": adjacency(self._placement),
            "noise": noise_name(self._placement),
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
            f"{bound}, {_PLACES[where]}) around: {inner.protection}",
            adversary="passive" if where == "distributed" else inner.adversary,
            sees={**_noisy(inner.sees, where), "everybody else": released},
            exactness="the mean is of clipped updates and carries "
            + ("Skellam" if self._placement.mechanism == "skellam" else "discrete Gaussian")
            + " noise",
            uniform_weights=True,
            privacy=privacy,
            limitations=(
                *inner.limitations,
                *limitations(self._placement),
                "clipping is each client's own promise: one that skips it has no bound of its own, and can set the sum",
            ),
        )

    def _clip(self, encoding: FixedPoint) -> float:
        """The bound of the round. An adaptive one is the bound of its encoding, whose proof is made for it."""
        return self._clip_l2 if self._adaptive is None else encoding.value_bound

    def _clipped(self, vector: NDArray[np.float32], encoding: FixedPoint) -> Clipped:
        return clip_to_grid(
            vector,
            self._clip(encoding),
            scale=encoding.scale,
            rounding=encoding.rounding,
            rotated=self._rotated,
        )

    @property
    def _bit(self) -> float:
        """By how much the bit of adaptive clipping makes a whole contribution longer."""
        return 1.0 if self._adaptive is None else self._adaptive.update_multiplier / self._noise_multiplier

    def _sensitivity(self, encoding: FixedPoint) -> float:
        """The largest norm of a whole contribution in grid steps, the bit of adaptive clipping included."""
        return self._clip(encoding) * self._bit * encoding.scale

    def spent(self, rounds: int, *, clients: int | None = None) -> Mapping[str, Any] | None:
        return claim(
            self._placement,
            self._noise_multiplier,
            rounds,
            delta=self._delta,
            sampling_rate=self._sampling_rate,
            population=clients,
        )


def _placement(parameters: ClientLevelParameters) -> Placement:
    where, survivors, colluders = parameters.noise or "server", parameters.survivors, parameters.colluders
    if where == "distributed":
        return Placement(
            where,
            parameters.mechanism,
            parameters.sampler,
            survivors=MIN_COHORT if survivors is None else survivors,
            colluders=1 if colluders is None else colluders,
        )
    if (survivors, colluders) != (None, None) and parameters.noise is not None:
        raise Refused(f"dp: survivors and colluders belong to noise = 'distributed', noise is {where!r}")
    return Placement(where, parameters.mechanism, parameters.sampler)


def _rotated(parameters: ClientLevelParameters) -> bool:
    if parameters.clipping == "adaptive":
        if parameters.rotation:
            raise Refused(
                "dp: rotation = true and clipping = 'adaptive': the bit of the clipping must stay where it is"
            )
        return False
    return parameters.noise == "distributed" if parameters.rotation is None else parameters.rotation


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


def _resolve(parameters: ClientLevelParameters, placement: Placement) -> float:
    if parameters.target_epsilon is None:
        multiplier = 1.0 if parameters.noise_multiplier is None else parameters.noise_multiplier
        if not multiplier > 0:
            raise Refused(f"noise_multiplier is {multiplier:g}: without noise there is no differential privacy")
        return multiplier
    if parameters.noise_multiplier is not None:
        raise Refused("dp: noise_multiplier and target_epsilon are both given, expected one of them")
    return solve(
        placement,
        parameters.target_epsilon,
        parameters.target_delta,
        rounds=parameters.rounds,
        sampling_rate=parameters.sampling_rate,
    )


def _noisy(sees: Mapping[str, tuple[str, ...]], where: Where) -> Mapping[str, tuple[str, ...]]:
    """What the parties see, once it carries the clients' noise."""

    def noisy(thing: str) -> str:
        if where == "local" and "update" in thing:
            return f"{thing}, each with all of its client's noise"
        return f"{thing}, with the noise of every client in it" if "sum" in thing else thing

    if where == "server":
        return sees
    return {party: tuple(map(noisy, things)) for party, things in sees.items()}
