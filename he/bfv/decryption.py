"""Opening a BFV sum: the highest digits first, level by level, each decrypted by SEAL exactly.

SEAL's plain modulus ends below 2^60, and a coefficient here holds more. One decryption under the plain modulus
t = 2^level_bits gives the highest digits H: the digits below and the noise shift it by less than one half.
Then q H / t is taken off the ciphertext, the rest multiplied by t, and the next digits are the highest. The
noise is multiplied too, which is what the inequality of `he.bfv.parameters` has T and not t for.

Guarantee: a sum of up to `max_clients` honest ciphertexts is opened exactly, always, and what is returned is a
function of the integers alone. A ciphertext that was made to probe the key, such as (0, q / T), decrypts as well
as any: it can be told from a sum only by a holder that adds up the signed ciphertexts itself. A round is therefore
opened once (`he.rounds.open_once`; C5, C6).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from he.bfv.digits import Digits, open_encoder
from he.bfv.keys import BfvSecretKey
from he.bfv.parameters import BfvParameters, bfv_preset, require_no_failure
from he.bfv.seal import open_bfv_seal
from he.blocks import open_blocks
from he.residues import Bytes, Malformed, Residues, add_into, ciphertext_residues, records
from he.security import KeyMode
from he.workers import Work


class BfvDecryptor:
    """Opens sums of ciphertexts that were encrypted in one key mode."""

    def __init__(self, key: BfvSecretKey, key_mode: KeyMode) -> None:
        self.parameters: BfvParameters = key.parameters
        self.key_mode = key_mode
        self._key = key

    def decrypt(self, body: bytes | memoryview, *, length: int, clients: int) -> NDArray[np.int64]:
        """See `he.scheme.Decryptor.decrypt`."""
        parameters = self.parameters
        require_no_failure(parameters, self.key_mode, clients=clients, sum_bits=parameters.digit_bits)
        rows = records(body, count=parameters.ciphertexts(length), record_bytes=2 * parameters.polynomial_bytes)
        arguments = {"name": parameters.name, "key": self._key.local().for_worker()}
        values = open_blocks(open_decryptor, arguments, rows, block=parameters.record_integers).reshape(-1)
        if values[length:].any():
            raise Malformed(f"not a sum of {clients} honest ciphertexts")
        return values[:length]


def open_decryptor(name: str, key: bytes) -> Work:
    """Records of a sum to integers, in a worker."""
    parameters = bfv_preset(name)
    decryptor = open_bfv_seal(parameters).decryptor(BfvSecretKey.load_for_client(key, parameters).to_seal())

    def work(rows: Bytes, results: Bytes) -> None:
        for both, out in zip(ciphertext_residues(rows, parameters), results.view(np.int64), strict=True):
            open_levels(decryptor, both, parameters, out.reshape(parameters.digits, -1))

    return work


def open_levels(decryptor: Any, ciphertext: Residues, parameters: BfvParameters, out: Digits) -> None:
    """The digits, shape `(digits, N)`, of a ciphertext of shape `(2, primes * N)`, which is used up."""
    seal, encoder = open_bfv_seal(parameters), open_encoder(parameters)
    step = parameters.level_digits
    for end in range(parameters.digits, 0, -step):
        high = encoder.split(seal.decrypt(decryptor, ciphertext))
        out[end - step : end] = high
        if end > step:
            add_into(ciphertext[0], encoder.residues(-high), parameters)
            ciphertext = encoder.lift(ciphertext)
