"""SecAgg+ (Bell et al. 2020): pairwise masks over a graph of neighbours, and recovery of those who vanish."""
