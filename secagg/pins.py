"""Pins: which server key this account has seen a run begin with, remembered outside the run's directory.

Whoever can rewrite a run directory can also put other keys into it. `secagg train` therefore writes the
server's fingerprint and the directory's path to `$SECAGG_HOME/known_runs.json` (default
`~/.local/share/secagg`), in the manner of ssh's known hosts, and `secagg verify` compares.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from secagg.errors import Refused
from secagg.record import Malformed, canonical_json, strict_json


def _file() -> Path:
    home = os.environ.get("SECAGG_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share" / "secagg") / "known_runs.json"


def pin(run: str, fingerprint: bytes, place: Path) -> None:
    """Remember the server's fingerprint of a run, and that the run was made in the directory `place`.

    Raises:
        Refused: it cannot be stored, or the run is already known under another key.
    """
    path = _file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = _read(path)
            if known.get(run, fingerprint.hex()) != fingerprint.hex():
                raise Refused(f"run {run} is already known under another server key")
            known[run] = fingerprint.hex()
            for name in _names(place):
                known[name] = run
            fresh = path.with_suffix(".new")
            fresh.write_bytes(canonical_json(known))
            fresh.replace(path)
    except OSError as error:
        raise Refused(f"{path}: cannot remember the run's key: {error.strerror} (set SECAGG_HOME)") from None


def pinned(run: str) -> bytes | None:
    """The server's fingerprint that was remembered for a run, if any."""
    known = _read(_file()).get(run)
    if known is None:
        return None
    try:
        fingerprint = bytes.fromhex(known)
    except ValueError:
        fingerprint = b""
    if len(fingerprint) != 32:
        raise Refused(f"{_file()}: the key of run {run} is not a fingerprint of 64 hex digits")
    return fingerprint


def run_made_in(place: Path) -> str | None:
    """The run that was made in the directory `place` by this account, if any."""
    known = _read(_file())
    return next((known[name] for name in _names(place) if name in known), None)


def _names(place: Path) -> tuple[str, ...]:
    """A directory as it was called and as it really is: a link put in its place later fools neither."""
    return tuple(f"path:{name}" for name in (os.path.abspath(place), str(place.resolve())))


def _read(path: Path) -> dict[str, str]:
    try:
        known = strict_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, Malformed) as error:
        raise Refused(f"{path}: cannot read the remembered keys: {error}") from None
    if not isinstance(known, dict):
        raise Refused(f"{path}: expected a JSON object of runs and fingerprints")
    return {str(run): str(value) for run, value in known.items()}
