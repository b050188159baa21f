"""Audits: empirical lower bounds of epsilon, to hold against the claims. See `dp.audit.run`."""
