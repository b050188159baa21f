"""What a site has taken part in: it gives each model one update, so that no two sums differ by one client.

A server that has two sums of one model over client sets that differ by one client has that client's update: it
subtracts (arXiv 2106.03328). It need not choose the cohorts so: whom it declares to have vanished is its own say, and
the clients of most backends never learn who survived. A site therefore gives each model one update, whatever the
cohorts of other rounds are; a session that was interrupted goes on from its own stored state, not from here. Across
new models two sums have different updates in them, but of much the same data; where the cohorts differ by few, that is
warned of.

Guarantee: as long as the memory lasts (with a file: also beyond a restart), a server gets one update of this site to
one model. A round that failed before the site contributed may be repeated; one that failed after
it may not, since nobody can show the site that nothing came of it. A file that is rolled back forgets.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from secagg.errors import Aborted, Refused
from secagg.record import Malformed, canonical_json, strict_json
from secagg.spec import RoundSpec


class CloseCohorts(UserWarning):
    """Two sums of different models that a site is part of are over almost the same clients."""


class Participation:
    """One site's memory. `check` before taking part, `enter` before the update leaves.

    Args:
        path: a file that keeps it, one JSON line for each sum; without one it lasts as long as the object.

    Raises:
        Refused: the file cannot be read, or a line of it is none of ours. A last line that was torn is such a line:
            the site then does not know what it has taken part in, and somebody has to look.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._specs: dict[str, str] = {}
        self._cohorts: dict[frozenset[str], int] = {}
        if path is not None and path.exists():
            self._read(path)

    def check(self, spec: RoundSpec, model: str) -> None:
        """Raise `Aborted` if the update to `model` (a digest) was given before. Warns of `CloseCohorts`."""
        known = self._specs.get(model)
        if known is not None:
            raise Aborted(
                "this site has given its update to this very model before: the server chooses who is left out of a "
                "sum, and two sums of one model, under one spec or two, may have difference size 1"
            )
        cohort = _clients(spec)
        for earlier, number in self._cohorts.items():
            if 0 < (size := len(cohort ^ earlier)) < spec.minimum_cohort:
                warnings.warn(
                    f"the cohorts of rounds {number} and {spec.round} differ by {size} of {len(cohort)} clients: the "
                    "difference of their sums is about these alone; keep the cohort, or add differential privacy",
                    CloseCohorts,
                    stacklevel=2,
                )
                return

    def enter(self, spec: RoundSpec, model: str) -> None:
        """Remember that this site's update to `model` goes into the sum of `spec`. On disk before it returns.

        Raises:
            Aborted: as in `check`. Refused: the file cannot be written.
        """
        self.check(spec, model)
        if self._path is not None:
            self._append(self._path, spec, model)
        self._remember(model, spec.digest.hex(), _clients(spec), spec.round)

    def _remember(self, model: str, spec: str, clients: frozenset[str], number: int) -> None:
        self._specs[model] = spec
        self._cohorts[clients] = number

    def _append(self, path: Path, spec: RoundSpec, model: str) -> None:
        fields = {
            "model": model,
            "spec": spec.digest.hex(),
            "round": spec.round,
            "clients": sorted(_clients(spec)),
        }
        try:
            with open(path, "ab") as file:
                file.write(canonical_json(fields) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise Refused(f"{path}: cannot remember what this site takes part in: {error.strerror}") from None

    def _read(self, path: Path) -> None:
        try:
            lines = path.read_bytes().splitlines(keepends=True)
        except OSError as error:
            raise Refused(f"{path}: cannot be read: {error.strerror}") from None
        for number, line in enumerate(lines, start=1):
            try:
                if not line.endswith(b"\n"):
                    raise Malformed("it was torn")
                fields = strict_json(line)
                self._remember(fields["model"], fields["spec"], frozenset(fields["clients"]), fields["round"])
            except (Malformed, KeyError, TypeError) as error:
                raise Refused(f"{path}: line {number} is no record of a sum: {error}") from None


def _clients(spec: RoundSpec) -> frozenset[str]:
    return frozenset(spec.roster.clients.values())
