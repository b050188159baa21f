"""The attack-vs-defence evaluation: a matrix of attacks on real sessions, and the report of what came back.

Importing this package loads no torch.
"""
