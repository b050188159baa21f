"""Attacks by a server that chooses the model: imprints, trap weights, kernels for each client, inconsistent models.

All of them act through what the clients compute honestly; what the server then has is the sum of their gradients.
"""
