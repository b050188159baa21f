"""The key-holder mode: keys, encryption, running sum, and a decryption that leaves flooded.

    PublicKey  -> Encryptor -> records -> Sum -> Decryptor(SecretKey) -> integers

Guarantee: 128-bit semantic security under ring-LWE for fresh ciphertexts, all randomness SEAL's own, drawn anew for
every record; for what leaves the decryptor, the guarantee of `flooding`. Honest sums below 2^31 are exact except
with probability 2^-40.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from he.blocks import DISHONEST, encrypt_blocks, open_blocks
from he.ckks.flooded.flooding import Flooding
from he.ckks.flooded.rings import RingParameters, add_digits, add_integers, add_into, add_message, ring, split
from he.ckks.flooded.seal import open_ring
from he.ckks.flooded.wire import (
    check_fresh,
    fresh_digits,
    fresh_fields,
    kept_fields,
    pack_digits_sum,
    pack_fresh,
    pack_kept,
    record_bytes,
    sum_error,
    sum_fields,
    unpack_kept,
    unpack_sum,
)
from he.local_key import LocalKey
from he.residues import Bytes, Malformed, Residues, records
from he.scheme import Integers, check_values
from he.security import SUM_BITS, VALUE_BITS
from he.workers import Work, blocks, spread
from secagg.errors import Refused
from secagg.gaussian import KEY_BYTES, Rng, discrete_gaussian

# Large enough that numpy, which lets other threads run, spends its time in arrays.
_BLOCK = 32


class RingPublicKey:
    """A public key (b, a): two polynomials modulo all three primes, `parameters.public_key_bytes` on the wire."""

    def __init__(self, parameters: RingParameters, residues: Residues) -> None:
        self.parameters = parameters
        self.residues = residues
        self.residues.flags.writeable = False

    def to_bytes(self) -> bytes:
        """The key on the wire."""
        return self.residues.astype("<u8").tobytes()

    @classmethod
    def from_bytes(cls, body: bytes | memoryview, parameters: RingParameters) -> RingPublicKey:
        """Read a key from a peer.

        Raises:
            Malformed: not the exact length, a residue not below its prime, or a zero polynomial that hides nothing.
        """
        return cls(parameters, _key_residues(body, parameters, polynomials=2))


class RingSecretKey:
    """A secret key, uniform ternary. It does not print, pickle or copy; its one way out is its holder's own state."""

    __slots__ = ("_parameters", "_residues")

    def __init__(self, parameters: RingParameters, residues: Residues) -> None:
        self._parameters = parameters
        self._residues = residues
        self._residues.flags.writeable = False

    @property
    def parameters(self) -> RingParameters:
        """What the key is for."""
        return self._parameters

    def times(self, pair: Residues) -> Residues:
        """Two polynomials, shape `(2, 2, N)`, each times the key, in coefficient form."""
        seal = open_ring(self._parameters)
        return seal.multiply(pair, seal.factor(self._residues))

    def local(self) -> LocalKey:
        """The key itself, `parameters.secret_key_bytes`. No client is given it."""
        return LocalKey(self._residues.astype("<u8").tobytes())

    @classmethod
    def load_for_client(cls, body: bytes | memoryview, parameters: RingParameters) -> RingSecretKey:
        """Read an exported key. Raises `Malformed` unless it has the exact form."""
        return cls(parameters, _key_residues(body, parameters, polynomials=1)[0])

    def __repr__(self) -> str:
        return f"<RingSecretKey {self._parameters.name}, not shown>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a RingSecretKey is neither pickled nor copied")


def generate_pair(parameters: RingParameters) -> tuple[RingSecretKey, RingPublicKey]:
    """Draw a key pair with SEAL's randomness. No key need be drawn again: the bounds of `flooding` hold for all."""
    seal = open_ring(parameters)
    secret, public = seal.draw_keys()
    pair = RingPublicKey(parameters, seal.public_key_residues(public).copy())
    return RingSecretKey(parameters, seal.secret_residues(secret).copy()), pair


class RingEncryptor:
    """Encryption under a holder's public key, N integers a record, of which the last is padded with zeros."""

    def __init__(self, key: RingPublicKey) -> None:
        self.parameters = key.parameters
        self._key = key

    def encrypt(self, values: Integers) -> Iterator[memoryview]:
        """Yield the records of `values`, shape `(n,)`, in order: `fresh_bytes(parameters, n)` in all.

        Raises:
            InvalidUpdate: not a one-dimensional signed integer array, or a value over 2^30 in magnitude.
            Aborted: a worker was lost.
        """
        check_values(values, largest=1 << VALUE_BITS)
        parameters = self.parameters
        return encrypt_blocks(
            open_encryptor,
            {"name": parameters.name, "key": self._key.to_bytes()},
            values,
            block=parameters.degree,
            record_bytes=record_bytes(fresh_fields(parameters), parameters.degree),
        )


def open_encryptor(name: str, key: bytes) -> Work:
    """Blocks of integers to records, in a worker, under a public key."""
    parameters = ring(name)
    seal = open_ring(parameters)
    encryptor = seal.encryptor(seal.public_key(RingPublicKey.from_bytes(key, parameters).residues))

    def work(blocks: Bytes, records: Bytes) -> None:
        for integers, record in zip(blocks.view(np.int32), records, strict=True):
            both = seal.encrypt_zero(encryptor)
            add_message(both[0], integers.astype(np.int64), parameters)
            record[:] = np.frombuffer(pack_fresh(both, parameters), np.uint8)

    return work


class CoefficientSum:
    """A `CiphertextSum` of public-key encryptions, in numpy alone. Memory: one sum, 32 bytes an integer.

    Of c0, the sum is kept as (low, high), the form in which it comes and goes (`wire`).
    """

    def __init__(self, parameters: RingParameters, length: int) -> None:
        self.count = 0
        self._parameters = parameters
        self._ciphertexts = parameters.ciphertexts(length)
        self._sum: Residues | None = None

    def fold(self, body: bytes | memoryview) -> None:
        """See `CiphertextSum.fold`."""
        parameters = self._parameters
        rows = self._records(body, fresh_fields(parameters))

        def check_part(start: int, stop: int) -> None:
            for part in blocks(start, stop, block=_BLOCK):
                check_fresh(rows[part], parameters)

        def add_part(start: int, stop: int) -> None:
            buffer = np.empty((min(_BLOCK, stop - start), *total.shape[1:]), np.uint64)
            for part in blocks(start, stop, block=_BLOCK):
                term = buffer[: part.stop - part.start]
                fresh_digits(term, rows[part], parameters)
                add_digits(total[part, 0], term[:, 0], parameters)
                add_into(total[part, 1], term[:, 1], parameters, scratch=term[:, 1])

        spread(check_part, len(rows), block=_BLOCK)
        if self._sum is None:
            self._sum = np.zeros((len(rows), 2, 2, parameters.degree), np.uint64)
        total = self._sum
        spread(add_part, len(rows), block=_BLOCK)
        self.count += 1

    def to_bytes(self) -> bytes:
        """See `CiphertextSum.to_bytes`."""
        return self._packed(pack_digits_sum, sum_fields(self._parameters))

    def state(self) -> bytes:
        """See `CiphertextSum.state`."""
        return self._packed(pack_kept, kept_fields(self._parameters))

    def restore(self, body: bytes, *, count: int) -> None:
        """See `CiphertextSum.restore`."""
        self._sum = unpack_kept(self._records(body, kept_fields(self._parameters)), self._parameters)
        self.count = count

    def _packed(self, pack: Callable[[Residues, RingParameters], bytes], fields: tuple[int, ...]) -> bytes:
        total = self._filled()
        rows = np.empty((len(total), record_bytes(fields, self._parameters.degree)), np.uint8)

        def pack_part(start: int, stop: int) -> None:
            for at in range(start, stop):
                rows[at] = np.frombuffer(pack(total[at], self._parameters), np.uint8)

        spread(pack_part, len(total), block=_BLOCK)
        return rows.tobytes()

    def _records(self, body: bytes | memoryview, fields: tuple[int, ...]) -> Bytes:
        return records(body, count=self._ciphertexts, record_bytes=record_bytes(fields, self._parameters.degree))

    def _filled(self) -> Residues:
        if self._sum is None:
            raise Refused("nothing was added to this sum")
        return self._sum


class RingDecryptor:
    """Opens sums, each coefficient flooded before anything is rounded, compared or decided about it."""

    def __init__(self, key: RingSecretKey, noise: Flooding, *, rng: Rng = secrets.token_bytes) -> None:
        self.parameters = key.parameters
        self._key = key
        self._noise = noise
        self._rng = rng

    def decrypt(self, body: bytes | memoryview, *, length: int, clients: int) -> NDArray[np.int64]:
        """The integer sum, int64 of shape `(length,)`, of `clients` encrypted vectors.

        Guarantee: the result is a function of flooded coefficients alone; for honest ciphertexts whose true sum is
        below 2^31 in magnitude it is that sum, except with probability 2^-40.

        Raises:
            Malformed: not the exact length, a residue not below its prime, transparent, or no honest sum.
        """
        parameters = self.parameters
        width = record_bytes(sum_fields(parameters), parameters.degree)
        rows = records(body, count=parameters.ciphertexts(length), record_bytes=width)
        arguments = {
            "name": parameters.name,
            "key": self._key.local().for_worker(),
            "sigma": self._noise.sigma_float,
            "reach": (self._noise.reach + sum_error(parameters)) // parameters.primes[0] + 1,
        }
        opened = open_blocks(
            open_decryptor, arguments, rows, block=parameters.degree, tail=self._noise_keys, tail_bytes=2 * KEY_BYTES
        )
        values = opened.reshape(-1)
        if values.min() == DISHONEST or values[length:].any():
            raise Malformed(f"not a sum of {clients} honest ciphertexts")
        return values[:length]

    def _noise_keys(self) -> bytes:
        """What the noise of one ciphertext is drawn with: two keys, asked for one by one (`secagg.gaussian`)."""
        keys = self._rng(KEY_BYTES), self._rng(KEY_BYTES)
        if any(len(key) != KEY_BYTES for key in keys):
            raise Refused(f"rng gave too few bytes, expected {KEY_BYTES}: no secure noise is available")
        return b"".join(keys)


def open_decryptor(name: str, key: bytes, sigma: float, reach: int) -> Work:
    """Records of a sum, with the keys of their noise behind them, to integers, in a worker."""
    parameters = ring(name)
    secret, step = RingSecretKey.load_for_client(key, parameters), parameters.step
    width = record_bytes(sum_fields(parameters), parameters.degree)

    def work(rows: Bytes, results: Bytes) -> None:
        out = results.view(np.int64)
        for start in range(0, len(rows), 2):
            pair = rows[start : start + 2]
            phases = flooded(pair[:, :width], secret, sigma, keys=pair[:, width:])
            for sums, phase in zip(out[start : start + 2], phases, strict=True):
                high = split(phase, parameters)
                sums[:] = (high + step // 2) // step
                if np.abs(high - sums * step).max() > reach or np.abs(sums).max() >= 1 << SUM_BITS:
                    sums[:] = DISHONEST

    return work


def flooded(rows: Bytes, secret: RingSecretKey, sigma: float, *, keys: Bytes) -> Residues:
    """c0 + c1 s + noise of one or two ciphertexts: residues of shape `(count, 2, N)`, in coefficient form.

    `keys`, 64 bytes for each, are all the randomness of its noise.
    """
    parameters = secret.parameters
    both = unpack_sum(rows, parameters)
    second = both[:, 1]
    phases = secret.times(np.stack((second[0], second[-1])))[: len(both)].copy()
    add_into(phases, both[:, 0], parameters)
    for phase, drawn in zip(phases, keys, strict=True):
        given = io.BytesIO(drawn.tobytes())
        add_integers(phase, discrete_gaussian(sigma, parameters.degree, rng=given.read), parameters)
    return phases


def _key_residues(body: bytes | memoryview, parameters: RingParameters, *, polynomials: int) -> Residues:
    rows = records(body, count=polynomials, record_bytes=parameters.secret_key_bytes)
    residues = rows.view("<u8").astype(np.uint64).reshape(polynomials, 3, parameters.degree)
    primes = np.array([*parameters.primes, parameters.special], np.uint64)
    if (residues >= primes[:, None]).any():
        raise Malformed("a residue is not below the modulus")
    if not residues.any(axis=-1).all():
        raise Malformed("a polynomial of the key is zero")
    return residues
