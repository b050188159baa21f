"""CKKS under a shared key as a `Scheme`: the preset, tied to its key, encryptors, sums and decryptors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from he.ckks.slots.decryption import Decryptor
from he.ckks.slots.encryption import SeededEncryptor
from he.ckks.slots.keys import SecretKey, generate
from he.ckks.slots.noise import require_exact
from he.ckks.slots.parameters import Parameters
from he.security import KeyMode
from he.sums import SeededSum
from secagg.protocol import Rng
from secagg.spec import RoundSpec


@dataclass(frozen=True)
class CkksScheme:
    """See `he.scheme.Scheme`."""

    parameters: Parameters
    label: ClassVar[str] = "ckks"
    key_mode: ClassVar[KeyMode] = "symmetric"

    @property
    def name(self) -> str:
        return self.parameters.name

    @property
    def secret_key_bytes(self) -> int:
        return self.parameters.secret_key_bytes

    def check(self, spec: RoundSpec) -> None:
        """Raise `Refused`, with the preset that would do, unless the rounded sum of the roster is exact."""
        require_exact(self.parameters, clients=len(spec.roster.clients))

    def generate(self) -> tuple[SecretKey, None]:
        return generate(self.parameters), None

    def check_secret(self, body: bytes | memoryview) -> None:
        SecretKey.load_for_client(body, self.parameters)

    def encryptor(self, key: bytes, *, clients: int) -> SeededEncryptor:
        # A slot has room for the sum of any encoding of the 32-bit ring, however many clients share it.
        return SeededEncryptor(SecretKey.load_for_client(key, self.parameters))

    def decryptor(self, key: bytes, spec: RoundSpec, *, rng: Rng) -> Decryptor:
        return Decryptor(SecretKey.load_for_client(key, self.parameters))

    def empty_sum(self, length: int) -> SeededSum:
        return SeededSum(self.parameters, length)

    def fresh_bytes(self, length: int) -> int:
        return self.parameters.fresh_bytes(length, self.key_mode)

    def sum_bytes(self, length: int) -> int:
        return self.parameters.sum_bytes(length)

    def sum_memory(self, length: int) -> int:
        return self.parameters.ciphertexts(length) * 2 * self.parameters.degree * 8
