"""CKKS with a key holder as a `Scheme`: rings with room for noise, a flooded decryption, and a budget of rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from he.ckks.flooded import wire
from he.ckks.flooded.cipher import (
    CoefficientSum,
    RingDecryptor,
    RingEncryptor,
    RingPublicKey,
    RingSecretKey,
    generate_pair,
)
from he.ckks.flooded.flooding import Flooding, check_round, flooding
from he.ckks.flooded.rings import RingParameters
from he.security import KeyMode
from secagg.protocol import Rng
from secagg.spec import RoundSpec


@dataclass(frozen=True)
class RingScheme:
    """See `he.scheme.Scheme`.

    Attributes:
        parameters: the preset.
        bits: the statistical bits of the noise on opened sums.
        rounds: how many a key opens, 1 to `rounds`: the query budget.
    """

    parameters: RingParameters
    bits: int
    rounds: int
    label: ClassVar[str] = "ckks"
    key_mode: ClassVar[KeyMode] = "public"

    @property
    def name(self) -> str:
        return self.parameters.name

    @property
    def public_key_bytes(self) -> int:
        return self.parameters.public_key_bytes

    @property
    def secret_key_bytes(self) -> int:
        return self.parameters.secret_key_bytes

    def check(self, spec: RoundSpec) -> None:
        """Raise `Refused` where the noise has no room, or for a round over the query budget."""
        self.noise(spec)
        if spec.phase == "round":
            check_round(spec.round, self.rounds)

    def noise(self, spec: RoundSpec) -> Flooding:
        """What the holder adds in this round. For every client of the roster, though fewer may have contributed."""
        return flooding(
            self.parameters,
            clients=len(spec.roster.clients),
            length=spec.encoding.length(spec.layout.size),
            rounds=self.rounds,
            bits=self.bits,
        )

    def generate(self) -> tuple[RingSecretKey, RingPublicKey]:
        return generate_pair(self.parameters)

    def check_public(self, body: bytes | memoryview) -> None:
        RingPublicKey.from_bytes(body, self.parameters)

    def check_secret(self, body: bytes | memoryview) -> None:
        RingSecretKey.load_for_client(body, self.parameters)

    def encryptor(self, key: bytes, *, clients: int) -> RingEncryptor:
        return RingEncryptor(RingPublicKey.from_bytes(key, self.parameters))

    def decryptor(self, key: bytes, spec: RoundSpec, *, rng: Rng) -> RingDecryptor:
        """See `Scheme.decryptor`. Raises `Refused` for a round over the query budget (C6)."""
        check_round(spec.round, self.rounds)
        secret = RingSecretKey.load_for_client(key, self.parameters)
        return RingDecryptor(secret, self.noise(spec), rng=rng)

    def empty_sum(self, length: int) -> CoefficientSum:
        return CoefficientSum(self.parameters, length)

    def fresh_bytes(self, length: int) -> int:
        return self._bytes(length, wire.fresh_fields(self.parameters))

    def sum_bytes(self, length: int) -> int:
        return self._bytes(length, wire.sum_fields(self.parameters))

    def sum_memory(self, length: int) -> int:
        return self.parameters.ciphertexts(length) * 2 * len(self.parameters.primes) * self.parameters.degree * 8

    def _bytes(self, length: int, fields: tuple[int, ...]) -> int:
        return self.parameters.ciphertexts(length) * wire.record_bytes(fields, self.parameters.degree)
