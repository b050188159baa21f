"""`bfv`: exact homomorphic sums, several integers in a coefficient, and no decryption failure ever.

Roles, steps and key modes are those of `ckks`. What differs is the arithmetic: sums are computed modulo a
power of two instead of approximately, so that they are exact always, and an honest result says nothing of the
noise or the key, whoever publishes it.

    set-up  1 PUBLIC_KEY  holder -> clients, server       or 2 SECRET_KEY  first client -> clients, sealed
                                                             3 KEY_ID      first client -> server
    round   4 UPLOAD      client -> server                ciphertexts
            5 SUM         server -> holder (or clients)   signed headers of the contributions, and their sum
            6 RESULT      holder -> server                the integer sum

Guarantee: against a passive server that does not collude with the key holder (shared: with no client), the
updates are semantically secure under ring-LWE at 128 bits. The decrypted sum is exact for every cohort that `check`
accepts (`he.bfv.parameters`).
"""

from __future__ import annotations

from typing import Any, ClassVar

from he.backend import EncryptedSum, KeyedParameters
from he.bfv.parameters import COMPACT, bfv_preset, require_no_failure
from he.bfv.scheme import BfvScheme
from secagg.guarantees import Guarantees
from secagg.settings import Settings
from secagg.spec import RoundSpec

ORACLE = "whoever holds the key decrypts the ciphertexts that it is sent: a server that lies about the sum and sends "


class BfvSettings(KeyedParameters):
    """Parameters of `bfv`: who holds the secret key, and the preset of ring, modulus and digits."""

    preset: str = COMPACT.name


class Bfv(EncryptedSum):
    """The backend; see the module's text."""

    Parameters: ClassVar[type[Settings]] = BfvSettings
    name = "bfv"

    def __init__(self, parameters: BfvSettings) -> None:
        self._preset = bfv_preset(parameters.preset)
        self.sum_bits: int | None = self._preset.digit_bits
        super().__init__(
            parameters, BfvScheme(self._preset, "symmetric" if parameters.key_mode == "shared" else "public")
        )

    @property
    def guarantees(self) -> Guarantees:
        preset = self._preset
        bits, most = preset.modulus.bit_length(), preset.max_clients(self.scheme.key_mode)
        ring = (
            f"N={preset.degree}, q of {bits} bits, {preset.digits} integers of {preset.digit_bits} bits a coefficient, "
            "128-bit security"
        )
        common: dict[str, Any] = {
            "protection": f"BFV homomorphic encryption ({ring}), "
            + ("one secret key shared by all clients" if self.shared else "public key of a key holder"),
            "adversary": "passive",
            "alpha": 3,
            "exactness": f"exact, without decryption failures, for up to {most} clients",
            "two_specs": "the key refuses contributions whose signed headers name different specs; a server that "
            "lies about what it added is not detected",
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
                limitations=(
                    "one curious client at the server's side ends all secrecy",
                    ORACLE + "one client's ciphertext shows that client's update to all the others",
                ),
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
                ORACLE + "one client's ciphertext learns that client's update, with a crafted one the key itself",
            ),
        )

    def check(self, spec: RoundSpec) -> None:
        super().check(spec)
        clients = len(spec.roster.clients)
        require_no_failure(self._preset, self.scheme.key_mode, clients=clients, sum_bits=spec.encoding.sum_bits)
