"""Discrete noise: by table, where a shared cache is no concern, and what a client adds of the noise inside a sum.

The default sampler is `secagg.gaussian`, which reads no table of its own and works at every sigma. `tables` is quicker
and leaves a trace in the cache.
"""
