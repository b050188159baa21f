"""The ledger that a site keeps: its privacy budget is spent on disk before noise is drawn or an update leaves.

The file only ever grows. Each entry is one `write` and is on disk (`fsync`) before `spend` returns, so that a process
that dies at any point, by `kill -9` or power, has either charged the budget or not sent anything. What it left of a
half-written entry counts as spent (`dp.book`). A lock on the file serialises processes that share it.

Guarantee: whatever was charged before an update left stays charged, as long as the disk keeps what it was told to
keep: no crash refunds anything, and no charge takes a population over its budget. A disk that was put back to an older
copy cannot be told from one that was not by anything on it; `heed` finds it by a head that a witness remembers
(`dp.witness`), and without a witness it is not protected.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from dp.accountant import Charge
from dp.book import BEGINNING, FORMAT, Book, Budget, Head, grant_body, spend_body
from secagg.errors import Aborted, Refused, VerificationFailed
from secagg.identity import PartyId


class Ledger:
    """The ledger of `site` in the file `path`, which is made if there is none.

    Raises:
        Refused: the file cannot be read or written, or is the ledger of another site.
        VerificationFailed: an entry was altered; the message names it. Nothing can be spent from such a ledger.
    """

    def __init__(self, path: Path, site: PartyId) -> None:
        self._path = path
        self._book = Book()
        self._settled = 0
        self._file: tuple[int, int] | None = None
        with self._locked(os.O_CREAT) as file:
            if not self._book.site:
                left = _read(file, 0)
                # A crash may have left the beginning of the first entry. Anything else is somebody's other file.
                if not (BEGINNING.startswith(left[: len(BEGINNING)]) and b"\n" not in left):
                    raise Refused(f"{path}: not a ledger: it has no opening entry; nothing was changed")
                self._append(file, "open", {"format": FORMAT, "site": site, "id": secrets.token_hex(16)})
                sync_folder(path.parent)
        if self._book.site != site:
            raise Refused(f"{path}: it is the ledger of {self._book.site!r}, expected that of {site!r}")

    @property
    def head(self) -> Head:
        """The newest entry that this process knows of."""
        return self._book.head

    def epsilon(self, budget: Budget) -> float:
        """What each unit of the population has spent by now, at the budget's delta."""
        with self._locked():
            return self._book.epsilon(budget)

    def spend(self, charge: Charge, *, budget: Budget, run: str, round_number: int) -> Head:
        """Charge each unit of `budget.population` for what is about to happen in a round; return the new head.

        The first call for a population grants it `budget`, for good. Only when this has returned may noise be drawn
        or an update leave. The same round asked for twice is charged twice: nobody knows what left the first time.

        Raises:
            Aborted: the charge would exceed the budget (D6): the site takes no part.
            Refused: the population has another budget already, or another unit, or the charge cannot be written down.
            VerificationFailed: the file is no longer the one that was read.
        """
        with self._locked() as file:
            account = self._book.accounts.get((budget.population, budget.unit))
            if account is None:
                self._require_one_unit(budget)
                self._append(file, "grant", grant_body(budget))
            elif account.budget != budget:
                raise Refused(
                    f"{self._path}: population {budget.population!r} has the budget epsilon "
                    f"{account.budget.epsilon:g} at delta {account.budget.delta:g}, got epsilon {budget.epsilon:g} at "
                    f"delta {budget.delta:g}; a budget is granted once"
                )
            needed = self._book.epsilon(budget, charge)
            if needed > budget.epsilon:
                raise Aborted(
                    f"the privacy budget of {budget.population!r} is exhausted: this round would make it epsilon "
                    f"{needed:.4g} at delta {budget.delta:g}, of {budget.epsilon:g}; "
                    f"{self._book.epsilon(budget):.4g} is spent"
                )
            self._append(file, "spend", spend_body(budget, charge, run=run, round_number=round_number))
            return self._book.head

    def _require_one_unit(self, budget: Budget) -> None:
        """The epsilon of a client's release does not say what it tells of one of its samples: the two do not add up."""
        other = next((unit for population, unit in self._book.accounts if population == budget.population), None)
        if other is not None:
            raise Refused(
                f"{self._path}: population {budget.population!r} is charged for each {other}, got a charge for each "
                f"{budget.unit}: the two do not add up to one budget; protect one unit in all runs on this data"
            )

    def heed(self, head: Head) -> None:
        """Compare with a head of this ledger that a witness has seen, before spending anything (D5).

        Raises:
            Aborted: this ledger never had that head: it was rolled back, made anew, or rewritten.
        """
        with self._locked():
            if not self._book.holds(head):
                raise Aborted(
                    f"the ledger {self._path} was rolled back or replaced: a witness has seen entry "
                    f"{head.entries - 1} of it with hash {head.hash[:16]}, and it ends with entry "
                    f"{self._book.head.entries - 1}, hash {self._book.head.hash[:16]}"
                )

    @contextlib.contextmanager
    def _locked(self, flags: int = 0) -> Iterator[int]:
        """The file, locked against other processes, with everything read that they have appended."""
        try:
            # Opened each time: a lock belongs to the opening, and a forked child would share it.
            file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)
        except OSError as error:
            raise Refused(f"{self._path}: cannot open the ledger: {error.strerror}") from None
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                raise Refused(f"{self._path}: cannot lock the ledger: {error.strerror}") from None
            self._catch_up(file)
            yield file
        finally:
            os.close(file)

    def _catch_up(self, file: int) -> None:
        state = os.fstat(file)
        known = self._file or (state.st_dev, state.st_ino)
        if (state.st_dev, state.st_ino) != known or state.st_size < self._settled:
            raise VerificationFailed(f"{self._path}: the ledger was replaced or cut while it was in use")
        self._file = known
        try:
            self._settled += self._book.read(_read(file, self._settled))
        except VerificationFailed as error:
            raise VerificationFailed(f"{self._path}: {error}") from None

    def _append(self, file: int, kind: str, body: Mapping[str, object]) -> None:
        """One entry, on disk. What a crash left before it is ended, never taken out."""
        whole = _read(file, max(0, os.fstat(file).st_size - 1)) in (b"", b"\n")
        line = (b"" if whole else b"\n") + self._book.entry(kind, body) + b"\n"
        try:
            if os.write(file, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file)
        except OSError as error:
            raise Refused(f"{self._path}: cannot write to the ledger: {error.strerror}; nothing may leave") from None
        self._catch_up(file)


def read_book(path: Path) -> Book:
    """Read and verify a whole ledger, without changing it.

    Raises:
        Refused: it cannot be read, or holds no entry.
        VerificationFailed: an entry was altered; the message names it.
    """
    book = Book()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: cannot read the ledger: {error.strerror}") from None
    try:
        book.read(data)
    except VerificationFailed as error:
        raise VerificationFailed(f"{path}: {error}") from None
    if not book.site:
        raise Refused(f"{path}: not a ledger: it has no opening entry")
    return book


def _read(file: int, start: int) -> bytes:
    parts = []
    while part := os.pread(file, 1 << 20, start):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def sync_folder(folder: Path) -> None:
    """The name of a new file is on disk only when its folder is."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
