"""Sample-level differential privacy: DP-SGD (Abadi et al. 2016, arXiv 1607.00133) where a client trains."""
