"""Set-up of encrypted sums, once a run: who makes the keys, who gets which, and the digest that all must hold alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from he.local_key import LocalKey
from he.residues import Malformed
from he.scheme import PublicScheme, Scheme
from secagg import record
from secagg.errors import Aborted, Refused, Rejected
from secagg.identity import SERVER, PartyId
from secagg.protocol import Party, Send
from secagg.sealing import ENVELOPE_OVERHEAD, Tampered, unseal
from secagg.session import RoundSession
from secagg.spec import RoundSpec

PUBLIC_KEY, SECRET_KEY, KEY_ID = 1, 2, 3
HOLDER: PartyId = "holder"


def leader(spec: RoundSpec) -> PartyId:
    """The client that makes the shared key: the first by name."""
    return min(spec.roster.clients)


def key_digest(kind: str, key: bytes, scheme: Scheme) -> bytes:
    """32 bytes that name a key and its parameters. For a secret key it is a commitment that hides it."""
    context = f"secagg/v1/{scheme.label}/{kind}/{scheme.name}".encode()
    return hashlib.sha256(context + key).digest()


def setup_fields(spec: RoundSpec, setup: bytes, scheme: Scheme) -> dict[str, Any]:
    """What a party kept from set-up. Raises `Refused` unless it is the set-up that `spec` names (C3)."""
    try:
        fields: dict[str, Any] = record.decode(setup)["role"]
        agreed = bytes(fields["agreed"])
    except (record.Malformed, KeyError, TypeError):
        raise Refused(f"{scheme.label}: this party has not been through set-up") from None
    if agreed.hex() != spec.setup:
        raise Refused(f"{scheme.label}: the round is for other keys than this party set up")
    return fields


def try_key(key: bytes, scheme: Scheme) -> None:
    """Encrypt a zero under a key that came from a peer, where SEAL can do no harm: in a worker.

    Raises:
        Malformed: it is no such key, or the worker did not survive it.
    """
    try:
        scheme.encryptor(key, clients=1).encrypt(np.zeros(1, np.int32))
    except Aborted:
        raise Malformed("the worker process that encrypted with it was lost") from None


class _KeySession(RoundSession):
    """Ends with `key`, this party's key bytes, and with the digest that everybody else must have too."""

    def __init__(self, spec: RoundSpec, party: Party) -> None:
        super().__init__(spec, party)
        self._key = b""
        self._agreed = b""

    @property
    def agreed(self) -> bytes:
        return self._agreed

    def complete(self, step: int) -> Iterable[Send]:
        if not self._agreed:
            raise Aborted("the maker of the keys is silent: set-up cannot go on")
        return ()

    def store(self) -> dict[str, Any]:
        return {"key": self._key, "agreed": self._agreed}

    def load(self, fields: dict[str, Any]) -> None:
        self._key, self._agreed = fields["key"], fields["agreed"]


class HolderSetup(_KeySession):
    """The key holder: makes the pair, keeps the secret key, gives everybody the public one."""

    def __init__(self, spec: RoundSpec, party: Party, scheme: PublicScheme) -> None:
        super().__init__(spec, party)
        self._scheme = scheme

    def begin(self) -> Iterable[Send]:
        secret, public = self._scheme.generate()
        body = public.to_bytes()
        self._key = secret.local().for_state()
        self._agreed = key_digest("public", body, self._scheme)
        return [self.send(name, PUBLIC_KEY, body) for name in [SERVER, *sorted(self.clients)]]


class PublicKeySetup(_KeySession):
    """A client or the server: takes the holder's public key."""

    def __init__(self, spec: RoundSpec, party: Party, scheme: PublicScheme) -> None:
        super().__init__(spec, party)
        self._scheme = scheme
        self.open_step(PUBLIC_KEY, [HOLDER], limit=scheme.public_key_bytes)

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        try:
            self._scheme.check_public(body)
            if self.party.name != SERVER:  # which encrypts nothing
                try_key(bytes(body), self._scheme)
        except Malformed as error:
            raise Rejected(sender, f"not a public key of {self._scheme.name}: {error}") from None
        self._key = bytes(body)
        self._agreed = key_digest("public", self._key, self._scheme)
        return ()


class LeaderSetup(_KeySession):
    """The first client of the shared-key mode: makes the secret key and seals it to every other client."""

    def __init__(self, spec: RoundSpec, party: Party, scheme: Scheme) -> None:
        super().__init__(spec, party)
        self._scheme = scheme

    def begin(self) -> Iterable[Send]:
        secret, _ = self._scheme.generate()
        key = secret.local()
        self._key = key.for_state()
        self._agreed = key_digest("secret", self._key, self._scheme)
        others = sorted(self.clients - {self.party.name})
        sealed = [self.send(client, SECRET_KEY, self._seal_for(client, key)) for client in others]
        return [self.send(SERVER, KEY_ID, self._agreed), *sealed]

    def _seal_for(self, client: PartyId, key: LocalKey) -> bytes:
        # Sealed to clients only: neither the server nor a helper is among `self.clients`.
        return key.sealed_to(self.peer(client).agreement, context=self.spec.digest, rng=self.party.rng)


class SecretKeySetup(_KeySession):
    """Any other client of the shared-key mode: opens the sealed key."""

    def __init__(self, spec: RoundSpec, party: Party, scheme: Scheme) -> None:
        super().__init__(spec, party)
        self._scheme = scheme
        self.open_step(SECRET_KEY, [leader(spec)], limit=scheme.secret_key_bytes + ENVELOPE_OVERHEAD)

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        try:
            key = unseal(body, self.party.identity.agreement_key, context=self.spec.digest)
            self._scheme.check_secret(key)
            try_key(key, self._scheme)
        except (Tampered, Malformed) as error:
            raise Rejected(sender, f"not a sealed secret key of {self._scheme.name}: {error}") from None
        self._key = key
        self._agreed = key_digest("secret", key, self._scheme)
        return ()


class ServerSharedSetup(_KeySession):
    """The server of the shared-key mode: learns which key, by its digest, and never the key."""

    def __init__(self, spec: RoundSpec, party: Party) -> None:
        super().__init__(spec, party)
        self.open_step(KEY_ID, [leader(spec)], limit=32)

    def handle(self, step: int, sender: PartyId, body: memoryview) -> Iterable[Send]:
        if len(body) != 32:
            raise Rejected(sender, f"key digest of {len(body)} bytes, expected 32")
        self._agreed = bytes(body)
        return ()
