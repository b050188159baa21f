"""Keys between two parties: authentication of bodies, and envelopes that a relay cannot open.

Every key is `HKDF-SHA256(X25519 secret, info = "secagg/v1/<purpose>" | context...)`, so a key made for one
purpose, direction or spec never serves another.

Guarantee: under the gap Diffie-Hellman assumption for X25519, keys of different purpose, direction or
context are independent; an envelope sealed to an ephemeral key stays closed to whoever learns the long-lived
keys later (forward secrecy), once both ephemeral keys are erased.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from secagg.errors import Refused
from secagg.identity import Identity, PublicIdentity, agree

Rng = Callable[[int], bytes]
NONCE_BYTES = 12
TAG_BYTES = 16
ENVELOPE_OVERHEAD = 32 + TAG_BYTES


class Tampered(ValueError):
    """A tag does not verify: the bytes were altered, or were meant for somebody or something else."""


def derive(secret: bytes, purpose: str, *context: bytes, length: int = 32) -> bytes:
    """Derive a key for one purpose. Context parts are length-prefixed, so they cannot slide into each other."""
    info = b"secagg/v1/" + purpose.encode()
    for part in context:
        info += len(part).to_bytes(4, "big") + part
    return HKDF(SHA256(), length, salt=None, info=info).derive(secret)


class Channel:
    """Authenticates bodies between `own` and one peer under one spec: a GMAC key for each direction.

    The nonce is random, so that a process restored from an old snapshot does not tag two bodies under one
    nonce. 2^32 frames under one spec would be needed for a collision to matter.
    """

    def __init__(self, own: Identity, peer: PublicIdentity, spec_digest: bytes) -> None:
        secret = own.agree(peer)
        mine, theirs = own.public.fingerprint, peer.fingerprint
        self._outgoing = AES(derive(secret, "frame", spec_digest, mine, theirs))
        self._incoming = AESGCM(derive(secret, "frame", spec_digest, theirs, mine))

    def tag(self, nonce: bytes, *body: bytes | memoryview) -> bytes:
        """The 16-byte tag of a body that we send, given in one piece or in several."""
        gmac = Cipher(self._outgoing, GCM(nonce)).encryptor()
        for piece in body:
            gmac.authenticate_additional_data(piece)
        gmac.finalize()
        return gmac.tag

    def check(self, nonce: bytes, tag: bytes, body: bytes | memoryview) -> None:
        """Check a body that we received. Raises `Tampered`."""
        try:
            self._incoming.decrypt(nonce, tag, body)
        except InvalidTag:
            raise Tampered("body does not match its tag") from None


def seal(secret: bytes, recipient: bytes, *, context: bytes, rng: Rng = secrets.token_bytes) -> bytes:
    """Seal a secret to the holder of an X25519 public key: ephemeral key 32 | ciphertext | tag 16.

    The key is fresh for every envelope, hence the constant nonce.
    """
    ephemeral = X25519PrivateKey.from_private_bytes(rng(32))
    public = ephemeral.public_key().public_bytes_raw()
    key = derive(agree(ephemeral, recipient), "envelope", public, recipient, context)
    return public + AESGCM(key).encrypt(bytes(NONCE_BYTES), secret, context)


def unseal(envelope: bytes | memoryview, own: X25519PrivateKey, *, context: bytes) -> bytes:
    """Open an envelope that was sealed to us in this context. Raises `Tampered`."""
    public, ciphertext = bytes(envelope[:32]), bytes(envelope[32:])
    recipient = own.public_key().public_bytes_raw()
    try:
        key = derive(agree(own, public), "envelope", public, recipient, context)
        return AESGCM(key).decrypt(bytes(NONCE_BYTES), ciphertext, context)
    except (Refused, InvalidTag):
        raise Tampered("envelope does not open: altered, or sealed to another key or context") from None
