"""A client's masks are burned before they are used, so that no state, however restored, masks two vectors alike.

The difference of two vectors under one mask is a secret laid open. A session forgets its seeds when it masks, but
a copy of its earlier state still holds them. What was used is therefore remembered outside the state: in this
process, or in a folder that every process of the site shares. It goes by the public mask key of the round, from which
all masks between pairs follow.

Guarantee: of all sessions that share one record, one at most masks under a key. A folder that is put back to an
earlier state has forgotten; nothing at the site can tell.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from secagg.errors import Aborted


class BurnedKeys:
    """The record of what was used: in memory, or one empty file for each key in `folder` (mode 0600, synced)."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._burned: set[str] = set()
        if folder is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def burn(self, key: bytes) -> None:
        """Record that `key` is used up. Raises `Aborted` if it was before, or if that cannot be written down (M9)."""
        mark = hashlib.sha256(b"secagg/v1/burned" + key).hexdigest()
        if mark in self._burned or not self._write(mark):
            raise Aborted("these masks were used before: the session was restored twice from one state")
        self._burned.add(mark)

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
            raise Aborted(f"{self._folder}: cannot record a used mask: {error.strerror}; nothing was sent") from None
        return True
