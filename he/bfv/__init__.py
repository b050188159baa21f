"""BFV: exact sums of several integers in one coefficient."""
