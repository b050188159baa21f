"""`bfv`: exact homomorphic sums, several integers in a coefficient, and no decryption failure ever.

Roles, steps and key modes are those of `ckks`. What differs is the arithmetic: sums are computed modulo a
power of two instead of approximately, so that they are exact always, and an honest result says nothing of the
noise or the key, whoever publishes it.

    set-up  1 PUBLIC_KEY  holder -> clients, server       or 2 SECRET_KEY  first client -> clients, sealed
                                                             3 KEY_ID      first client -> server
    round   4 UPLOAD      client -> server                ciphertexts
            5 SUM         server -> holder (or clients)   signed headers of the contributions, and their sum
            6 RESULT      holder -> server                the integer sum

With `verified = true` the holder adds the ciphertexts itself; the steps of such a round are in `he.verified`.

Guarantee: against a passive server that does not collude with the key holder (shared: with no client), the
updates are semantically secure under ring-LWE at 128 bits; `verified`: that of `he.verified`. The decrypted sum is
exact for every cohort that `check` accepts (`he.bfv.parameters`).
"""

from __future__ import annotations

from typing import ClassVar

from he.backend import EncryptedSum, KeyedParameters
from he.bfv.parameters import COMPACT, bfv_preset, require_no_failure
from he.bfv.scheme import BfvScheme
from he.guarantees import guarantees
from he.security import SECURITY_BITS
from secagg.guarantees import Guarantees
from secagg.settings import Settings
from secagg.spec import RoundSpec


class BfvSettings(KeyedParameters):
    """Parameters of `bfv`: those of `KeyedParameters`, and the preset of ring, modulus and digits."""

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
        packing = f"{preset.digits} integers of {preset.digit_bits} bits a coefficient"
        ring = f"{preset.name}: N={preset.degree}, q of {bits} bits, {packing}, {SECURITY_BITS}-bit security"
        return guarantees(
            self.mode,
            encryption=f"BFV homomorphic encryption ({ring})",
            exactness=f"exact, without decryption failures, for up to {most} clients",
        )

    def check(self, spec: RoundSpec) -> None:
        super().check(spec)
        clients = len(spec.roster.clients)
        require_no_failure(self._preset, self.scheme.key_mode, clients=clients, sum_bits=spec.encoding.sum_bits)
