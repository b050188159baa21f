"""The book of a site: entries chained by hash, and what they add up to. It is read here; `dp.ledger` writes it.

One JSON object a line, each with the hash of the one before:

    {"body": {...}, "hash": "<of the rest>", "index": 3, "kind": "spend", "previous": "<hash of entry 2>", "torn": []}

    open     format, site, and 16 random bytes that tell this ledger from another of the same site
    grant    what a population may be charged: unit, epsilon, delta
    spend    one charge: population, unit, noise multiplier, steps, sampling rate, and the run and round it was for

A line that is no entry is what a crash left of one. What it was to charge nobody knows, so it counts, for every
population, as one more of the costliest charge that this population was ever asked for. The next entry names such
lines by hash (`torn`), so that they cannot be taken out later either.

Guarantee: an edited, dropped, inserted or reordered entry is found, unless all that follows was written anew. The chain
is not signed: whoever can write the file can build another one, and an older copy of it is a good chain too. Both are
found by a head that somebody else remembers (`dp.witness`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from dp.accountant import LEDGER_STEP, Charge, composed_epsilon
from secagg.errors import Refused, VerificationFailed
from secagg.record import Malformed, canonical_json, strict_json
from secagg.settings import Settings, read_settings

FORMAT = "secagg.ledger/1"
BEGINNING = b'{"body":{"format":"%s"' % FORMAT.encode()
GENESIS = "0" * 64
_HASH = re.compile(r"[0-9a-f]{64}")
_DOMAIN = b"dp/v1/ledger"
_FIELDS = {"body", "hash", "index", "kind", "previous", "torn"}
Unit = Literal["client", "sample"]


class Budget(Settings):
    """What each unit of a population may be charged in all: `epsilon` at `delta`.

    `population` names whose data it is, such as "heart-disease": all runs on the same data share one name, hence one
    budget. `unit` is the whole site ("client") or one row of its data ("sample").
    """

    population: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    epsilon: Annotated[float, Field(gt=0)]
    delta: Annotated[float, Field(gt=0, lt=1)]
    unit: Unit = "client"


@dataclass(frozen=True)
class Head:
    """Where a chain ends: how many entries it has, and the hash (hex) of the last, which stands for all of them."""

    entries: int = 0
    hash: str = GENESIS


@dataclass
class Account:
    """One population and unit: its budget, and the charges in their order."""

    budget: Budget
    charges: list[Charge] = field(default_factory=list)


class Book:
    """The chain as far as it was read, and its sums. `read` takes what was appended since.

    Attributes:
        site: whose ledger it is, "" before the first entry.
        accounts: by population and unit.
        torn: how many lines are what a crash left of an entry; all of them count.
    """

    def __init__(self) -> None:
        self.site = ""
        self.accounts: dict[tuple[str, str], Account] = {}
        self._hashes: list[str] = []
        self._ended = True
        self._named = 0
        self._torn: list[str] = []

    @property
    def head(self) -> Head:
        return Head(len(self._hashes), self._hashes[-1]) if self._hashes else Head()

    @property
    def torn(self) -> int:
        return self._named + len(self._torn)

    def holds(self, head: Head) -> bool:
        """Whether this chain had that head once, or has it now."""
        if head.entries < 1:
            return head == Head()
        return head.hash in self._hashes[head.entries - 1 : head.entries]

    def epsilon(self, budget: Budget, *further: Charge) -> float:
        """What each unit has spent at the budget's delta, torn lines included, and `further` charges with it."""
        account = self.accounts.get((budget.population, budget.unit))
        charges = [*(account.charges if account else ()), *further]
        if not charges:
            return 0.0
        if self.torn:
            # A torn line may have been any of them: it counts as the costliest.
            alone = {charge: _epsilon([charge], budget) for charge in set(charges)}
            charges += [max(alone, key=alone.__getitem__)] * self.torn
        return _epsilon(charges, budget)

    def read(self, data: bytes) -> int:
        """Take what stands behind the last entry, and return how many bytes of it are settled.

        Lines behind the newest entry that are none count as torn, and are read again next time.

        Raises:
            VerificationFailed: an entry does not follow the one before; the message names it.
        """
        self._torn, settled, start = [], 0, 0
        if not self._ended and data.startswith(b"\n"):
            start = 1  # the end of an entry that was written but for its last byte
        while start < len(data):
            end = data.find(b"\n", start) + 1 or len(data)
            line = data[start:end].removesuffix(b"\n")
            entry = _parse(line)
            if entry is None:
                self._torn.append(hashlib.sha256(line).hexdigest())
            else:
                self._take(entry)
                self._ended = data[end - 1 : end] == b"\n"
                settled = end
            start = end
        return settled

    def entry(self, kind: str, body: Mapping[str, Any]) -> bytes:
        """The line of a next entry, without its end. It is not taken into the book: what is on disk is read back."""
        fields = {
            "index": len(self._hashes),
            "previous": self.head.hash,
            "kind": kind,
            "body": dict(body),
            "torn": self._torn,
        }
        return canonical_json(fields | {"hash": _digest(fields)})

    def _take(self, entry: Mapping[str, Any]) -> None:
        place = len(self._hashes)
        if entry["index"] != place or entry["previous"] != self.head.hash:
            raise VerificationFailed(f"entry {place}: the chain is broken: it does not follow the line before")
        if entry["torn"] != self._torn:
            raise VerificationFailed(f"entry {place}: the lines before it are not those that it followed")
        if (entry["kind"] == "open") != (place == 0):
            raise VerificationFailed(f"entry {place}: expected entry 0, and no other, to open the ledger")
        try:
            self._add(entry["kind"], entry["body"])
        except (KeyError, TypeError, Refused) as error:
            raise VerificationFailed(f"entry {place}: not an entry of a ledger: {error}") from None
        self._hashes.append(entry["hash"])
        self._named += len(self._torn)
        self._torn = []

    def _add(self, kind: str, body: Mapping[str, Any]) -> None:
        if kind == "open" and body["format"] == FORMAT:
            self.site = str(body["site"])
        elif kind == "grant":
            budget = read_settings(Budget, body, where="grant")
            if self.accounts.setdefault((budget.population, budget.unit), Account(budget)).budget != budget:
                raise Refused("a second budget for one population")
        elif kind == "spend":
            charge = Charge(body["noise_multiplier"], body["steps"], body["sampling_rate"])
            self.accounts[body["population"], body["unit"]].charges.append(charge)
        else:
            raise Refused(f"its kind is {kind[:80]!r}")


def _epsilon(charges: list[Charge], budget: Budget) -> float:
    return composed_epsilon(charges, delta=budget.delta, finest_step=LEDGER_STEP)


def grant_body(budget: Budget) -> dict[str, Any]:
    """The body of a `grant`."""
    return budget.model_dump()


def spend_body(budget: Budget, charge: Charge, *, run: str, round_number: int) -> dict[str, Any]:
    """The body of a `spend`."""
    return {
        "population": budget.population,
        "unit": budget.unit,
        "run": run,
        "round": round_number,
        **asdict(charge),
    }


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(_DOMAIN + canonical_json(fields)).hexdigest()


def _parse(line: bytes) -> dict[str, Any] | None:
    """The entry on a line, or None where it is not a whole one."""
    try:
        entry = strict_json(line)
    except Malformed:
        return None
    match entry:
        case {"hash": str() as mark, "kind": str(), "body": dict(), "torn": list()} if set(entry) == _FIELDS:
            rest = {name: value for name, value in entry.items() if name != "hash"}
            if _HASH.fullmatch(mark) and _digest(rest) == mark:
                return dict(entry)
    return None
