"""Who reads what under a backend, found out by running a round and giving it to each coalition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fl_runtime.evaluation.attempts.training import simulated_rng
from fl_runtime.evaluation.matrix.cells import SeesJob
from fl_runtime.seeds import generator
from secagg import registry
from secagg.leakage.recording import record
from secagg.leakage.views import View, coalitions, views

SIZE = 64
FEW = 2


def sees(job: SeesJob) -> dict[str, Any]:
    """`clients`, and `coalitions`: a list of `party`, `colluders` and the views of the two, in words."""
    vectors = {
        f"client-{number}": generator(job.seed, "sees", number).normal(0, 0.1, SIZE).astype(np.float32)
        for number in range(job.clients)
    }
    parameters = registry.for_rounds(job.backend.kind, job.backend.parameters, job.rounds)
    recording = record(
        job.backend.kind, vectors, parameters=parameters, rng=simulated_rng(job.seed, "sees", job.backend.label)
    )
    rows = [
        {
            "party": party,
            "colluders": list(colluders),
            "sees": _in_words(views(recording, party, colluders), recording.clients),
        }
        for party, colluders in coalitions(recording)
    ]
    return {"clients": job.clients, "coalitions": rows}


def _in_words(found: Sequence[View], clients: Sequence[str]) -> list[str]:
    """Each view, but many single updates as one."""
    whole = [view for view in found if view.single and view.share == 1 and not view.noised]
    if len(whole) <= FEW:
        return [str(view) for view in found]
    everybody = "every single update" if len(whole) == len(clients) else f"the single updates of {len(whole)} clients"
    return [everybody, *(str(view) for view in found if not any(view is one for one in whole))]
