"""Level 1, exactly: homomorphic encryption on integers, with a key holder.

The roles are those of `02_ckks.py`. BFV computes modulo a number instead of approximately: the sum is exact always,
the same bit for bit as `plain` gives under the same encoding, and publishing it says nothing of the key. Several
integers share a coefficient, so that it costs about half the bytes of `ckks`. In return a sum has 24 bits: the
encoding is as fine as that allows (`privacy.preset=n8192-3x32` has the whole 32, for a third more bytes).
"""

from report import train, upload_correlation

train("privacy.backend=bfv")
print(f"one upload, read by the server, correlates {upload_correlation('bfv'):+.3f} with the client's update")
