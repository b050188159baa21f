"""The witness of ledgers: somebody with another disk, who remembers where each site's ledger ended.

A disk that is put back to an older copy holds an older ledger that is a good chain. Only somebody elsewhere can tell.
In each round the server shows a site the last head that it was given, signed for this round; the site refuses to take
part if its ledger never had that head (`Ledger.heed`). Then the site spends and hands in the new head, and only when
the witness has that on disk does the update leave.

Guarantee: after a rollback a site spends nothing, as long as the witness shows it the newest head it was given. A
witness that lost its file, or shows an older head on purpose, protects from nothing; one that invents a head can make a
site refuse, and nothing more. What the witness learns is how many entries the ledger has.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dp.book import Head
from dp.ledger import sync_folder
from secagg.errors import Aborted, Refused, Rejected
from secagg.identity import Identity, PartyId, PublicIdentity
from secagg.record import Malformed, canonical_json, strict_json

_SIGNATURE_BYTES = 64
_DOMAIN = b"dp/v1/witness"


class Witness:
    """Remembers heads in the file `path`, which belongs on another disk than the ledgers, and signs as `identity`.

    Raises:
        Refused: here and below, the file cannot be read or written.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self._path = path
        self._identity = identity
        read_heads(self._path)

    def show(self, site: PartyId, *, run: str, round_number: int) -> bytes:
        """The last head that `site` handed in, signed for this round: signature 64 | canonical JSON."""
        head = read_heads(self._path).get(site, Head())
        body = _body(site, head, run=run, round_number=round_number)
        return self._identity.sign(_DOMAIN + body) + body

    def note(self, site: PartyId, head: Head) -> None:
        """Remember a newer head of `site`, on disk before this returns.

        Raises:
            Rejected: it is older than the one that is known, or another one of the same length.
        """
        try:
            with open(self._path.with_suffix(".lock"), "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                heads = read_heads(self._path)
                known = heads.get(site, Head())
                if head != known and head.entries <= known.entries:
                    raise Rejected(site, f"its ledger has {head.entries} entries and had {known.entries}: rolled back")
                heads[site] = head
                content = canonical_json({name: [known.entries, known.hash] for name, known in heads.items()})
                fresh = self._path.with_suffix(".new")
                with open(fresh, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(self._path)
                sync_folder(self._path.parent)
        except OSError as error:
            raise Refused(f"{self._path}: cannot remember a ledger's head: {error.strerror}") from None


def read_heads(path: Path) -> dict[PartyId, Head]:
    """The heads in a witness's file, by site; none if there is no file yet. Raises `Refused` if it is spoilt."""
    try:
        fields = strict_json(path.read_bytes())
        return {str(name): Head(int(entries), str(mark)) for name, (entries, mark) in fields.items()}
    except FileNotFoundError:
        return {}
    except (OSError, Malformed, AttributeError, TypeError, ValueError) as error:
        raise Refused(f"{path}: cannot read the heads of ledgers: {error}") from None


def open_head(shown: bytes, witness: PublicIdentity, *, site: PartyId, run: str, round_number: int) -> Head:
    """The head that a witness shows a site, for `Ledger.heed`.

    Raises:
        Aborted: the witness did not sign it, or signed it for another site, run or round.
    """
    signature, body = shown[:_SIGNATURE_BYTES], shown[_SIGNATURE_BYTES:]
    if not witness.verify(signature, _DOMAIN + body):
        raise Aborted("the head of this site's ledger is not signed by the witness that it knows")
    try:
        fields = strict_json(body)
        if type(fields["entries"]) is not int or not isinstance(fields["hash"], str):
            raise TypeError("expected a number of entries and a hash")
        head = Head(fields["entries"], fields["hash"])
    except (Malformed, KeyError, TypeError) as error:
        raise Aborted(f"the head of this site's ledger is not readable: {error}") from None
    if body != _body(site, head, run=run, round_number=round_number):
        raise Aborted("the witness shows the head of another site's ledger, or one signed for another round")
    return head


def _body(site: PartyId, head: Head, *, run: str, round_number: int) -> bytes:
    fields = {"site": site, "entries": head.entries, "hash": head.hash, "run": run, "round": round_number}
    return canonical_json(fields)
