"""Opening a BFV sum: the highest digits first, level by level, each decrypted by SEAL exactly.

SEAL's plain modulus ends below 2^60, and a coefficient here holds more. One decryption under the plain modulus
t = 2^level_bits gives the highest digits H: the digits below and the noise shift it by less than one half.
Then q H / t is taken off the ciphertext, the rest multiplied by t, and the next digits are the highest. The
noise is multiplied too, which is what the inequality of `he.bfv.parameters` has T and not t for.

Guarantee: a sum of up to `max_clients` honest ciphertexts is opened exactly, always, and what is returned is a
function of the integers alone. A ciphertext that was made to probe the key, such as (0, q / T), decrypts as well
as any: it can be told from a sum only by a holder that adds up the signed ciphertexts itself. A round is therefore
decrypted once and its result stored (C5, C6).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from he.bfv.digits import Digits, open_encoder
from he.bfv.keys import BfvSecretKey
from he.bfv.parameters import BfvParameters, require_no_failure
from he.bfv.seal import open_bfv_seal
from he.residues import Malformed, Residues, add_into
from he.security import KeyMode
from he.sums import sum_residues


class BfvDecryptor:
    """Opens sums of ciphertexts that were encrypted in one key mode."""

    def __init__(self, key: BfvSecretKey, key_mode: KeyMode) -> None:
        self.parameters: BfvParameters = key.parameters
        self.key_mode = key_mode
        self._seal = open_bfv_seal(key.parameters)
        self._decryptor = self._seal.decryptor(key.to_seal())

    def decrypt(self, body: bytes | memoryview, *, length: int, clients: int) -> NDArray[np.int64]:
        """See `he.scheme.Decryptor.decrypt`."""
        parameters = self.parameters
        require_no_failure(parameters, self.key_mode, clients=clients, sum_bits=parameters.digit_bits)
        residues = sum_residues(body, parameters, length=length)
        out = np.empty((residues.shape[0], parameters.digits, parameters.degree), np.int64)
        for digits, ciphertext in zip(out, residues, strict=True):
            self._open(ciphertext, digits)
        values = out.reshape(-1)
        if values[length:].any():
            raise Malformed(f"not a sum of {clients} honest ciphertexts")
        return values[:length]

    def _open(self, ciphertext: Residues, out: Digits) -> None:
        parameters, encoder = self.parameters, open_encoder(self.parameters)
        step = parameters.level_digits
        for end in range(parameters.digits, 0, -step):
            high = encoder.split(self._seal.decrypt(self._decryptor, ciphertext))
            out[end - step : end] = high
            if end > step:
                add_into(ciphertext[0], encoder.residues(-high), parameters)
                ciphertext = encoder.lift(ciphertext)
