"""A client's keys for one round, signed by its identity, and what two clients derive from them.

Two X25519 keys, because they end differently: the *mask* key agrees on the masks of pairs, and its private half is what
the neighbours recover if the client vanishes; the *seal* key closes the shares on their way and is never given up.

Guarantee: under the gap Diffie-Hellman assumption, a mask or an envelope of two honest clients is a secret of
these two, this round and this spec. Who learns the long-lived keys later opens nothing (forward secrecy).
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg.identity import Identity, PublicIdentity, check_agreement_key
from secagg.sealing import NONCE_BYTES, TAG_BYTES, Rng, Tampered, derive

ADVERT_BYTES = 32 + 32 + 32 + 64
SEAL_OVERHEAD = NONCE_BYTES + TAG_BYTES


@dataclass(frozen=True)
class Advert:
    """A client's public keys of the round and its commitment in the draw, signed for this spec."""

    mask: bytes
    seal: bytes
    commitment: bytes
    signature: bytes

    @classmethod
    def make(
        cls, mask: X25519PrivateKey, seal: X25519PrivateKey, commitment: bytes, *, spec: bytes, own: Identity
    ) -> Advert:
        keys = mask.public_key().public_bytes_raw() + seal.public_key().public_bytes_raw() + commitment
        return cls.from_bytes(keys + own.sign(_signed(keys, spec, own.public)))

    def to_bytes(self) -> bytes:
        return self.mask + self.seal + self.commitment + self.signature

    @classmethod
    def from_bytes(cls, data: bytes) -> Advert:
        """From exactly `ADVERT_BYTES` bytes; verifies nothing."""
        return cls(data[:32], data[32:64], data[64:96], data[96:ADVERT_BYTES])

    def is_signed_by(self, owner: PublicIdentity, *, spec: bytes) -> bool:
        """Whether `owner` made these keys for this round (T2)."""
        return owner.verify(self.signature, _signed(self.mask + self.seal + self.commitment, spec, owner))

    def check_points(self) -> None:
        """Raise `Refused` if a key is a point of low order (M12)."""
        check_agreement_key(self.mask)
        check_agreement_key(self.seal)


def _signed(keys: bytes, spec: bytes, owner: PublicIdentity) -> bytes:
    return b"secagg/v1/secaggplus/keys" + spec + owner.fingerprint + keys


def envelope_key(secret: bytes, *, spec: bytes, sender: bytes, recipient: bytes) -> bytes:
    """The AES-256 key of the one envelope from `sender` to `recipient` (fingerprints)."""
    return derive(secret, "secaggplus/share", spec, sender, recipient)


def seal(key: bytes, plain: bytes, rng: Rng) -> bytes:
    """Nonce 12 | ciphertext | tag 16. The nonce is random, in case an old state is restored."""
    nonce = rng(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, None)


def unseal(key: bytes, envelope: bytes) -> bytes:
    """Open an envelope. Raises `Tampered`."""
    try:
        return AESGCM(key).decrypt(envelope[:NONCE_BYTES], envelope[NONCE_BYTES:], None)
    except InvalidTag:
        raise Tampered("envelope does not open") from None
