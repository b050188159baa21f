"""The transcript of a run: a signed chain of entries, one JSON object a line, that shows later edits.

    {"index": 3, "previous": "<hash of entry 2>", "kind": "round", "author": "server", "body": {...},
     "signature": "<Ed25519 over the entry's hash>"}

An entry's hash is SHA-256 over its canonical JSON without the signature, so an edited, dropped, inserted or
reordered entry breaks the chain at a place that has a number. The last entry closes the chain and holds the
hashes of the other files of the run, so a cut-off tail shows too. Each round's entry carries the signed
headers of the clients' contributions: whoever rebuilds the chain needs the clients' keys as well.

Guarantee: without the private keys of the identities in the directory, no other chain verifies against that
directory. Which directory is the right one is decided outside the run: by a pin (`secagg.pins`), or by
comparing fingerprints.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secagg import frames
from secagg.errors import Refused, VerificationFailed
from secagg.identity import SERVER, Directory, Identity, PartyId
from secagg.record import Malformed, canonical_json, strict_json
from secagg.spec import RoundSpec

FORMAT = "secagg.transcript/1"
GENESIS = "0" * 64
_DOMAIN = b"secagg/v1/transcript"


def _digest(entry: Mapping[str, Any]) -> bytes:
    unsigned = {key: value for key, value in entry.items() if key != "signature"}
    return hashlib.sha256(_DOMAIN + canonical_json(unsigned)).digest()


class Transcript:
    """Appends signed entries to a file; each is on disk before `append` returns."""

    def __init__(self, path: Path, author: PartyId, identity: Identity) -> None:
        self._path = path
        self._author = author
        self._identity = identity
        self._index = 0
        self._previous = GENESIS
        try:
            self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed in `close`
        except FileExistsError:
            raise Refused(f"{path}: a transcript exists here and is not overwritten") from None
        except OSError as error:
            raise Refused(f"{path}: cannot write the transcript: {error.strerror}") from None

    def append(self, kind: str, body: Mapping[str, Any]) -> None:
        """Sign and store one entry."""
        entry: dict[str, Any] = {
            "index": self._index,
            "previous": self._previous,
            "kind": kind,
            "author": self._author,
            "body": dict(body),
        }
        try:
            digest = _digest(entry)
        except (TypeError, ValueError) as error:
            raise Refused(f"transcript: entry {self._index} cannot be written as JSON (NaN?): {error}") from None
        entry["signature"] = self._identity.sign(digest).hex()
        line = canonical_json(entry) + b"\n"
        start = self._file.tell()
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            # Half an entry would look like a forged one: the chain ends behind the last whole one.
            self._file.truncate(start)
            self._file.seek(start)
            raise Refused(f"{self._path}: cannot write: {error.strerror}") from None
        self._index += 1
        self._previous = digest.hex()

    @property
    def head(self) -> str:
        """The hash (hex) of the newest entry: it stands for everything before it."""
        return self._previous

    def close(self, files: Mapping[str, str]) -> None:
        """Write the closing entry, with the SHA-256 (hex) of each other file of the run."""
        self.append("close", {"entries": self._index + 1, "files": dict(files)})
        self._file.close()


def verify_transcript(data: bytes, directory: Directory) -> list[dict[str, Any]]:
    """Check a whole chain and return its entries. Raises `VerificationFailed`, naming the first bad entry."""
    entries: list[dict[str, Any]] = []
    previous, newest = GENESIS, 0
    if data and not data.endswith(b"\n"):
        raise VerificationFailed("the last entry is cut off")
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    for place, line in enumerate(lines):
        entry = _parse(line, place)
        index = entry["index"]
        if index != place:
            seen = "is missing" if index > place else "stands twice or out of order"
            raise VerificationFailed(f"entry {place if index > place else index} {seen}: found entry {index} there")
        if entries and entries[-1]["kind"] == "close":
            raise VerificationFailed(f"entry {place} stands behind the closing entry")
        # A participant has a key in the directory too: only the server writes the record of a run.
        if entry["author"] != SERVER or SERVER not in directory:
            raise VerificationFailed(f"entry {place}: its author is {entry['author']!r}, expected the run's server")
        if not directory[SERVER].verify(bytes.fromhex(entry["signature"]), _digest(entry)):
            raise VerificationFailed(f"entry {place} was altered, or not signed by the known key of {SERVER!r}")
        if entry["previous"] != previous:
            raise VerificationFailed(f"entry {place} does not follow entry {place - 1}: the chain is broken")
        previous = _digest(entry).hex()
        if entry["kind"] == "round":
            spec = _verify_round(entry["body"], place, directory)
            if not entries or spec.run != entries[0]["body"].get("run"):
                raise VerificationFailed(f"entry {place}: it is a round of another run")
            if spec.round <= newest:
                raise VerificationFailed(f"entry {place}: round {spec.round} stands behind round {newest}")
            newest = spec.round
        entries.append(entry)
    if not entries or entries[0]["kind"] != "open":
        raise VerificationFailed("entry 0 is missing: the transcript has no opening entry")
    if entries[0]["body"].get("format") != FORMAT:
        raise VerificationFailed(f"entry 0: its format is not {FORMAT}")
    if entries[-1]["kind"] != "close":
        raise VerificationFailed(
            f"entry {len(entries)} is missing: the run was cut off, or the end of the transcript was removed"
        )
    return entries


def _parse(line: bytes, place: int) -> dict[str, Any]:
    try:
        entry = strict_json(line)
    except Malformed as error:
        raise VerificationFailed(f"entry {place}: {error}") from None
    match entry:
        case {
            "index": int(),
            "previous": str(),
            "kind": str(),
            "author": str(),
            "body": dict(),
            "signature": str() as signature,
        } if len(entry) == 6 and len(signature) == 128 and set(signature) <= set("0123456789abcdef"):
            if canonical_json(entry) == line:
                return dict(entry)
    raise VerificationFailed(f"entry {place}: not a transcript entry")


def round_body(spec: RoundSpec, evidence: Mapping[PartyId, bytes], **more: Any) -> dict[str, Any]:
    """The body of a round's entry: the whole spec, and each contributor's signed header as evidence."""
    return {
        "spec": spec.model_dump(mode="json"),
        "spec_digest": spec.digest.hex(),
        "evidence": {name: header.hex() for name, header in sorted(evidence.items())},
        **more,
    }


def _verify_round(body: Mapping[str, Any], place: int, directory: Directory) -> RoundSpec:
    """Every contribution of a round must be signed by its client, under this spec, for the party that it names."""

    def fail(why: str) -> VerificationFailed:
        return VerificationFailed(f"entry {place}: {why}")

    try:
        spec = RoundSpec.from_bytes(canonical_json(body["spec"]))
        evidence = {str(name): bytes.fromhex(header) for name, header in body["evidence"].items()}
        stated = body["spec_digest"]
    except (Refused, KeyError, AttributeError, TypeError, ValueError) as error:
        raise fail(f"not the record of a round: {error}") from None
    if spec.digest.hex() != stated:
        raise fail("its spec and its spec digest differ")
    if len(evidence) < spec.minimum_cohort:
        raise fail(f"{len(evidence)} signed contributions, the minimum cohort is {spec.minimum_cohort}")
    if spec.uploads_to not in directory:
        raise fail(f"{spec.uploads_to!r}, to whom contributions went, is not in the directory")
    for name, signed in evidence.items():
        if name not in spec.roster.clients or name not in directory:
            raise fail(f"contributor {name!r} is not in the roster and the directory")
        try:
            header = frames.Header.from_bytes(signed)
        except frames.Malformed as error:
            raise fail(f"evidence of {name!r}: {error}") from None
        if (header.spec, header.sender, header.recipient) != (
            spec.digest,
            directory[name].fingerprint,
            directory[spec.uploads_to].fingerprint,
        ):
            raise fail(f"evidence of {name!r} is for another spec, sender or recipient")
        if not directory[name].verify(header.signature, header.signed_bytes()):
            raise fail(f"evidence of {name!r} is not signed by it")
    return spec
