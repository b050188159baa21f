"""The directory that a run leaves behind, and the check that nothing in it was changed since.

directory.json     the public identities of all parties
transcript.jsonl   the signed chain; its last entry holds the hash of every file beside it
...                config, metrics, data sheet, model, pictures
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from secagg.errors import Refused, VerificationFailed
from secagg.identity import SERVER, Directory, Identity
from secagg.pins import pin, pinned, run_made_in
from secagg.transcript import FORMAT, Transcript, verify_transcript

DIRECTORY = "directory.json"
TRANSCRIPT = "transcript.jsonl"


class RunDirectory:
    """A fresh run directory. An existing one is refused, so that no run overwrites another.

    The server's key is pinned outside it first: where that fails, nothing is left.
    """

    def __init__(self, path: Path, run: str, directory: Directory, server: Identity) -> None:
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            raise Refused(f"{path}: exists already; name another --output, nothing was changed") from None
        except OSError as error:
            raise Refused(f"{path}: cannot create the run directory: {error.strerror}") from None
        try:
            pin(run, server.public.fingerprint, path)
        except Refused:
            path.rmdir()
            raise
        self.path = path
        self._run = run
        self._identities = directory.to_bytes()
        (path / DIRECTORY).write_bytes(self._identities)
        self._transcript = Transcript(path / TRANSCRIPT, SERVER, server)

    def open_transcript(self, about: Mapping[str, object]) -> Transcript:
        """Begin the chain; `about` are further fields of its first entry."""
        digest = hashlib.sha256(self._identities).hexdigest()
        self._transcript.append("open", {**about, "format": FORMAT, "run": self._run, "directory": digest})
        return self._transcript

    def seal(self) -> None:
        """Close the chain over every file in the directory."""
        self._transcript.close(_hashes(self.path))


@dataclass(frozen=True)
class Verified:
    """A run directory that holds together.

    Attributes:
        rounds, planned: rounds made, and rounds intended (None where the run did not say).
        aborted: why it ended early, or "".
    """

    run: str
    rounds: int
    planned: int | None
    aborted: str
    entries: int
    server_fingerprint: str


def verify_run(path: Path, *, fingerprint: str | None = None) -> Verified:
    """Check the chain, every signature, every file's hash, and the server's key.

    Args:
        fingerprint: the server's fingerprint (hex), known from elsewhere; else this account's pin is used.

    Raises:
        Refused: `path` is not a run directory.
        VerificationFailed: something was altered; the message names it.
    """
    if path.is_symlink():
        raise VerificationFailed(f"{path} is a link: name the run directory itself")
    if not path.is_dir() or not (path / TRANSCRIPT).is_file() or not (path / DIRECTORY).is_file():
        raise Refused(f"{path}: not a run directory (expected {TRANSCRIPT} and {DIRECTORY} in it)")
    if fingerprint is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", fingerprint):
        raise Refused(f"fingerprint {fingerprint[:80]!r}: expected 64 hex digits")
    content = (path / DIRECTORY).read_bytes()
    try:
        directory = Directory.from_bytes(content)
    except Refused as error:
        raise VerificationFailed(f"{DIRECTORY} was changed: {error}") from None
    if SERVER not in directory:
        raise VerificationFailed(f"{DIRECTORY}: it has no server")
    entries = verify_transcript((path / TRANSCRIPT).read_bytes(), directory)
    opening, closing = entries[0]["body"], entries[-1]["body"]
    if opening.get("directory") != hashlib.sha256(content).hexdigest():
        raise VerificationFailed(f"{DIRECTORY} was changed: it is not the one that entry 0 names")
    actual = directory[SERVER].fingerprint
    run = str(opening.get("run"))
    expected = [known for known in (fingerprint and bytes.fromhex(fingerprint), pinned(run)) if known]
    for known in expected:
        if known != actual:
            raise VerificationFailed(
                f"entry 0: the chain is signed by server key {actual.hex()[:16]}, not by the known key "
                f"{known.hex()[:16]}; it was rebuilt by somebody without the keys"
            )
    made = run_made_in(path)
    if made not in (None, run):
        raise VerificationFailed(f"entry 0: this directory was made by run {made}, and now holds run {run[:64]}")
    _verify_files(path, closing.get("files"))
    if not expected:
        raise VerificationFailed(
            f"the chain holds together, but this account does not know its server key {actual.hex()}: compare the "
            "key with one that came another way, then verify with --fingerprint"
        )
    planned = opening.get("planned_rounds")
    return Verified(
        run=run,
        rounds=sum(entry["kind"] == "round" for entry in entries),
        planned=planned if isinstance(planned, int) else None,
        aborted="; ".join(str(entry["body"].get("why")) for entry in entries if entry["kind"] == "aborted"),
        entries=len(entries),
        server_fingerprint=actual.hex(),
    )


def _verify_files(path: Path, recorded: object) -> None:
    if not isinstance(recorded, dict):
        raise VerificationFailed("the closing entry names no files")
    present = _hashes(path)
    for name in sorted(set(recorded) | set(present)):
        if name not in present:
            raise VerificationFailed(f"{_printable(name)} is missing")
        if name not in recorded:
            raise VerificationFailed(f"{_printable(name)} was added after the run")
        if present[name] != recorded[name]:
            raise VerificationFailed(f"{_printable(name)} was changed after the run")


def _printable(name: object) -> str:
    """A file's name on one line."""
    return text if (text := str(name)).isprintable() else repr(text)


def _hashes(path: Path) -> dict[str, str]:
    found = sorted(path.rglob("*"))
    for entry in (path / DIRECTORY, path / TRANSCRIPT, *found):
        # A link could show one file to this check and another to a reader.
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise VerificationFailed(f"{_printable(entry.relative_to(path))} is a link, not a file of the run")
    files = [entry for entry in found if entry.is_file() and entry != path / TRANSCRIPT]
    return {file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
