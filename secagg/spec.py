"""`RoundSpec`: everything a round agrees on before it starts, and its digest, which is bound into everything.

The digest enters every key derivation, every tag and every signature of the round. A server that shows two
clients two specs has therefore started two rounds that cannot be added up (Pasquini et al. 2021,
arXiv 2111.07380); what becomes of them is stated per backend in `Guarantees.two_specs`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from secagg.errors import Refused
from secagg.fixedpoint import FixedPoint
from secagg.identity import SERVER, PartyId, check_party_id
from secagg.record import Malformed, canonical_json, strict_json
from secagg.settings import read_settings
from secagg.vectors import Layout

MIN_COHORT = 3
MAX_CLIENTS = 1 << 20
MAX_SPEC_BYTES = 64 << 20
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Roster(BaseModel):
    """Who takes part, by name, with the fingerprints (hex) of their identities."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    server: Hex32
    clients: Annotated[dict[PartyId, Hex32], Field(min_length=1, max_length=MAX_CLIENTS)]
    helpers: Annotated[dict[PartyId, Hex32], Field(max_length=64)] = {}

    def model_post_init(self, context: Any) -> None:
        for name in [*self.clients, *self.helpers]:
            if check_party_id(name) == SERVER:
                raise Refused(f"roster: {SERVER!r} is the name of the server")
        both = sorted(set(self.clients) & set(self.helpers))
        if both:
            raise Refused(f"roster: {both[0]!r} is a client and a helper")
        keys = [self.server, *self.clients.values(), *self.helpers.values()]
        if len(set(keys)) != len(keys):
            raise Refused("roster: two parties have the same identity")

    @cached_property
    def fingerprints(self) -> Mapping[PartyId, bytes]:
        """Every party's identity fingerprint, the server's included."""
        everybody = {SERVER: self.server, **self.clients, **self.helpers}
        return {name: bytes.fromhex(value) for name, value in everybody.items()}

    @cached_property
    def client_set(self) -> frozenset[PartyId]:
        """The clients' names."""
        return frozenset(self.clients)

    @cached_property
    def client_names(self) -> tuple[PartyId, ...]:
        """The clients' names, sorted: their order in every set that travels as bits."""
        return tuple(sorted(self.clients))

    @cached_property
    def client_places(self) -> Mapping[PartyId, int]:
        """Where each client stands in `client_names`."""
        return {name: place for place, name in enumerate(self.client_names)}

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over names, roles and fingerprints."""
        return hashlib.sha256(b"secagg/v1/roster" + canonical_json(self.model_dump())).hexdigest()


class RoundSpec(BaseModel):
    """One round (or one set-up) as the server proposes it. See the module's text.

    Attributes:
        run, round, phase: which; set-up is round 0.
        backend, parameters: the registered name and its full, resolved parameters.
        roster: who takes part.
        uploads_to: whom clients sign their contributions to: the server, or a helper of the roster.
        minimum_cohort: the fewest clients in a sum that anybody may learn; never below 3.
        layout, encoding: what the vector means and how it becomes integers.
        task: SHA-256 (hex) of every byte and setting from the server that can influence an update.
        setup: SHA-256 (hex) of what set-up agreed on, or "" for backends without set-up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    version: Annotated[int, Field(ge=1, le=1)] = 1
    run: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    round: Annotated[int, Field(ge=0, le=1 << 32)]
    phase: Literal["setup", "round"] = "round"
    backend: Annotated[str, Field(pattern=r"^[a-z0-9-]+(\+[a-z0-9-]+)*$", max_length=128)]
    parameters: Annotated[dict[str, str | int | float | bool | None], Field(max_length=64)] = {}
    roster: Roster
    uploads_to: PartyId = SERVER
    minimum_cohort: Annotated[int, Field(le=MAX_CLIENTS)] = MIN_COHORT
    layout: Layout
    encoding: FixedPoint
    task: Hex32
    setup: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""

    def model_post_init(self, context: Any) -> None:
        clients = len(self.roster.clients)
        if self.minimum_cohort < MIN_COHORT:
            raise Refused(f"minimum_cohort is {self.minimum_cohort}, expected {MIN_COHORT} at least")
        if clients < self.minimum_cohort:
            raise Refused(f"{clients} clients take part, the minimum cohort is {self.minimum_cohort}")
        if self.uploads_to != SERVER and self.uploads_to not in self.roster.helpers:
            raise Refused(f"uploads_to is {self.uploads_to!r}, expected {SERVER!r} or a helper of the roster")
        if self.encoding.clients < clients:
            raise Refused(f"the encoding is proven for {self.encoding.clients} clients, the roster has {clients}")

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that stand for the whole spec."""
        fields = self.model_dump(mode="json", exclude={"roster"})
        fields["roster"] = self.roster.digest
        return hashlib.sha256(b"secagg/v1/spec" + canonical_json(fields)).digest()

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes) -> RoundSpec:
        """Parse a spec that came from outside. Raises `Refused`, naming the field."""
        if len(data) > MAX_SPEC_BYTES:
            raise Refused(f"spec of {len(data)} bytes, at most {MAX_SPEC_BYTES} expected")
        try:
            fields = strict_json(data)
        except Malformed as error:
            raise Refused(f"spec: {error}") from None
        if not isinstance(fields, dict):
            raise Refused("spec: expected a JSON object")
        return read_settings(cls, fields, where="spec")


def task_digest(*parts: bytes) -> str:
    """The `task` of a spec: SHA-256 (hex) over length-prefixed parts (model bytes, settings, ...)."""
    digest = hashlib.sha256(b"secagg/v1/task")
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
