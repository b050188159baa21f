"""Membership inference: was this example in the training data? Scores in `attacks`, their reading in `roc`."""
