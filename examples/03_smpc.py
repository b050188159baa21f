"""Level 2: additive secret sharing over three aggregators, of which the server is one.

A client's update is cut into three shares that only together mean anything: one vector goes to the server, and
a sealed 32-byte seed to each of the two other aggregators. Any two of the three together learn the sum and
nothing of a single client. No key exists that could open an update.
"""

from report import train, upload_correlation

train("privacy.backend=smpc", "privacy.aggregators=3")
print(f"one upload, read by the server, correlates {upload_correlation('smpc'):+.3f} with the client's update")
