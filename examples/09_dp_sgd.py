"""Sample-level differential privacy: every client trains by DP-SGD, and a secure sum adds the updates.

Each step takes a secret Poisson sample of the client's rows, clips each row's gradient and adds noise. What leaves a
client says little about any one of its rows, to anybody; `smpc` hides its update besides. Noise at a step is divided
by the batch, so that batches are larger here than in plain training, and the rate is higher.

The smallest of these eight clients has few rows, in a large share of which it must train at every step: it needs most
noise, and it counts as much as the largest.
"""

from report import train

train(
    "privacy.backend=dp-sgd+smpc",
    "privacy.target_epsilon=8.0",
    "privacy.target_delta=1e-4",
    "privacy.clip_l2=0.5",
    "training.batch_size=64",
    "training.lr=0.5",
)
