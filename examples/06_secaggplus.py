"""Level 3, without helpers: masks that cancel between clients, while clients vanish in the middle of a round.

Each client hides its update under a mask for every neighbour, which that neighbour takes off, and under a mask of
its own. The server sees masked vectors, and in the end their sum. It need not follow the protocol: clients sign whom
they were told has survived, and release what unmasks the sum only after enough neighbours have signed the same.
"""

import numpy as np
from report import train, upload_correlation

from secagg import Driver, FixedPoint, Layout, build, task_digest

train("privacy.backend=secaggplus")
print(f"one upload, read by the server, correlates {upload_correlation('secaggplus'):+.3f} with the client's update")

# Ten hospitals; the last three exchange keys, and are gone before they send their vector.
hospitals = [f"hospital-{letter}" for letter in "abcdefghij"]
updates = {name: np.random.default_rng(n).normal(0, 0.1, 1000).astype("f4") for n, name in enumerate(hospitals)}
layout, encoding = Layout.flat(1000), FixedPoint.fit(clients=10, value_bound=1.0)
driver = Driver(build("secaggplus").backend, hospitals)
spec = driver.spec(1, layout=layout, encoding=encoding, task=task_digest(b"example"))
outcome = driver.round(spec, lambda name: None if name in hospitals[7:] else (updates[name], 1))
true = np.mean([updates[name] for name in hospitals[:7]], axis=0)
error = np.abs(outcome.result.mean() - true).max()
lost = ", ".join(sorted(outcome.dropped))
print(f"vanished in mid-round: {lost}; the mean of the other seven errs by at most {error:.0e}")
