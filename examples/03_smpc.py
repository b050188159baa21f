"""Level 2: additive secret sharing over three aggregators, of which the server is one.

A client's update is cut into three shares that only together mean anything: one vector goes to the server, and
a sealed 32-byte seed to each of the two other aggregators. Any two of the three together learn the sum and
nothing of a single client. No key exists that could open an update.

With a threshold of two of the three, one aggregator beside the server may die in the middle of a round. The price:
the server and either of the two could then open an update together.
"""

from collections.abc import Iterable

import numpy as np
from report import train, upload_correlation

from secagg import Driver, FixedPoint, Layout, build, task_digest
from secagg.driver import Letter

train("privacy.backend=smpc", "privacy.aggregators=3")
print(f"one upload, read by the server, correlates {upload_correlation('smpc'):+.3f} with the client's update")

# Four hospitals; aggregator 1 holds seeds of all, and is cut off when the first vector arrives at the server.
hospitals = ["hospital-a", "hospital-b", "hospital-c", "hospital-d"]
updates = {name: np.random.default_rng(n).normal(0, 0.1, 1000).astype("f4") for n, name in enumerate(hospitals)}
dead: set[str] = set()


def wire(letter: Letter) -> Iterable[Letter]:
    if letter.to == "server" and len(letter.frame) > 4000:
        dead.add("aggregator-1")
    return () if dead & {letter.sender, letter.to} else (letter,)


layout, encoding = Layout.flat(1000), FixedPoint.fit(clients=4, value_bound=1.0)
driver = Driver(build("smpc", {"aggregators": 3, "threshold": 2}).backend, hospitals, intercept=wire)
spec = driver.spec(1, layout=layout, encoding=encoding, task=task_digest(b"example"))
outcome = driver.round(spec, lambda name: (updates[name], 1))
error = np.abs(outcome.result.mean() - np.mean(list(updates.values()), axis=0)).max()
print(f"died in mid-round: {', '.join(dead)}; the mean of all four hospitals errs by at most {error:.0e}")
