"""The family of audits, registered before any of them was run: mechanisms, canaries, guesses, seeds.

Each is held to a confidence of 1 - 0.05 / (their number), so that with probability 0.95 no true claim of the family is
called violated (Bonferroni). The planted bugs are judged at the same confidence. A seed fixes coins and directions; the
noise is the operating system's, other in each run.

`python -m benchmarks.dp.audits` runs them all, the suite those that are `QUICK`. `python -m tests.dp.audit.family NAME`
runs one, in whatever tree it stands, and prints `secagg.audit/1`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dp.audit.run import Auditor, Design

FAMILY_ERROR = 0.05


@dataclass(frozen=True)
class Registered:
    """One audit: `Auditor(backend, parameters, design)`."""

    backend: str
    parameters: Mapping[str, Any]
    design: Design

    def prepared(self) -> Auditor:
        """The audit, at the confidence that the family leaves to each."""
        return Auditor(self.backend, self.parameters, replace(self.design, confidence=1 - FAMILY_ERROR / len(FAMILY)))


def _sgd(
    seed: int, canaries: int = 32768, *, rounds: int = 4, guesses: int | None = None, **parameters: Any
) -> Registered:
    return Registered("dp-sgd", parameters, Design(canaries=canaries, rounds=rounds, guesses=guesses, seed=seed))


def _dp(
    backend: str, seed: int, canaries: int, *, rounds: int = 4, guesses: int | None = None, **parameters: Any
) -> Registered:
    return Registered(backend, parameters, Design(canaries=canaries, rounds=rounds, guesses=guesses, seed=seed))


FAMILY: Mapping[str, Registered] = {
    "sgd-quick": _sgd(2101, 8192, noise_multiplier=4.0),
    "sgd-many-steps": _sgd(2102, 8192, rounds=16, noise_multiplier=4.0),
    "sgd-1": _sgd(2103, target_epsilon=1.0),
    "sgd-3": _sgd(2104, target_epsilon=3.0),
    "sgd-8": _sgd(2105, target_epsilon=8.0),
    "sgd-fine": _sgd(2106, 131072, rounds=2, guesses=2622, noise_multiplier=2.8284, target_delta=1e-6),
    "sgd-sampled": Registered(
        "dp-sgd",
        {"noise_multiplier": 2.0, "target_delta": 1e-6},
        Design(canaries=32768, rounds=64, sampling_rate=0.25, guesses=1638, seed=2107),
    ),
    "sgd-hooks": _sgd(2108, 2048, mode="hooks", target_epsilon=8.0),
    "dp-quick": _dp("dp", 2109, 512, guesses=128, noise_multiplier=4.0),
    "dp-1": _dp("dp", 2110, 4096, target_epsilon=1.0),
    "dp-3": _dp("dp", 2111, 4096, target_epsilon=3.0),
    "dp-8": _dp("dp", 2112, 4096, target_epsilon=8.0),
    "smpc-quick": _dp("dp+smpc", 2113, 256, rounds=2, guesses=64, noise_multiplier=6.0),
    "smpc-3": _dp("dp+smpc", 2114, 2048, target_epsilon=3.0),
    "smpc-8": _dp("dp+smpc", 2115, 2048, target_epsilon=8.0),
    "smpc-skellam": _dp("dp+smpc", 2116, 1024, target_epsilon=8.0, mechanism="skellam", sampler="table"),
    "smpc-local": _dp("dp+smpc", 2117, 300, target_epsilon=8.0, noise="local"),
    "secaggplus-8": _dp("dp+secaggplus", 2118, 256, rounds=2, target_epsilon=8.0),
    "bfv-8": _dp("dp+bfv", 2119, 64, rounds=2, guesses=32, target_epsilon=8.0),
    "ckks-8": _dp("dp+ckks", 2120, 64, rounds=2, guesses=32, target_epsilon=8.0),
}
QUICK = ("sgd-quick", "sgd-many-steps", "dp-quick", "smpc-quick")

if __name__ == "__main__":
    print(FAMILY[sys.argv[1]].prepared().run().model_dump_json(by_alias=True))
