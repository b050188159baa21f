"""Attacks on selective encryption: another mask, a message of another length, and what it does not protect."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from he.selective.mask import to_text
from secagg.admission import Policy, admit
from secagg.driver import Letter
from secagg.errors import Aborted, Refused
from secagg.frames import HEADER_BYTES
from secagg.identity import SERVER
from secagg.registry import build
from secagg.spec import RoundSpec
from tests.adversary.federation import TASK, Federation, is_vector

BOTH = pytest.mark.parametrize("name", ["selective", "selective shared key"])
UPLOAD = 4


def mask_of(*places: int) -> str:
    mask = np.zeros(257, bool)
    mask[list(places)] = True
    return to_text(mask)


def test_a_site_takes_part_under_no_mask_but_its_own() -> None:
    """The mask is in the spec's digest, so that the two stand in no sum; a site compares it before that."""
    federation = Federation("selective")
    other = federation.spec().model_dump()
    specs = []
    for places in ((1, 2, 3), (1, 2, 4)):
        backend = build("selective", {"mask": mask_of(*places)}).backend
        specs.append(RoundSpec.model_validate(other | {"parameters": dict(backend.parameters)}))
    assert specs[0].digest != specs[1].digest
    own = build("selective", {"mask": mask_of(1, 2, 3)}).backend
    directory = federation.driver.directory
    assert admit(specs[0], Policy(), directory, task=TASK, backend=own) is specs[0]
    with pytest.raises(Aborted, match="other parameters, than this site's 'selective'"):
        admit(specs[1], Policy(), directory, task=TASK, backend=own)


@pytest.mark.parametrize("parameters", [{"mask": mask_of(1)}, {"layers": "fc.*"}])
def test_a_mask_of_another_model_is_refused_before_anything_starts(parameters: dict[str, str]) -> None:
    federation = Federation("selective", size=256)
    spec = federation.spec()
    with pytest.raises(Refused, match=r"not the mask of 256 coordinates|'fc\.\*' matches no tensor"):
        build("selective", parameters).backend.check(spec)


@BOTH
@pytest.mark.parametrize("size_change", [-8, -4, -1, 1, 4])
def test_c4_a_message_of_another_length_costs_one_client(name: str, size_change: int) -> None:
    federation = Federation(name)
    spec = federation.spec()

    def swap(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == "site-2":
            body = bytes(letter.frame[HEADER_BYTES:])
            body = body[:size_change] if size_change < 0 else body + bytes(size_change)
            yield replace(letter, frame=federation.forge("site-2", SERVER, spec, UPLOAD, body))
        else:
            yield letter

    federation.wire = swap
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {"site-2"})
    assert [error.sender for error in outcome.rejected] == ["site-2"]


@BOTH
def test_a_signed_message_with_a_malformed_ciphertext_adds_neither_half(name: str) -> None:
    federation = Federation(name)
    spec = federation.spec()

    def swap(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == "site-2":
            body = b"\xff" * 2000 + bytes(letter.frame[HEADER_BYTES + 2000 :])
            yield replace(letter, frame=federation.forge("site-2", SERVER, spec, UPLOAD, body))
        else:
            yield letter

    federation.wire = swap
    outcome = federation.round(spec=spec)
    federation.check(outcome, set(federation.names) - {"site-2"})
    assert [error.sender for error in outcome.rejected] == ["site-2"]
