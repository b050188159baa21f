"""Homomorphic aggregation: one protocol (`backend`, `key_setup`, `rounds`) over three schemes in two cryptosystems."""
