"""Attacks on gradients and updates, each one small class in a module of its own."""
