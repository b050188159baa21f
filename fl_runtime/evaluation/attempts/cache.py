"""Results on disk, one file for each job, under the digest of everything that the result depends on.

A name is the SHA-256 of the job's settings as canonical JSON together with the versions of the libraries that compute
and a digest of the project's own sources: figures of other code are never taken for those of this one. A file begins
with the SHA-256 of what follows, so that a damaged one is noticed, named and computed again.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Collection, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fl_runtime
from fl_runtime.section import Section
from secagg import record
from secagg.errors import Refused

LIBRARIES = ("secagg", "numpy", "scipy", "scikit-learn", "torch", "tenseal", "cryptography", "dp-accounting")
PACKAGES = ("secagg", "he", "smpc", "dp", "fl_runtime")
DIGEST_BYTES = 32


class Cache:
    """A folder of results.

    Args:
        folder: made when the first result is written.
        damaged: called with the path and the reason for each file that cannot be used.

    Raises:
        Refused: `folder` is something else than a folder.
    """

    def __init__(self, folder: Path, *, damaged: Callable[[Path, str], None] = lambda path, reason: None) -> None:
        if folder.exists() and not folder.is_dir():
            raise Refused(f"{folder}: expected a folder for the results of cells")
        self.folder = folder
        self._damaged = damaged

    def path(self, job: Section) -> Path:
        """Where the result of a job is or will be."""
        return self.folder / f"{digest(job)}.result"

    def get(self, job: Section, fields: Collection[str] | None = None) -> dict[str, Any] | None:
        """The stored result: plain values and arrays; None if there is none, or none that is whole.

        With `fields`, a result that has others is not taken either.
        """
        path = self.path(job)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._damaged(path, f"cannot be read: {error.strerror}")
            return None
        if hashlib.sha256(content[DIGEST_BYTES:]).digest() != content[:DIGEST_BYTES]:
            self._damaged(path, "its content does not match its digest")
            return None
        try:
            result = record.decode(content[DIGEST_BYTES:])
        except ValueError as error:
            self._damaged(path, f"cannot be read: {error}")
            return None
        if fields is not None and set(result) != set(fields):
            self._damaged(path, "is the result of something else")
            return None
        return result

    def put(self, job: Section, result: Mapping[str, Any]) -> None:
        """Store a result. A reader sees all of it or nothing. Raises `Refused` where it cannot be written."""
        content = record.encode(result)
        part = self.folder / f".{digest(job)}.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(hashlib.sha256(content).digest() + content)
            part.replace(self.path(job))
        except OSError as error:
            raise Refused(f"{self.path(job)}: cannot write: {error.strerror}") from None


def digest(job: Section) -> str:
    """The name of a job's result, hex."""
    named = {"job": type(job).__name__, "settings": job.model_dump(mode="json"), "versions": versions()}
    return hashlib.sha256(b"fl_runtime/v1/cell" + record.canonical_json(named)).hexdigest()


@cache
def versions() -> dict[str, str]:
    """Of Python, of the libraries that compute, and `sources`: a digest of the installed project itself."""
    found = {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    return found | {"sources": sources(Path(fl_runtime.__file__).parents[1])}


def sources(root: Path) -> str:
    """A digest of the project's packages in a folder. Raises `FileNotFoundError` where one of them is not there."""
    mark = hashlib.sha256()
    for package in PACKAGES:
        paths = sorted((root / package).rglob("*.py"))
        if not paths:
            raise FileNotFoundError(f"{root / package} holds no sources")
        for path in paths:
            text = path.read_bytes()
            mark.update(f"{path.relative_to(root).as_posix()}\0{len(text)}\0".encode() + text)
    return mark.hexdigest()[:16]
