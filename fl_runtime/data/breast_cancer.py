"""`breast_cancer`: 569 fine-needle aspirates, 30 measures of nuclei (Street et al. 1993, UCI), in scikit-learn."""

from __future__ import annotations

import numpy as np

from fl_runtime.data.dataset import Dataset, Rows

TEST_FRACTION = 0.2
SPLIT_SEED = 42


def load() -> Dataset:
    """455 training and 114 test rows, stratified; features `(30,)`, standardised on the training rows.

    Class 1 is malignant (scikit-learn's own coding is the other way round).
    """
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    raw = load_breast_cancer()
    labels = (1 - raw.target).astype(np.int64)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_FRACTION, stratify=labels, random_state=SPLIT_SEED
    )
    mean, deviation = raw.data[train].mean(axis=0), raw.data[train].std(axis=0)
    whole = Rows(((raw.data - mean) / deviation).astype(np.float32), labels)
    return Dataset("breast_cancer", ("benign", "malignant"), whole.take(train), whole.take(test))
