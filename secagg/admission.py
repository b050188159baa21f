"""Admission: the server proposes a spec, and a site decides by its own policy whether to take part.

The minima live with the site. The server may ask for more, never for less (T8, T9).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

from pydantic import Field

from secagg.errors import Aborted, Refused
from secagg.frames import MAX_BODY_BYTES
from secagg.identity import SERVER, Directory, Identity, PublicIdentity
from secagg.protocol import Backend
from secagg.settings import Settings
from secagg.spec import MAX_SPEC_BYTES, MIN_COHORT, RoundSpec

_SIGNATURE_BYTES = 64
_DOMAIN = b"secagg/v1/proposal"


class Policy(Settings):
    """What a site insists on.

    Attributes:
        minimum_cohort: the fewest clients in a sum that this site's update may be part of (3 at least).
        max_colluders: how many participants may pool what they know; the cohort must be 2 larger.
        max_unknown_share: the largest share of clients whose identity is not in this site's directory.
        backends: the backends this site accepts, or empty for any.
        max_parameters: the largest vector it will allocate.
    """

    minimum_cohort: Annotated[int, Field(ge=MIN_COHORT)] = MIN_COHORT
    max_colluders: Annotated[int, Field(ge=0)] = 1
    max_unknown_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    backends: frozenset[str] = frozenset()
    max_parameters: Annotated[int, Field(ge=1)] = 1 << 30


def propose(spec: RoundSpec, server: Identity) -> bytes:
    """The server's signed proposal: signature 64 | spec, canonical JSON."""
    body = spec.to_bytes()
    return server.sign(_DOMAIN + body) + body


def open_proposal(proposal: bytes, directory: Directory) -> RoundSpec:
    """Check the server's signature and parse the spec. Raises `Aborted` or `Refused` (T1, T14, R8)."""
    return _opened(proposal, directory[SERVER])


@lru_cache(maxsize=2)
def _opened(proposal: bytes, server: PublicIdentity) -> RoundSpec:
    """Remembered: a proposal that comes again, or to many clients of one process, is the same spec."""
    if not _SIGNATURE_BYTES < len(proposal) <= _SIGNATURE_BYTES + MAX_SPEC_BYTES:
        raise Refused(f"proposal of {len(proposal)} bytes")
    signature, body = proposal[:_SIGNATURE_BYTES], proposal[_SIGNATURE_BYTES:]
    if not server.verify(signature, _DOMAIN + body):
        raise Aborted("the proposal is not signed by the server that this site knows")
    return RoundSpec.from_bytes(body)


def admit(spec: RoundSpec, policy: Policy, directory: Directory, *, task: str, backend: Backend) -> RoundSpec:
    """Decide whether to take part in `spec`; return it if so.

    Args:
        backend: the one that this site has configured; the spec must name it, with the same parameters.
        task: digest (`secagg.spec.task_digest`) of the model and settings *as this site received them*.

    Raises:
        Aborted: the spec asks for less than the site's policy, swaps somebody's keys, or stands for another
            model than the one that was received (T1, T2, T7, T8, T9, T11). Nothing was revealed.
    """
    if spec.backend != backend.name or dict(spec.parameters) != dict(backend.parameters):
        raise Aborted(f"the spec is for another backend, or other parameters, than this site's {backend.name!r}")
    if spec.phase == "setup" and not backend.has_setup:
        raise Aborted(f"the spec is a set-up, and {backend.name!r} has none")
    if spec.uploads_to != (expected := backend.guarantees.uploads_to):
        raise Aborted(f"uploads_to is {spec.uploads_to!r}, with {backend.name!r} it is {expected!r}")
    backend.check(spec)
    if (upload := backend.traffic(spec).client_upload) > MAX_BODY_BYTES:
        raise Aborted(f"an upload would take {upload} bytes, a frame holds {MAX_BODY_BYTES}")
    needed = max(policy.minimum_cohort, policy.max_colluders + 2)
    if spec.minimum_cohort < needed:
        raise Aborted(f"minimum_cohort is {spec.minimum_cohort}, this site insists on {needed}")
    if policy.backends and spec.backend not in policy.backends:
        raise Aborted(f"backend {spec.backend!r} is not among those this site accepts")
    if spec.layout.size > policy.max_parameters:
        raise Aborted(f"{spec.layout.size} parameters, this site allows {policy.max_parameters}")
    if spec.task != task:
        raise Aborted("the spec stands for another model or other settings than this site received")
    unknown = 0
    for name, _ in sorted(spec.roster.fingerprints.items() - directory.fingerprints.items()):
        if name in directory:
            raise Aborted(f"the spec gives {name!r} another identity than this site knows")
        if name not in spec.roster.clients:
            raise Aborted(f"{name!r} is not in this site's directory of known identities")
        unknown += 1
    share = unknown / len(spec.roster.clients)
    if share > policy.max_unknown_share:
        raise Aborted(
            f"{unknown} of {len(spec.roster.clients)} clients are unknown to this site, "
            f"which accepts a share of {policy.max_unknown_share:g}"
        )
    return spec
