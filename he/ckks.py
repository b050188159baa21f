"""`ckks`: clients encrypt their integers, the server adds ciphertexts, and only a key opens the sum.

Two key roles. In `key_mode = "holder"` (default) a party of its own makes the keys; clients encrypt under its
public key, and it decrypts a sum only when enough clients have signed contributions to it under one spec. In
`key_mode = "shared"` the first client makes one secret key and seals it to the others: half the bytes and no
helper, but the server and any *one* client together open everything, so it must be acknowledged.

    set-up  1 PUBLIC_KEY  holder -> clients, server       or 2 SECRET_KEY  first client -> clients, sealed
                                                             3 KEY_ID      first client -> server
    round   4 UPLOAD      client -> server                ciphertexts
            5 SUM         server -> holder (or clients)   signed headers of the contributions, and their sum
            6 RESULT      holder -> server                the integer sum

Guarantee: against a passive server that does not collude with the key holder (shared: with no client), the
updates are semantically secure under ring-LWE at 128 bits. The decrypted sum is rounded to the integer grid and
exact but for a probability of 2^-40 (`he.noise`).
"""

from __future__ import annotations

from typing import Any, ClassVar

from he.ckks_scheme import CkksScheme
from he.encrypted_sum import EncryptedSum, KeyedParameters
from he.noise import require_exact
from he.parameters import COMPACT, preset
from secagg.guarantees import Guarantees
from secagg.settings import Settings
from secagg.spec import RoundSpec

EXPERIMENTAL = "the key holder does not flood the decrypted sum with noise yet: crafted ciphertexts are not withstood"


class CkksParameters(KeyedParameters):
    """Parameters of `ckks`: who holds the secret key, and the preset of ring and modulus."""

    preset: str = COMPACT.name


class Ckks(EncryptedSum):
    """The backend; see the module's text."""

    Parameters: ClassVar[type[Settings]] = CkksParameters
    name = "ckks"
    sum_bits: int | None = None

    def __init__(self, parameters: CkksParameters) -> None:
        self._preset = preset(parameters.preset)
        super().__init__(
            parameters, CkksScheme(self._preset, "symmetric" if parameters.key_mode == "shared" else "public")
        )

    @property
    def guarantees(self) -> Guarantees:
        ring = f"N={self._preset.degree}, one prime of {self._preset.modulus_bits} bits, 128-bit security"
        common: dict[str, Any] = {
            "protection": f"CKKS homomorphic encryption ({ring}), "
            + ("one secret key shared by all clients" if self.shared else "public key of a key holder"),
            "adversary": "passive",
            "alpha": 3,
            "exactness": "rounded to the integer grid: exact except with probability 2^-40",
            "two_specs": "the key refuses contributions whose signed headers name different specs; a server that "
            "lies about what it added is not detected",
            "experimental": EXPERIMENTAL,
        }
        if self.shared:
            return Guarantees(
                **common,
                collusion="none: the server and any one client together read every update",
                sees={
                    "server": ("one ciphertext of every client", "who contributed"),
                    "clients": ("the secret key", "the sum", "who contributed"),
                },
                key_holder="every client",
                dropouts="a silent client is left out; the sum of the others is exact",
                result_at="clients",
                limitations=("one curious client at the server's side ends all secrecy",),
            )
        return Guarantees(
            **common,
            collusion="clients may collude with the server; the key holder may not",
            sees={
                "server": ("one ciphertext of every client", "who contributed", "the sum"),
                "holder": ("the sum", "who contributed"),
                "clients": ("nothing",),
            },
            key_holder="the key holder, a party of its own",
            dropouts="a silent client is left out; a silent key holder ends the round with a named abort",
            limitations=(
                "the server and the key holder together read every update",
                "a server that submits one client's ciphertext as the sum, with everybody's signed headers, reads "
                "that client",
            ),
        )

    def check(self, spec: RoundSpec) -> None:
        super().check(spec)
        require_exact(self._preset, self.scheme.key_mode, clients=len(spec.roster.clients))
