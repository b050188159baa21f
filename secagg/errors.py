"""The error family: every failure a caller can meet, named by what it costs.

| raised                | when                                             | what was lost            |
|-----------------------|--------------------------------------------------|--------------------------|
| `Refused`             | before anything starts: a bad setting or name    | nothing                  |
| `InvalidUpdate`       | at the client: its own vector or weight is bad   | nothing, nothing was sent|
| `Rejected`            | a message from somebody else is not acceptable   | that one message         |
| `Aborted`             | a party stops its part in a round                | the round, no secret     |
| `VerificationFailed`  | evidence on disk does not hold together          | trust in that evidence   |
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SecaggError(Exception):
    """Base of all errors that secagg raises on purpose. `exit_code` is what the command line returns."""

    exit_code = 2


class Refused(SecaggError):
    """A request that will not be started: it names the setting, what was expected, and what was given."""


class InvalidUpdate(SecaggError):
    """A client's own contribution cannot be protected: it names the tensor or the weight."""


class Rejected(SecaggError):
    """A message that was turned away. The sender is named and the round goes on without the message."""

    def __init__(self, sender: str, why: str) -> None:
        super().__init__(f"message from {sender!r} rejected: {why}")
        self.sender = sender
        self.why = why


class Aborted(SecaggError):
    """A party leaves the round because going on could reveal something. It has revealed nothing."""


class VerificationFailed(SecaggError):
    """Stored evidence (a transcript, a run directory) was altered, or cannot be what it claims to be."""

    exit_code = 1


def did_you_mean(given: str, valid: Iterable[str]) -> str:
    """`" (did you mean 'ckks'?)"` for the nearest valid name, or the list of valid names."""
    names = sorted(valid)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else f" (valid: {', '.join(names)})"
