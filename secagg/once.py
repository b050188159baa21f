"""What may be done once, remembered outside the session that does it: a copy of an earlier state does not do it again.

A session forgets what it has used, but a copy of its earlier state still has it, and so has a second session for the
same round. What was done is therefore noted in a record that all sessions of a party share: in this process, or in a
folder that every process of the site shares and that outlives them.

Guarantee: of all sessions that share one record, one at most does a thing. A folder that is put back to an
earlier state has forgotten; nothing at the site can tell.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from secagg.errors import Aborted


class Once:
    """The record: in memory, or one empty file for each thing in `folder` (mode 0600, synced)."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._done: set[str] = set()
        self._process = os.getpid()
        if folder is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def first(self, thing: bytes) -> bool:
        """Whether `thing` was not noted before. It is now, on the disk where there is a folder.

        Raises:
            Aborted: it cannot be written down, and so must not be done; or this is a fork, and the record in memory is
                its parent's.
        """
        mark = self._mark(thing)
        if mark in self._done or not self._write(mark):
            return False
        self._done.add(mark)
        return True

    def noted(self, thing: bytes) -> bool:
        """Whether `thing` was noted before."""
        mark = self._mark(thing)
        return mark in self._done or (self._folder is not None and (self._folder / mark).exists())

    def _mark(self, thing: bytes) -> str:
        if os.getpid() != self._process and self._folder is None:
            raise Aborted("this record is another process's, which it was forked from; give it a folder to share it")
        return hashlib.sha256(b"secagg/v1/once" + thing).hexdigest()

    def _write(self, mark: str) -> bool:
        """Whether the mark is new in the folder; it is on the disk when this returns."""
        if self._folder is None:
            return True
        try:
            os.close(os.open(self._folder / mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except FileExistsError:
            return False
        except OSError as error:
            raise Aborted(
                f"{self._folder}: cannot note what may be done only once: {error.strerror}; nothing was sent"
            ) from None
        return True
