"""`digits`: 1,797 handwritten digits, 8x8 grey levels (Alpaydin & Kaynak 1998, UCI), shipped with scikit-learn."""

from __future__ import annotations

import numpy as np

from fl_runtime.data.dataset import Dataset, Rows

TEST_FRACTION = 0.2
SPLIT_SEED = 42


def load() -> Dataset:
    """1,437 training and 360 test rows, stratified, features `(1, 8, 8)` in [0, 1]. The split never changes."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw = load_digits()
    features = (raw.images[:, None] / 16).astype(np.float32)
    labels = raw.target.astype(np.int64)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_FRACTION, stratify=labels, random_state=SPLIT_SEED
    )
    whole = Rows(features, labels)
    return Dataset("digits", tuple("0123456789"), whole.take(train), whole.take(test))
