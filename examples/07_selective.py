"""Between the levels: encrypt only the most sensitive coordinates. A defence, and not secure aggregation.

First all clients measure how sensitive each coordinate of the model is to their data, and the server learns the mean
of their maps as it would learn any sum: through `ckks`. The most sensitive ones become the mask of the run. Then the
same training with a tenth, half, and all coordinates encrypted. Everything else the server reads in the clear, of
every client in every round: what that gives away is not shown here, and nothing proves it small.

A ciphertext holds 8,192 coordinates, so that a model smaller than that saves nothing. Hence the wide one.
"""

import numpy as np
from report import EXPERIMENT, train

from fl_runtime.config import load
from fl_runtime.sensitivity import most_sensitive, private_sensitivity
from he.selective.mask import to_text
from secagg.bench import Workload, run_bench
from secagg.registry import build

MODEL = ("model.name=mlp", "model.hidden=[512, 256]", "experiment.rounds=5")

scores = private_sensitivity(load(EXPERIMENT, [*MODEL, "privacy.backend=ckks"]))
for fraction in (0.1, 0.5, 1.0):
    mask = most_sensitive(scores, fraction)
    share = scores[mask].sum() / scores.sum()
    print(f"encrypted   {np.count_nonzero(mask):,} of {mask.size:,} coordinates, {share:.0%} of all sensitivity")
    print(f"in clear    {1 - mask.mean():.0%} of the coordinates of every client")
    train(*MODEL, "privacy.backend=selective", f"privacy.mask={to_text(mask)}")
    report = run_bench(build("selective", {"mask": to_text(mask)}), Workload(mask.size, clients=3))
    print(f"to protect  {report.client.protect_cpu_s * 1e3:.0f} ms of CPU, one client and round\n")
