"""Level 0: no protection. The control that every other level is compared with.

The server receives every client's update as it is: what it holds of hospital A correlates perfectly with
hospital A's true update, so whatever can be read out of an update, the server can read.
"""

from report import train, upload_correlation

train("privacy.backend=plain")
print(f"one upload, read by the server, correlates {upload_correlation('plain'):+.3f} with the client's update")
