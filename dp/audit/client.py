"""The audit of `dp`: canaries are clients, and the auditor sees every released mean.

Whole rounds are run by `secagg.driver`, with all sessions of the backend. A canary that is out sends zeros; where the
claim is for any two updates of a client, the opposite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dp.audit.canaries import Cohort, scores, sign
from secagg.driver import Driver
from secagg.errors import Aborted, Refused
from secagg.layered import fit_encoding
from secagg.registry import build, for_rounds
from secagg.spec import MIN_COHORT, task_digest
from secagg.vectors import Layout

CANARIES, COHORT = 1024, 128


class Clients:
    """Canaries that are clients. Each cohort is a federation of its own, in which nobody else takes part.

    Args:
        name, parameters: of the backend; it has a layer of differential privacy around a sum.
        canaries: how many there are to be.
        rounds: in all of which every client takes part.

    Raises:
        Refused: the backend claims no differential privacy, clips adaptively, or counts on secret cohorts.
    """

    sampling_rate = 1.0

    def __init__(self, name: str, parameters: Mapping[str, Any], *, canaries: int | None, rounds: int) -> None:
        filled = for_rounds(name, parameters, rounds)
        self._composition = build(name, filled)
        if self._composition.spent(rounds) is None:
            raise Refused(f"backend {name!r} claims no differential privacy: there is nothing to audit")
        self.canaries, self._rounds = canaries or CANARIES, rounds
        settled = self._composition.backend.parameters
        if (clipping := settled.get("clipping")) != "flat":
            raise Refused(f"clipping is {clipping!r}, expected 'flat': the audit knows no other")
        if settled["sampling_rate"] != 1:
            raise Refused(f"sampling_rate is {settled['sampling_rate']:g}, expected 1: no engine draws secret cohorts")
        self.cohort = min(COHORT, self.canaries)
        if settled["survivors"] is not None:
            # A sum of more than the survivors has more noise than is claimed, and would show less.
            self.cohort = parameters.get("survivors") or self.cohort
            self._composition = build(name, {**filled, "survivors": self.cohort})
        elif settled["noise"] == "local":
            self.cohort = MIN_COHORT
        self.parameters = self._composition.backend.parameters

    def observe(self, cohort: Cohort, progress: Callable[[], object]) -> NDArray[np.float64]:
        """Run all rounds among the cohort, and score each canary: float64 `(n,)`.

        Raises:
            Refused: the backend refuses the cohort or its parameters.
            Aborted: a round failed, or lost a canary.
        """
        backend, count, clip_l2 = self._composition.backend, cohort.present.size, float(self.parameters["clip_l2"])
        names = [f"canary-{place}" for place in range(count)]
        updates = cohort.contributions(clip_l2, absent=-1.0 if self.claim()["adjacency"] == "replace" else 0.0)
        layout = Layout.flat(updates.shape[1])
        encoding = fit_encoding(backend, clients=count, value_bound=clip_l2, size=layout.size, divisor=count)
        driver = Driver(backend, names, minimum_cohort=max(MIN_COHORT, self.parameters["survivors"] or 0))
        driver.set_up(layout=layout, encoding=encoding)
        seen = np.empty((self._rounds, count))
        for step in range(self._rounds):
            sent = dict(zip(names, sign(step) * updates, strict=True))
            spec = driver.spec(
                step + 1, layout=layout, encoding=encoding, task=task_digest(b"audit", bytes([step % 2]))
            )
            outcome = driver.round(spec, lambda name, sent=sent: (sent[name], 1))  # type: ignore[misc]
            if outcome.dropped:
                raise Aborted(f"round {step + 1} lost canaries: {dict(outcome.dropped)}")
            seen[step] = sign(step) * count * cohort.projections(outcome.result.mean(), clip_l2)
            progress()
        return scores(seen, noise_multiplier=float(self.parameters["noise_multiplier"]), sampling_rate=1.0)

    def claim(self) -> Mapping[str, Any]:
        """What the layer says that a client of all rounds has spent."""
        return self._composition.spent(self._rounds) or {}
