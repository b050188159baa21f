"""What a backend promises, as data: one record that the command line, reports and refusals all read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Guarantees:
    """The claims of one backend under its parameters. Sentences are in plain words and name their limits.

    Attributes:
        protection: what hides a single update, in one line.
        adversary: "none" (no protection claimed), "passive", or "active".
        collusion: which parties may pool what they see without learning a single update.
        alpha: the fewest clients in any sum that somebody learns; a spec's minimum cohort can only raise it. 1
            means that single updates are seen.
        sees: for each kind of party what it learns beyond public settings.
        key_holder: who could decrypt.
        dropouts: what happens when a client or helper vanishes.
        exactness: how the revealed sum differs from the true one.
        two_specs: what a server gets that shows two clients two specs (Pasquini et al. 2021).
        uploads_to: the party that clients address and sign their contributions to: the server, or a helper by name.
        result_at: where the sum appears.
        sum_only: True if single updates are never available, so that a median or Krum is refused.
        uniform_weights: True if every weight must be 1 and the divisor public (under DP).
        privacy: the DP unit, adjacency and noise, or None where no DP is claimed.
        limitations: what is *not* protected.
        experimental: why not to rely on it yet, or None.
    """

    protection: str
    adversary: Literal["none", "passive", "active"]
    collusion: str
    alpha: int
    sees: Mapping[str, tuple[str, ...]]
    key_holder: str
    dropouts: str
    exactness: str
    two_specs: str
    uploads_to: str = "server"
    result_at: Literal["server", "clients"] = "server"
    sum_only: bool = True
    uniform_weights: bool = False
    privacy: Mapping[str, Any] | None = None
    limitations: tuple[str, ...] = field(default=())
    experimental: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json` and data sheets."""
        return asdict(self)
