"""Mask streams: a 32-byte seed stands for a vector of uniform ring elements, to be added to another or taken from it.

`stream` makes the bytes; `cpu` and `gpu` put them on a vector, `apply` is the one way to both, and `use` chooses
between them for whoever applies masks in this process.

Guarantee: to whoever lacks the seed, the masked vector is indistinguishable from uniform over the ring
2^32 or 2^64 (the cipher's pseudo-randomness); a seed serves one vector, once.
"""

from smpc.masks.apply import apply_masks
from smpc.masks.local import use
from smpc.masks.stream import MAX_VECTOR_BYTES, SEED_BYTES, SUITES, Masks, MaskStream, Sign, Suite

__all__ = ["MAX_VECTOR_BYTES", "SEED_BYTES", "SUITES", "MaskStream", "Masks", "Sign", "Suite", "apply_masks", "use"]
