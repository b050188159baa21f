"""Differential privacy: clipping, noise from a cryptographic stream, and what it buys."""
