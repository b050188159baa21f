"""`secagg audit`: run a mechanism on canaries, guess which were in, and hold a lower bound of epsilon to the claim.

What is audited is the production code, through its public face: the training component that `train` uses, the layer
and the whole sessions of the backend under `secagg.driver`. The canaries come in cohorts, each in a run of its own,
whose releases depend on no other cohort's: together they are one mechanism, with the same claim for each canary.

Guarantee: if the claim holds, the bound exceeds it with probability 1 - confidence at most (`dp.audit.one_run`). A
bound under the claim proves nothing: an audit finds what is far wrong, for the parameters it was run at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from dp.audit.canaries import Cohort
from dp.audit.one_run import check_guesses, lower_bound, p_value, right_guesses
from secagg.errors import Refused
from secagg.registry import build
from secagg.spec import MIN_COHORT

CONSISTENT, VIOLATED = "consistent with the claim", "the claim is violated"
POWERLESS = "inconclusive: even with all guesses right it could not have refuted the claim; guess more"
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Design:
    """All that is fixed before an audit runs.

    Attributes:
        canaries: how many units; rounded up to whole cohorts. By default 8192 samples, or 1024 clients.
        rounds: of `dp`, or steps of `dp-sgd`. With an even number, noise that comes back cancels.
        sampling_rate: the chance of a sample to be in a step; 1 for clients.
        guesses: how many coins are guessed; by default one in ten.
        confidence: that the lower bound is one.
        seed: of the coins and directions. Noise and batches follow from no seed.
    """

    canaries: int | None = None
    rounds: int = 4
    sampling_rate: float = 1.0
    guesses: int | None = None
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.canaries is not None and not MIN_COHORT <= self.canaries <= _LARGEST:
            raise Refused(f"canaries is {self.canaries}, expected {MIN_COHORT} to {_LARGEST}")
        if self.rounds < 1:
            raise Refused(f"rounds is {self.rounds}, expected at least 1")
        if not 0 < self.sampling_rate <= 1:
            raise Refused(f"sampling_rate is {self.sampling_rate}, expected a number above 0 and at most 1")
        if not 0.5 <= self.confidence < 1:
            raise Refused(f"confidence is {self.confidence}, expected a number from 0.5 to under 1")
        if self.seed < 0:
            raise Refused(f"seed is {self.seed}, expected 0 or more")


_DEFAULT = Design()


class Claim(BaseModel):
    """What the mechanism says of itself after the run."""

    epsilon: float
    delta: float
    unit: str
    adjacency: str
    accountant: str
    noise: str
    noise_multiplier: float


class Audit(BaseModel):
    """Schema `secagg.audit/1`.

    Attributes:
        rounds: releases: rounds of `dp`, or steps of `dp-sgd`.
        cohort: canaries in a run; there are `canaries` / `cohort` runs.
        lower_bound: of epsilon at the claim's delta, with `confidence`.
        attainable: what `lower_bound` would be with all guesses right.
        p_value: the most that the chance of so many right guesses can be, if the claim holds.
    """

    schema_: Literal["secagg.audit/1"] = Field("secagg.audit/1", alias="schema")
    backend: str
    parameters: dict[str, Any]
    claim: Claim
    rounds: int
    sampling_rate: float
    canaries: int
    cohort: int
    guesses: int
    right: int
    seed: int
    confidence: float
    lower_bound: float
    attainable: float
    p_value: float
    violated: bool
    verdict: str


class Auditor:
    """One audit, prepared: what can be refused before it runs has been.

    Raises:
        Refused: a value is out of range, or the backend claims nothing that can be audited; the field is named.
    """

    def __init__(self, backend: str, parameters: Mapping[str, Any], design: Design = _DEFAULT) -> None:
        self._backend, self._design = backend, design
        self._target = _target(backend, parameters, design)
        # Whole cohorts: one of another size would need a noise of its own.
        self._cohorts = math.ceil(self._target.canaries / self._target.cohort)
        self._canaries = self._cohorts * self._target.cohort
        self._guesses = 2 * max(1, self._canaries // 20) if design.guesses is None else design.guesses
        check_guesses(self._guesses, canaries=self._canaries)

    @property
    def releases(self) -> int:
        """How many times `run` calls its `progress`."""
        return self._cohorts * self._design.rounds

    def run(self, progress: Callable[[], object] = lambda: None) -> Audit:
        """Run the mechanism, guess, and compare. Raises what the mechanism raises."""
        design, target = self._design, self._target
        scores, present = [], []
        for number in range(self._cohorts):
            cohort = Cohort.draw(target.cohort, seed=design.seed, number=number)
            scores.append(target.observe(cohort, progress))
            present.append(cohort.present)
        right = right_guesses(np.concatenate(scores), np.concatenate(present), guesses=self._guesses)
        claim = Claim.model_validate(target.claim())
        counts = {"canaries": self._canaries, "guesses": self._guesses, "right": right}
        bound = lower_bound(**counts, delta=claim.delta, confidence=design.confidence)
        all_right = counts | {"right": self._guesses}
        attainable = lower_bound(**all_right, delta=claim.delta, confidence=design.confidence)
        return Audit(
            schema="secagg.audit/1",
            backend=self._backend,
            parameters=dict(target.parameters),
            claim=claim,
            rounds=design.rounds,
            sampling_rate=target.sampling_rate,
            cohort=target.cohort,
            **counts,
            seed=design.seed,
            confidence=design.confidence,
            lower_bound=bound,
            attainable=attainable,
            p_value=p_value(**counts, epsilon=claim.epsilon, delta=claim.delta),
            violated=bound > claim.epsilon,
            verdict=_verdict(claim.epsilon, bound, attainable),
        )


def _verdict(claimed: float, bound: float, attainable: float) -> str:
    if bound > claimed:
        return VIOLATED
    return CONSISTENT if attainable > claimed else POWERLESS


class _Target(Protocol):
    """What is audited: a mechanism, and the canaries that suit it."""

    parameters: Mapping[str, Any]
    canaries: int
    cohort: int
    sampling_rate: float

    def observe(self, cohort: Cohort, progress: Callable[[], object]) -> NDArray[np.float64]:
        """A score of each canary of a cohort, the higher the more it seems to be in."""

    def claim(self) -> Mapping[str, Any]:
        """What the mechanism says that one canary has spent."""


def _target(backend: str, parameters: Mapping[str, Any], design: Design) -> _Target:
    if (training := build(backend, parameters).training) is not None:
        from dp.audit.sample import Samples

        return Samples(training, canaries=design.canaries, steps=design.rounds, sampling_rate=design.sampling_rate)
    from dp.audit.client import Clients

    if design.sampling_rate != 1:
        raise Refused(f"sampling_rate is {design.sampling_rate:g}, expected 1 where canaries are clients")
    return Clients(backend, parameters, canaries=design.canaries, rounds=design.rounds)
