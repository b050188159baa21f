"""BFV as a `Scheme`: the preset and the key mode, tied to its keys, encryptors, sums and decryptors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from he.bfv.decryption import BfvDecryptor
from he.bfv.encryption import BfvEncryptor
from he.bfv.keys import BfvPublicKey, BfvSecretKey, generate_bfv
from he.bfv.parameters import BfvParameters
from he.security import KeyMode
from he.sums import CiphertextSum, PublicSum, SeededSum
from secagg.protocol import Rng
from secagg.spec import RoundSpec


@dataclass(frozen=True)
class BfvScheme:
    """See `he.scheme.Scheme`."""

    parameters: BfvParameters
    key_mode: KeyMode
    label: ClassVar[str] = "bfv"

    @property
    def name(self) -> str:
        return self.parameters.name

    @property
    def public_key_bytes(self) -> int:
        return self.parameters.public_key_bytes

    @property
    def secret_key_bytes(self) -> int:
        return self.parameters.secret_key_bytes

    def generate(self) -> tuple[BfvSecretKey, BfvPublicKey]:
        return generate_bfv(self.parameters)

    def check_public(self, body: bytes | memoryview) -> None:
        BfvPublicKey.from_bytes(body, self.parameters)

    def check_secret(self, body: bytes | memoryview) -> None:
        BfvSecretKey.load_for_client(body, self.parameters)

    def encryptor(self, key: bytes, *, clients: int) -> BfvEncryptor:
        if self.key_mode == "public":
            return BfvEncryptor(BfvPublicKey.from_bytes(key, self.parameters), clients=clients)
        return BfvEncryptor(BfvSecretKey.load_for_client(key, self.parameters), clients=clients)

    def decryptor(self, key: bytes, spec: RoundSpec, *, rng: Rng) -> BfvDecryptor:
        return BfvDecryptor(BfvSecretKey.load_for_client(key, self.parameters), self.key_mode)

    def empty_sum(self, length: int) -> CiphertextSum:
        if self.key_mode == "public":
            return PublicSum(self.parameters, length)
        return SeededSum(self.parameters, length)

    def fresh_bytes(self, length: int) -> int:
        return self.parameters.fresh_bytes(length, self.key_mode)

    def sum_bytes(self, length: int) -> int:
        return self.parameters.sum_bytes(length)

    def sum_memory(self, length: int) -> int:
        return self.parameters.ciphertexts(length) * 2 * len(self.parameters.primes) * self.parameters.degree * 8
