"""Gradient inversion measured: the target of each attack, and ours beside a peer."""
