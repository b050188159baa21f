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

With `verified = true` the holder adds the ciphertexts itself; the steps of such a round are in `he.verified`.

Guarantee: against a passive server that does not collude with the key holder (shared: with no client), the
updates are semantically secure under ring-LWE at 128 bits; `verified`: that of `he.verified`. What the holder opens
is flooded with noise before anything else is done to it, for at most `query_budget` rounds under one key
(`he.ckks.flooded.flooding`), and then rounded: the sum is exact but for a probability of 2^-40. Under a shared key a
client opens sums for itself, without flooding and rounded (`he.ckks.slots.noise`); those are not for publication.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from he.backend import EncryptedSum, KeyedParameters
from he.ckks.flooded.flooding import MIN_BITS
from he.ckks.flooded.rings import RINGS, ROOMY, RingParameters, ring
from he.ckks.flooded.scheme import RingScheme
from he.ckks.slots.parameters import COMPACT, PRESETS, preset
from he.ckks.slots.scheme import CkksScheme
from he.guarantees import guarantees
from he.security import SECURITY_BITS
from secagg.errors import Refused
from secagg.guarantees import Guarantees
from secagg.settings import Settings
from secagg.spec import RoundSpec


class CkksParameters(KeyedParameters):
    """Parameters of `ckks`: those of `KeyedParameters`, the preset, and how opened sums are flooded.

    Attributes:
        preset: ring and modulus; "" is `n8192-q96` with a holder and `n4096-q56` under a shared key.
        flooding_bits: s of `he.ckks.flooded.flooding`, of use with a holder only.
        query_budget: how many rounds a holder's key opens.
    """

    preset: str = ""
    flooding_bits: Annotated[int, Field(ge=MIN_BITS, le=128)] = MIN_BITS
    query_budget: Annotated[int, Field(ge=1, le=1 << 20)] = 500


class Ckks(EncryptedSum):
    """The backend; see the module's text."""

    Parameters: ClassVar[type[Settings]] = CkksParameters
    name = "ckks"
    sum_bits: int | None = None

    def __init__(self, parameters: CkksParameters) -> None:
        self._bits, self._rounds = parameters.flooding_bits, parameters.query_budget
        self._scheme: CkksScheme | RingScheme
        if parameters.key_mode == "shared":
            self._scheme = CkksScheme(preset(parameters.preset or COMPACT.name))
        else:
            wanted = flooded_preset(parameters.preset or ROOMY.name)
            self._scheme = RingScheme(wanted, self._bits, self._rounds)
        super().__init__(parameters.model_copy(update={"preset": self._scheme.name}), self._scheme)

    @property
    def guarantees(self) -> Guarantees:
        preset = self._scheme.parameters
        ring = f"{preset.name}: N={preset.degree}, {preset.modulus_bits} bits of modulus, {SECURITY_BITS}-bit security"
        exactness = "rounded to the integer grid: the integer sum, exact except with probability 2^-40"
        flooded = f"{exactness}, flooded beforehand with noise of {self._bits} statistical bits"
        unflooded = "clients open sums without flooding: to publish one, or more of it than is rounded, needs flooding"
        crafted = "noise hides the errors of honestly made ciphertexts, not what crafted ones are made to err by"
        budget = f"a key opens {self._rounds} rounds, each once"
        return guarantees(
            self.mode,
            encryption=f"CKKS homomorphic encryption ({ring})",
            exactness=exactness if self.shared else flooded,
            limitations=(unflooded,) if self.shared else (crafted, budget),
        )

    def check(self, spec: RoundSpec) -> None:
        super().check(spec)
        self._scheme.check(spec)


def flooded_preset(name: str) -> RingParameters:
    """A preset for a key holder. Raises `Refused` for one without room for flooding, or an unknown one."""
    if name in PRESETS:
        raise Refused(
            f"backend 'ckks': preset {name!r} has no room for flooding and is for key_mode 'shared' alone; "
            f"with a key holder, use one of {', '.join(RINGS)}"
        )
    return ring(name)
