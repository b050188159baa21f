"""Level 1: homomorphic encryption with a key holder.

Clients encrypt under the public key of a party that is neither server nor client. The server adds ciphertexts
that it cannot read; the key holder opens one sum a round, and only if enough clients have signed contributions
to it. Server and key holder together could read everything: they must not be one organisation.

(With `privacy.key_mode=shared` all clients hold the key; then the server and any single client can read
everything, which is why secagg asks for `privacy.acknowledge_shared_key=true`.)
"""

from report import train, upload_correlation

train("privacy.backend=ckks")
print(f"one upload, read by the server, correlates {upload_correlation('ckks'):+.3f} with the client's update")
