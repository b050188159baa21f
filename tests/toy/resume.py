"""A party in a process of its own: restore its session from a dump, give it one message, print what comes out.

Reads one record from stdin: spec, signing and agreement key, directory, party, backend, state, setup, and
either `frame` (with `sender`) or a `vector`. Writes a record: state, sends, cpu.
"""

from __future__ import annotations

import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secagg import cores, record
from secagg.identity import Directory, Identity, PublicIdentity
from secagg.protocol import Party
from secagg.registry import build
from secagg.spec import RoundSpec
from tests.toy.relay import Relay, RelayParameters


def main() -> None:
    fields = record.decode(sys.stdin.buffer.read())
    signing = Ed25519PrivateKey.from_private_bytes(fields["signing"])
    agreement = X25519PrivateKey.from_private_bytes(fields["agreement"])
    public = PublicIdentity(signing.public_key().public_bytes_raw(), agreement.public_key().public_bytes_raw())
    party = Party(fields["party"], Identity(signing, agreement, public), Directory.from_bytes(fields["directory"]))
    spec = RoundSpec.from_bytes(fields["spec"])
    backend = Relay(RelayParameters()) if spec.backend == "relay" else build(spec.backend, spec.parameters).backend
    session = backend.session(spec, party, setup=fields["setup"], state=fields["state"])
    started = cores.cpu_s()
    if fields["frame"]:
        sends = list(session.receive(fields["sender"], fields["frame"]))
    else:
        sends = list(session.contribute(fields["vector"], fields["weight"]))
    elapsed = cores.cpu_s() - started
    answer = {"state": session.dump(), "sends": [[send.to, send.frame] for send in sends], "cpu": elapsed}
    sys.stdout.buffer.write(record.encode(answer))


if __name__ == "__main__":
    main()
