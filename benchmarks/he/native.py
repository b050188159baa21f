"""Where time goes: what SEAL itself takes for a ciphertext, beside what ours takes with everything around it.

    python -m benchmarks.he.native [--ciphertexts N] [--repeat R]

Microseconds of CPU for one ciphertext, best of the repeats, in one process. `SEAL` is its calls alone: no packing, no
checks, no reading or writing of its objects, except that a seeded ciphertext is expanded by loading it. `ours` goes
from integers to bytes and back: encrypt, fold, sum out, open. At 100 % and above we do without SEAL. Of a fold,
`expand` is what makes polynomials of seeds, in it the hash alone; `tag` is what authenticating the frame adds to it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tenseal import sealapi

from benchmarks.he.against_peer import OURS
from benchmarks.he.cores import Subject
from he import workers
from he.bfv.keys import generate_bfv
from he.bfv.parameters import COMPACT as BFV
from he.bfv.seal import open_bfv_seal
from he.ckks.flooded.cipher import generate_pair
from he.ckks.flooded.rings import ROOMY
from he.ckks.flooded.seal import open_ring
from he.ckks.slots.keys import generate
from he.ckks.slots.parameters import COMPACT as SLOTS
from he.ckks.slots.seal import open_seal
from he.residues import Residues
from he.security import SEED_BYTES
from secagg.identity import Identity
from secagg.sealing import NONCE_BYTES, Channel

Calls = Mapping[str, Callable[[], object]]


def slots() -> Calls:
    seal, secret = open_seal(SLOTS), generate(SLOTS).to_seal()
    encryptor, decryptor = seal.encryptor(secret), sealapi.Decryptor(seal.context, secret)
    values = [complex(place, -place) for place in range(SLOTS.degree // 2)]
    plaintext, opened = seal.encode(values, SLOTS.scale), sealapi.Plaintext()
    first, seed = seal.seeded_parts(encryptor.encrypt_symmetric(plaintext))
    one, two = (seal.seeded_ciphertext(first, seed) for _ in range(2))

    def open_one() -> None:
        decryptor.decrypt(two, opened)
        seal.encoder.decode_complex(opened)

    return {
        "encrypt": lambda: encryptor.encrypt_symmetric(seal.encode(values, SLOTS.scale)),
        "expand": lambda: seal.seeded_ciphertext(first, seed),
        "add": lambda: seal.evaluator.add_inplace(one, two),
        "open": open_one,
    }


def flooded() -> Calls:
    seal, (secret, public) = open_ring(ROOMY), generate_pair(ROOMY)
    encryptor, factor = seal.encryptor(seal.public_key(public.residues)), seal.factor(secret._residues)
    one, two = sealapi.Ciphertext(), sealapi.Ciphertext()
    encryptor.encrypt_zero(one)
    encryptor.encrypt_zero(two)

    def open_two() -> None:  # both polynomials of one object: two ciphertexts' worth
        seal.evaluator.transform_to_ntt_inplace(two)
        seal.evaluator.multiply_plain_inplace(two, factor)
        seal.evaluator.transform_from_ntt_inplace(two)

    return {
        "encrypt": lambda: encryptor.encrypt_zero(sealapi.Ciphertext()),
        "add": lambda: seal.evaluator.add_inplace(one, two),
        "open": open_two,
    }


def bfv(*, seeded: bool) -> Calls:
    seal, (secret, public) = open_bfv_seal(BFV), generate_bfv(BFV)
    encryptor = seal.encryptor(secret.to_seal() if seeded else seal.public_key(public.residues))
    decryptor = seal.decryptor(secret.to_seal())
    symmetric = seal.encryptor(secret.to_seal())
    first, seed = seal.seeded_zero(symmetric)
    one, two = (seal.seeded_ciphertext(first, seed) for _ in range(2))

    def open_levels() -> None:
        for _ in range(BFV.levels):
            decryptor.decrypt(two, sealapi.Plaintext())

    calls: dict[str, Callable[[], object]] = {
        "encrypt": encryptor.encrypt_zero_symmetric if seeded else lambda: encryptor.encrypt_zero(sealapi.Ciphertext()),
        "expand": lambda: seal.seeded_ciphertext(first, seed),
        "add": lambda: seal.evaluator.add_inplace(one, two),
        "open": open_levels,
    }
    return calls if seeded else {name: call for name, call in calls.items() if name != "expand"}


NATIVE: Mapping[str, Callable[[], Calls]] = {
    "ckks, shared key": slots,
    "ckks, key holder, flooded": flooded,
    "bfv, shared key": lambda: bfv(seeded=True),
    "bfv, key holder": lambda: bfv(seeded=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ciphertexts", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=20)
    options = parser.parse_args()
    workers.use(0)
    print("microseconds for a ciphertext")
    print(f"{'':28}{'':10}{'SEAL':>9}{'ours':>9}{'SEAL is':>9}   of ours")
    for label, (name, parameters) in OURS.items():
        subject = Subject(name, parameters, options.ciphertexts * _integers(label) - 1)
        count = subject.scheme.parameters.ciphertexts(options.ciphertexts * _integers(label))  # type: ignore[attr-defined]
        ours = {action: _best(call, options.repeat) / count for action, call in _ours(subject, options.repeat).items()}
        theirs = {action: _best(call, 10 * options.repeat) for action, call in NATIVE[label]().items()}
        fold = theirs.get("expand", 0.0) + theirs["add"]
        parts = f"tag {_best(_tagging(subject), options.repeat) / count:.0f}, " + _parts(subject, count, options.repeat)
        _show(label, "encrypt", theirs["encrypt"], ours["encrypt"])
        _show(label, "fold", fold, ours["fold"], parts)
        _show(label, "sum out", 0.0, ours["sum out"])
        _show(label, "open", theirs["open"], ours["open"])


def _integers(label: str) -> int:
    return BFV.record_integers if label.startswith("bfv") else SLOTS.degree if "shared" in label else ROOMY.degree


def _ours(subject: Subject, repeat: int) -> Calls:
    total = subject.scheme.empty_sum(subject.values.size)
    bodies = iter([subject.encrypt() for _ in range(repeat + 1)])  # no sum takes one seed twice
    total.fold(next(bodies))
    return {
        "encrypt": subject.encrypt,
        "fold": lambda: total.fold(next(bodies)),
        "sum out": total.to_bytes,
        "open": subject.open,
    }


def _parts(subject: Subject, count: int, repeat: int) -> str:
    """What expansion takes of a fold, where there is any: all of it, and the hash alone."""
    if subject.scheme.key_mode == "public":
        return "no native code"
    from he import seeds

    parameters: Any = subject.scheme.parameters  # type: ignore[attr-defined]
    drawn = np.frombuffer(os.urandom(SEED_BYTES * count), np.uint8).reshape(count, SEED_BYTES)
    expand = _best(lambda: seeds.expand_all(drawn, parameters.primes, parameters.degree), repeat) / count

    def hash_alone() -> Residues:
        return seeds._Stream(bytes(SEED_BYTES)).words(len(parameters.primes) * parameters.degree)

    return f"expand {expand:.0f} (the hash {_best(hash_alone, 10 * repeat):.0f})"


def _tagging(subject: Subject) -> Callable[[], object]:
    one, two = Identity.generate(), Identity.generate()
    sender, receiver = Channel(one, two.public, bytes(32)), Channel(two, one.public, bytes(32))
    nonce = bytes(NONCE_BYTES)
    tag = sender.tag(nonce, subject.bodies[0])
    return lambda: receiver.check(nonce, tag, subject.bodies[0])


def _best(call: Callable[[], object], repeat: int) -> float:
    """Microseconds of CPU."""
    found = []
    for _ in range(repeat):
        started = time.process_time_ns()
        call()
        found.append(time.process_time_ns() - started)
    return min(found) / 1e3


def _show(label: str, action: str, theirs: float, ours: float, parts: str = "") -> None:
    share = f"{theirs / ours:9.0%}" if theirs else " " * 9
    print(f"{label:28}{action:10}{theirs or float('nan'):9.0f}{ours:9.0f}{share}   {parts}", flush=True)


if __name__ == "__main__":
    main()
