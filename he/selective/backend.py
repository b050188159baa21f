"""`selective`: only some coordinates are encrypted, the others travel in the clear (FedML-HE, Jin et al. 2023).

A defence against reconstruction from single updates, and **not secure aggregation**: the server reads the coordinates
outside the mask of every client, in every round. What these give away is to be measured, by attacks that know the
mask; Gu et al. 2025 (arXiv 2508.04155) find no choice of coordinates that is best against all attacks they tried.

Roles, steps, key modes and presets are those of the scheme inside, `ckks` or `bfv` (`he.ckks.backend`); a message
is the one of `he.selective.scheme`. The mask (`he.selective.mask`) is one for all clients and rounds and stands in the
parameters, which are part of the spec and its digest: a client that was given another mask stands in no sum.

Guarantee: that of the scheme inside for the coordinates in the mask. None for the others, nor for the weight, which an
open coordinate of known value gives away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from he.backend import EncryptedSum, KeyedParameters
from he.bfv.backend import Bfv, BfvSettings
from he.ckks.backend import Ckks, CkksParameters
from he.ckks.flooded.flooding import MIN_BITS
from he.selective.mask import Mask, from_text, of_layers, spread
from he.selective.scheme import SelectiveScheme, encrypted_part
from secagg.errors import Refused
from secagg.guarantees import Guarantees
from secagg.identity import PartyId
from secagg.once import Once
from secagg.protocol import Party, Session, Traffic
from secagg.settings import Settings, read_settings
from secagg.spec import RoundSpec
from secagg.vectors import Layout

IN_THE_CLEAR = "the coordinates outside the mask of every single update, in the clear"


class SelectiveParameters(Settings):
    """Parameters of `selective`: the scheme inside with its own, and one way to say the mask.

    Attributes:
        scheme: what encrypts the coordinates in the mask.
        key_mode, acknowledge_shared_key, preset: see that scheme.
        flooding_bits, query_budget: of use to `ckks` with a holder only.
        layers: encrypt the tensors that these patterns match, such as "conv1.*, fc.bias".
        mask: encrypt these coordinates: text of `he.selective.mask.to_text`.
        fraction: where neither is given, encrypt this share, evenly spread; below 1 it is for measuring costs.
    """

    scheme: Literal["ckks", "bfv"] = "ckks"
    key_mode: Literal["holder", "shared"] = "holder"
    acknowledge_shared_key: bool = False
    preset: str = ""
    flooding_bits: int = MIN_BITS
    query_budget: int = 500
    layers: str = ""
    mask: str = ""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0


class Selective:
    """The backend; see the module's text."""

    kind: ClassVar[Literal["sum"]] = "sum"
    Parameters: ClassVar[type[Settings]] = SelectiveParameters
    name = "selective"
    has_setup = True

    def __init__(self, parameters: SelectiveParameters) -> None:
        if [bool(parameters.layers), bool(parameters.mask), parameters.fraction < 1].count(True) > 1:
            raise Refused("backend 'selective': layers, mask and fraction each say what is encrypted; give one of them")
        if parameters.scheme == "bfv" or parameters.key_mode == "shared":
            for field in ("flooding_bits", "query_budget"):
                if getattr(parameters, field) != SelectiveParameters.model_fields[field].default:
                    raise Refused(f"backend 'selective': {field} is for scheme 'ckks' with a key holder; leave it out")
        self._chosen = parameters
        self._inner = _inner(parameters)
        self.sum_bits = self._inner.sum_bits
        self.opened = Once()
        self.parameters: Mapping[str, Any] = parameters.model_dump() | {"preset": self._inner.parameters["preset"]}

    @property
    def guarantees(self) -> Guarantees:
        inner = self._inner.guarantees
        return replace(
            inner,
            protection=f"a defence, not secure aggregation: {self._said} encrypted, all others in the clear; "
            f"of the encrypted ones: {inner.protection}",
            adversary="none",
            collusion=f"the server alone reads {IN_THE_CLEAR}; of the encrypted ones: {inner.collusion}",
            alpha=1,
            sees={**inner.sees, "server": (IN_THE_CLEAR, *inner.sees["server"])},
            sum_only=False,
            limitations=(
                "the coordinates outside the mask are seen in the clear by the server, in every round",
                "which coordinates are sensitive is an estimate: nothing is proven of what the others tell",
                "an open coordinate is a value times the weight: where the value is known or clipped, so is the weight",
                *inner.limitations,
            ),
        )

    @property
    def _said(self) -> str:
        """What is encrypted, in words."""
        chosen = self._chosen
        if chosen.layers:
            return f"the tensors {chosen.layers}"
        if chosen.mask:
            return "the coordinates of a mask"
        if chosen.fraction == 1:
            return "all coordinates, as no mask is given,"
        return f"{100 * chosen.fraction:.4g} % of the coordinates, one at least, evenly spread,"

    def mask(self, layout: Layout) -> Mask:
        """Which coordinates are encrypted, bool of shape `(layout.size,)`. Raises `Refused` if it does not fit."""
        chosen = self._chosen
        if chosen.layers:
            return of_layers(chosen.layers, layout)
        if chosen.mask:
            return from_text(chosen.mask, size=layout.size)
        return spread(chosen.fraction, layout.size)

    def helpers(self) -> Sequence[PartyId]:
        return self._inner.helpers()

    def check(self, spec: RoundSpec) -> None:
        if spec.encoding.rotation is not None:
            raise Refused(
                "selective: the encoding rotates: every coordinate would carry some of what is to be encrypted"
            )
        self._inner.check(encrypted_part(spec, self.mask(spec.layout)))

    def traffic(self, spec: RoundSpec) -> Traffic:
        return self._around(spec).traffic(spec)

    def session(self, spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        sessions = self._inner if spec.phase == "setup" else self._around(spec)
        return sessions.session(spec, party, setup=setup, state=state)

    def _around(self, spec: RoundSpec) -> EncryptedSum:
        """The encrypted sum of this round, whose ciphertexts carry the other coordinates with them."""
        scheme = SelectiveScheme(self._inner.scheme, self.mask(spec.layout), spec.encoding)
        chosen = self._chosen
        keyed = KeyedParameters(key_mode=chosen.key_mode, acknowledge_shared_key=chosen.acknowledge_shared_key)
        messages = _Messages(keyed, scheme)
        messages.opened = self.opened
        return messages


class _Messages(EncryptedSum):
    """Sessions and traffic of the rounds."""

    name = Selective.name


def _inner(parameters: SelectiveParameters) -> Ckks | Bfv:
    """The backend of the scheme inside, with those of the parameters that it knows."""
    where = f"backend {Selective.name!r}"
    fields = parameters.model_dump(include={"key_mode", "acknowledge_shared_key"})
    if parameters.preset:
        fields["preset"] = parameters.preset
    if parameters.scheme == "bfv":
        return Bfv(read_settings(BfvSettings, fields, where=where))
    fields |= parameters.model_dump(include={"flooding_bits", "query_budget"})
    return Ckks(read_settings(CkksParameters, fields, where=where))
