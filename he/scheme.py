"""What set-up and rounds need of a cryptosystem: one `Scheme` for each parameter set and key mode.

`key_setup`, `rounds` and `verified` are written against this; the `scheme` modules of `ckks.slots`, `ckks.flooded`,
`bfv` and `selective` provide it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from he.security import KeyMode
from secagg.errors import InvalidUpdate

if TYPE_CHECKING:  # a worker, which checks no spec, is spared a third of its memory
    from he.local_key import LocalKey
    from he.sums import CiphertextSum
    from secagg.protocol import Rng
    from secagg.spec import RoundSpec

Integers = NDArray[np.signedinteger[Any]]


def check_values(values: Integers, *, largest: int) -> None:
    """Raise `InvalidUpdate` unless `values` is a vector of signed integers within `largest` of zero."""
    if values.ndim != 1 or values.size == 0 or not np.issubdtype(values.dtype, np.signedinteger):
        raise InvalidUpdate(f"expected a vector of signed integers, got {values.dtype} of shape {values.shape}")
    if max(int(values.max()), -int(values.min())) > largest:
        raise InvalidUpdate(f"a value is over {largest} in magnitude: a sum of so many clients could run over")


class PublicKey(Protocol):
    """A key that may travel."""

    def to_bytes(self) -> bytes: ...


class SecretKey(Protocol):
    """A key with one way out, which is no bytes. Deliberately no `to_bytes`: it fits no place of a public one."""

    def local(self) -> LocalKey: ...


class Encryptor(Protocol):
    """Encrypts vectors under a key."""

    def encrypt(self, values: Integers) -> Iterator[memoryview]:
        """Yield the records of `values`, shape `(n,)`, in order: `scheme.fresh_bytes(n)` in all.

        Raises:
            InvalidUpdate: not a vector of signed integers, or a value too large for its sum to be right.
            Aborted: a worker was lost.
        """
        ...


class Decryptor(Protocol):
    """Opens sums."""

    def decrypt(self, body: bytes | memoryview, *, length: int, clients: int) -> NDArray[np.int64]:
        """The integer sum, int64 of shape `(length,)`, of `clients` encrypted vectors.

        Raises:
            Refused: the sum of so many clients would not be right, or the key has opened what it may.
            Malformed: not the exact length, a residue not below q, transparent, no honest sum of `clients`, or a
                worker was lost over it.
        """
        ...


class Scheme(Protocol):
    """A cryptosystem with its parameters, in one key mode.

    Attributes:
        label: the cryptosystem, in key digests and refusals: "ckks", "bfv".
        name: the preset.
        key_mode: "public", with a key holder, or "symmetric", with a key that all clients share.
        secret_key_bytes: exact length of an exported secret key.
    """

    @property
    def label(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def key_mode(self) -> KeyMode: ...

    @property
    def secret_key_bytes(self) -> int: ...

    def generate(self) -> tuple[SecretKey, PublicKey | None]:
        """Draw a fresh secret key, and the public key to it where the scheme has any."""
        ...

    def check_secret(self, body: bytes | memoryview) -> None:
        """Raise `Malformed` unless `body` is an exported secret key of these parameters."""
        ...

    def encryptor(self, key: bytes, *, clients: int) -> Encryptor:
        """Encryption under the public key, or in symmetric mode the secret one, for sums of up to `clients`."""
        ...

    def decryptor(self, key: bytes, spec: RoundSpec, *, rng: Rng) -> Decryptor:
        """Decryption under an exported secret key, of the sum of one round; `rng` is for noise.

        Raises:
            Refused: the key opens nothing in this round.
        """
        ...

    def empty_sum(self, length: int) -> CiphertextSum:
        """A running sum of encryptions of `length` integers; needs no key."""
        ...

    def fresh_bytes(self, length: int) -> int:
        """Exact bytes of the encryption of `length` integers."""
        ...

    def sum_bytes(self, length: int) -> int:
        """Exact bytes of a sum of such encryptions."""
        ...

    def sum_memory(self, length: int) -> int:
        """Bytes that a running sum takes in memory."""
        ...


class PublicScheme(Scheme, Protocol):
    """A scheme with public keys: what a key holder needs.

    Attributes:
        public_key_bytes: exact length of a public key as bytes.
    """

    @property
    def public_key_bytes(self) -> int: ...

    def generate(self) -> tuple[SecretKey, PublicKey]:
        """Draw a fresh pair."""
        ...

    def check_public(self, body: bytes | memoryview) -> None:
        """Raise `Malformed` unless `body` is a public key of these parameters."""
        ...
