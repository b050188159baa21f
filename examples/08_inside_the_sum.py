"""Levels 2 and 3 at once: differential privacy that trusts no server, with noise inside the sum.

Every client clips its update, rotates it, rounds it to whole numbers, and adds a share of discrete Gaussian noise
before the masks of `secaggplus` hide it. Nobody sees the sum without noise: what the server adds up carries it. The
shares are calibrated to the fewest clients whose sum may be opened, less one that may tell its share to the server.

Beside it, what other answers to "who adds the noise" cost at the same epsilon. A server that adds it needs less, and is
trusted with the sum. Local noise trusts nobody, and the sum of all of it leaves little to learn from.
"""

from report import train

COMMON = ("privacy.target_epsilon=50", "privacy.clip_l2=1.0", "privacy.minimum_cohort=7")
PLACES = {
    "inside the sum": ("privacy.backend=dp+secaggplus",),
    "at the server, which sees the sum": ("privacy.backend=dp+secaggplus", "privacy.noise=server"),
    "local, at every client in full": ("privacy.backend=dp", "privacy.noise=local"),
}

for place, settings in PLACES.items():
    print(f"noise {place}, target epsilon 50")
    train(*settings, *COMMON)
    print()
