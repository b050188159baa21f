"""Opening a sum: decrypt, round to the integer grid, and refuse whatever cannot be an honest sum.

Every slot of an honest sum of C ciphertexts is within `noise.slot_error` of an integer below 2^31, and the
padding is zero. A ciphertext that was made to probe the key, such as (0, Delta), which decrypts to the
secret key itself, fails that. The refusal is one sentence without a value: which slot, or how far, would tell
of the noise. The check is no proof: only a holder that recomputes the sum from signed ciphertexts knows that
it is one, and a decryption must be done once for a round and its result stored (C5, C6).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from he.blocks import DISHONEST, open_blocks
from he.ckks.slots.keys import SecretKey
from he.ckks.slots.noise import require_exact, slot_error
from he.ckks.slots.parameters import preset
from he.ckks.slots.seal import open_seal
from he.residues import Bytes, Malformed, ciphertext_residues, records
from he.security import SUM_BITS
from he.workers import Work


class Decryptor:
    """Opens sums of ciphertexts, as every client of the shared-key mode does for itself."""

    def __init__(self, key: SecretKey) -> None:
        self.parameters = key.parameters
        self._key = key

    def decrypt(self, body: bytes | memoryview, *, length: int, clients: int) -> NDArray[np.int64]:
        """The exact integer sum, int64 of shape `(length,)`, of `clients` encrypted vectors.

        Guarantee: for honest ciphertexts whose true sum is below 2^31 in magnitude, the result is that sum
        except with probability 2^-40, and then this function of the inputs is all that the result depends on.

        Raises:
            Refused: the sum of so many clients would not be exact.
            Malformed: not the exact length, a residue not below q, transparent, or no honest sum of `clients`.
        """
        parameters = self.parameters
        require_exact(parameters, clients=clients)
        rows = records(body, count=parameters.ciphertexts(length), record_bytes=2 * parameters.polynomial_bytes)
        arguments = {"name": parameters.name, "key": self._key.local().for_worker(), "clients": clients}
        values = open_blocks(open_decryptor, arguments, rows, block=parameters.degree).reshape(-1)
        if values.min() == DISHONEST or values[length:].any():
            raise Malformed(f"not a sum of {clients} honest ciphertexts")
        return values[:length]


def open_decryptor(name: str, key: bytes, clients: int) -> Work:
    """Records of a sum to integers, in a worker, under a key that was checked."""
    parameters = preset(name)
    seal, secret = open_seal(parameters), SecretKey.parse(key, parameters).to_seal()
    tolerance = slot_error(parameters, clients=clients)

    def work(rows: Bytes, results: Bytes) -> None:
        for both, out in zip(ciphertext_residues(rows, parameters), results.view(np.int64), strict=True):
            slots = seal.decrypt(seal.ciphertext(both, scale=parameters.scale), secret)
            parts = np.stack((slots.real, slots.imag))
            nearest = np.rint(parts)
            honest = np.abs(parts - nearest).max() <= tolerance and np.abs(nearest).max() < 2.0**SUM_BITS
            out[:] = nearest.reshape(-1) if honest else DISHONEST

    return work
