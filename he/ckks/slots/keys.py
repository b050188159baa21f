"""The key of the shared-key mode: it has no way into a message to the server (C1).

A secret key does not print, pickle or copy; its one way out is no bytes (`he.local_key`): clients hold it, and the
server must not.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from he import workers
from he.ckks.slots.embedding import to_coefficients
from he.ckks.slots.parameters import Parameters, preset
from he.ckks.slots.seal import Slots, open_seal
from he.local_key import LocalKey
from he.residues import Bytes, Malformed, Residues, pack, records, unpack


class SecretKey:
    """A CKKS secret key, uniform ternary. Made by `generate`, or by a client of the shared-key mode from bytes."""

    __slots__ = ("_parameters", "_residues")

    def __init__(self, parameters: Parameters, residues: Residues) -> None:
        self._parameters = parameters
        self._residues = residues
        self._residues.flags.writeable = False

    @property
    def parameters(self) -> Parameters:
        """What the key is for."""
        return self._parameters

    def to_seal(self) -> Any:
        """The key as SEAL's object, for the engine's own use."""
        return open_seal(self._parameters).secret_key(self._residues)

    def local(self) -> LocalKey:
        """The key itself, `parameters.secret_key_bytes`."""
        return LocalKey(pack(self._residues, self._parameters).tobytes())

    @classmethod
    def load_for_client(cls, body: bytes | memoryview, parameters: Parameters) -> SecretKey:
        """Read an exported key. SEAL looks at it in a worker.

        Raises:
            Malformed: not the exact length, a residue not below q, no ternary polynomial, or a worker was lost over it.
        """
        key = cls.parse(body, parameters)
        octets = np.frombuffer(body, np.uint8)

        def fill(start: int, stop: int, items: Bytes) -> None:
            items[:] = octets

        try:
            workers.run(
                open_check, {"name": parameters.name}, fill, item_bytes=octets.size, results=np.empty((1, 0), np.uint8)
            )
        except workers.Lost as error:
            raise Malformed(f"not a secret key: {error}") from None
        return key

    @classmethod
    def parse(cls, body: bytes | memoryview, parameters: Parameters) -> SecretKey:
        """Read a key that `load_for_client` has checked. Raises `Malformed` for another length or residue."""
        rows = records(body, count=1, record_bytes=parameters.secret_key_bytes)
        return cls(parameters, unpack(rows, parameters)[0])

    def require_ternary(self) -> None:
        """Raise `Malformed` unless the key is a ternary polynomial, and not zero."""
        coefficients = to_coefficients(_plaintext_slots(self._residues, self._parameters))
        nearest = np.rint(coefficients)
        if np.abs(nearest).max() > 1 or np.abs(coefficients - nearest).max() > 1e-6 or not nearest.any():
            raise Malformed("not a secret key: its coefficients are not ternary")

    def __repr__(self) -> str:
        return f"<SecretKey {self._parameters.name}, not shown>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a SecretKey is neither pickled nor copied")


def generate(parameters: Parameters) -> SecretKey:
    """Draw a key with SEAL's randomness."""
    seal = open_seal(parameters)
    return SecretKey(parameters, seal.secret_residues(seal.draw_secret()))


def open_check(name: str) -> workers.Work:
    """Exported keys, checked in a worker."""
    parameters = preset(name)

    def work(keys: Bytes, results: Bytes) -> None:
        for key in keys:
            SecretKey.parse(key.tobytes(), parameters).require_ternary()

    return work


def _plaintext_slots(residues: Residues, parameters: Parameters) -> Slots:
    """The embedding of a polynomial in transform form with small signed coefficients."""
    seal = open_seal(parameters)
    return seal.slots_of(seal.plaintext(residues, scale=1.0))
