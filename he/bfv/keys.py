"""BFV keys: a public one that travels, and a secret one that has no way into a message to the server (C1).

The secret key is uniform ternary, drawn here; exported it is two bits a coefficient, so that every key that can be
written at all is ternary. As with CKKS, the two are separate types without a common base.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from he.bfv.parameters import BfvParameters
from he.bfv.seal import open_bfv_seal
from he.local_key import LocalKey
from he.residues import Bytes, Malformed, Residues, ciphertext_residues, pack, records

_PLACES = np.array([0, 2, 4, 6], np.uint8)


class BfvPublicKey:
    """A BFV public key (b, a): two polynomials, `parameters.public_key_bytes` on the wire."""

    def __init__(self, parameters: BfvParameters, residues: Residues) -> None:
        self.parameters = parameters
        self.residues = residues
        self.residues.flags.writeable = False

    def to_bytes(self) -> bytes:
        """The key on the wire: both polynomials, packed."""
        return pack(self.residues, self.parameters.key_ring).tobytes()

    @classmethod
    def from_bytes(cls, body: bytes | memoryview, parameters: BfvParameters) -> BfvPublicKey:
        """Read a key from a peer.

        Raises:
            Malformed: not the exact length, a residue not below its prime, or a zero polynomial that would hide
                nothing.
        """
        rows = records(body, count=1, record_bytes=parameters.public_key_bytes)
        return cls(parameters, ciphertext_residues(rows, parameters.key_ring)[0])


class BfvSecretKey:
    """A BFV secret key. Made by `generate_bfv`, or by a client of the shared-key mode from bytes."""

    __slots__ = ("_parameters", "_ternary")

    def __init__(self, parameters: BfvParameters, ternary: NDArray[np.int8]) -> None:
        self._parameters = parameters
        self._ternary = ternary
        self._ternary.flags.writeable = False

    @property
    def parameters(self) -> BfvParameters:
        """What the key is for."""
        return self._parameters

    def to_seal(self) -> Any:
        """The key as SEAL's object, for the engine's own use."""
        return open_bfv_seal(self._parameters).secret_key(self._ternary)

    def local(self) -> LocalKey:
        """The key itself, `parameters.secret_key_bytes`."""
        fours = (self._ternary + 1).astype(np.uint8).reshape(-1, 4)
        octets: Bytes = np.bitwise_or.reduce(fours << _PLACES, axis=1).astype(np.uint8)
        return LocalKey(octets.tobytes())

    @classmethod
    def load_for_client(cls, body: bytes | memoryview, parameters: BfvParameters) -> BfvSecretKey:
        """Read an exported key.

        Raises:
            Malformed: not the exact length, a coefficient that is not -1, 0 or 1, or so few of +-1 that it is no
                uniform ternary polynomial.
        """
        octets = records(body, count=1, record_bytes=parameters.secret_key_bytes).reshape(-1, 1)
        ternary = ((octets >> _PLACES) & 3).astype(np.int8).reshape(-1) - np.int8(1)
        if ternary.max() > 1:
            raise Malformed("not a secret key: its coefficients are not ternary")
        # Expected are N / 3 of each; half of that is over 19 standard deviations away.
        if min(np.count_nonzero(ternary == value) for value in (-1, 0, 1)) < parameters.degree // 6:
            raise Malformed("not a secret key: its coefficients are not uniform")
        return cls(parameters, ternary)

    def __repr__(self) -> str:
        return f"<BfvSecretKey {self._parameters.name}, not shown>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a BfvSecretKey is neither pickled nor copied")


def generate_bfv(
    parameters: BfvParameters, rng: Callable[[int], bytes] = secrets.token_bytes
) -> tuple[BfvSecretKey, BfvPublicKey]:
    """Draw a key pair: the secret key from `rng`, the public key to it with SEAL's randomness."""
    # Of 256 bytes, 255 stand for one of three values equally often.
    drawn = np.empty(0, np.uint8)
    while drawn.size < parameters.degree:
        fresh = np.frombuffer(rng(2 * parameters.degree), np.uint8)
        drawn = np.concatenate((drawn, fresh[fresh < 255]))
    ternary = (drawn[: parameters.degree] % 3).astype(np.int8) - np.int8(1)
    secret = BfvSecretKey(parameters, ternary)
    public = open_bfv_seal(parameters).draw_public(secret.to_seal())
    return secret, BfvPublicKey(parameters, public)
