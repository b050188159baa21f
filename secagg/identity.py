"""Who is who: the long-lived keys of a site, their files, and a directory of everybody's public half.

An identity is an Ed25519 key (signs headers, proposals, transcripts) and an X25519 key (agrees on the secret
that authenticates bodies between two parties). Both come from `cryptography`.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from secagg.errors import Refused
from secagg.record import Malformed, canonical_json, strict_json

PartyId = str
SERVER: PartyId = "server"
_PROBE = X25519PrivateKey.from_private_bytes(bytes(31) + b"\x40")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FORMAT = "secagg.identity/1"


def check_party_id(name: str) -> PartyId:
    """Return `name` if it can name a party: 1 to 64 letters, digits, `.`, `_`, `-`. Raises `Refused`."""
    if not _NAME.fullmatch(name):
        raise Refused(f"party name {name!r}: expected 1 to 64 letters, digits, '.', '_' or '-'")
    return name


@dataclass(frozen=True)
class PublicIdentity:
    """The public half of a site's keys: 32 bytes to verify signatures, 32 bytes to agree on secrets."""

    signing: bytes
    agreement: bytes

    def __post_init__(self) -> None:
        if len(self.signing) != 32 or len(self.agreement) != 32:
            raise Refused("public identity: expected a signing key and an agreement key of 32 bytes each")
        check_agreement_key(self.agreement)

    @cached_property
    def fingerprint(self) -> bytes:
        """32 bytes that stand for both keys: what people compare, what frames and specs carry."""
        return hashlib.sha256(b"secagg/v1/identity" + self.signing + self.agreement).digest()

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this identity's on `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.signing).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def to_json(self) -> dict[str, str]:
        return {"signing": self.signing.hex(), "agreement": self.agreement.hex()}

    @classmethod
    def from_json(cls, fields: object) -> PublicIdentity:
        match fields:
            case {"signing": str() as signing, "agreement": str() as agreement}:
                try:
                    return cls(bytes.fromhex(signing), bytes.fromhex(agreement))
                except ValueError:
                    pass
        raise Refused("public identity: expected the hex fields 'signing' and 'agreement'")


@dataclass(frozen=True)
class Identity:
    """A site's private keys. They never leave the process except into a key file that only the owner reads."""

    signing_key: Ed25519PrivateKey = field(repr=False)
    agreement_key: X25519PrivateKey = field(repr=False)
    public: PublicIdentity

    @classmethod
    def generate(cls) -> Identity:
        """Draw fresh keys from the operating system's generator."""
        return cls._of(Ed25519PrivateKey.generate(), X25519PrivateKey.generate())

    @classmethod
    def _of(cls, signing: Ed25519PrivateKey, agreement: X25519PrivateKey) -> Identity:
        public = PublicIdentity(signing.public_key().public_bytes_raw(), agreement.public_key().public_bytes_raw())
        return cls(signing, agreement, public)

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature, 64 bytes."""
        return self.signing_key.sign(message)

    def agree(self, peer: PublicIdentity) -> bytes:
        """The X25519 secret shared with `peer`, 32 bytes, only ever fed to HKDF. Raises `Refused`."""
        return agree(self.agreement_key, peer.agreement)

    def save(self, path: Path) -> None:
        """Write a key file with mode 0600; an existing file is never overwritten."""
        text = canonical_json(
            {
                "format": _FORMAT,
                "signing": self.signing_key.private_bytes_raw().hex(),
                "agreement": self.agreement_key.private_bytes_raw().hex(),
            }
        )
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise Refused(f"{path}: a key file exists here and is not overwritten") from None
        except OSError as error:
            raise Refused(f"{path}: cannot write the key file: {error.strerror}") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Read a key file. Refuses one that anybody but its owner can read or write (T21)."""
        try:
            with open(path, "rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if mode & 0o077:
                    raise Refused(f"{path}: key file has mode {mode:04o}, expected 0600; chmod 600 it")
                content = file.read(4096)
        except OSError as error:
            raise Refused(f"{path}: cannot read the key file: {error.strerror}") from None
        try:
            match strict_json(content):
                case {
                    "format": "secagg.identity/1",
                    "signing": str() as signing,
                    "agreement": str() as agree,
                }:
                    return cls._of(
                        Ed25519PrivateKey.from_private_bytes(bytes.fromhex(signing)),
                        X25519PrivateKey.from_private_bytes(bytes.fromhex(agree)),
                    )
        except (Malformed, ValueError):
            pass
        raise Refused(f"{path}: not a key file of format {_FORMAT}")


def check_agreement_key(public: bytes) -> None:
    """Raise `Refused` on a point of low order, which makes the secret with everybody a public constant (M12)."""
    agree(_PROBE, public)


def agree(own: X25519PrivateKey, peer: bytes) -> bytes:
    """X25519 with a peer's 32 public bytes. Raises `Refused` on points of low order (M12)."""
    try:
        return own.exchange(X25519PublicKey.from_public_bytes(peer))
    except ValueError:
        raise Refused("agreement key: a point of low order, or not 32 bytes") from None


class Directory(Mapping[PartyId, PublicIdentity]):
    """A party's own view of who is who. Looking up a name that is not in it raises `Refused` (T1)."""

    def __init__(self, members: Mapping[PartyId, PublicIdentity]) -> None:
        self._members = {check_party_id(name): members[name] for name in sorted(members)}

    @cached_property
    def fingerprints(self) -> Mapping[PartyId, bytes]:
        """Every member's fingerprint."""
        return {name: identity.fingerprint for name, identity in self._members.items()}

    def __getitem__(self, name: PartyId) -> PublicIdentity:
        try:
            return self._members[name]
        except KeyError:
            raise Refused(f"party {name!r} is not in the directory of known identities") from None

    def get(self, name: PartyId, default: Any = None) -> Any:
        return self._members.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[PartyId]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def to_bytes(self) -> bytes:
        """Canonical JSON, the content of a `directory.json`."""
        members = {name: identity.to_json() for name, identity in self._members.items()}
        return canonical_json({"format": "secagg.directory/1", "members": members})

    @classmethod
    def from_bytes(cls, data: bytes) -> Directory:
        try:
            match strict_json(data):
                case {"format": "secagg.directory/1", "members": dict() as members}:
                    return cls({name: PublicIdentity.from_json(keys) for name, keys in members.items()})
        except Malformed:
            pass
        raise Refused("not a directory of format secagg.directory/1")
