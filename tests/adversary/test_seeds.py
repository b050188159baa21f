"""Under a shared key, the second polynomial of a record follows from its seed: no two records have one (C8)."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from he.rounds import UPLOAD
from secagg.driver import Letter
from secagg.frames import HEADER_BYTES
from secagg.identity import SERVER
from tests.adversary.federation import Federation, is_vector


@pytest.mark.parametrize("name", ["ckks shared key", "bfv shared key"])
def test_c8_a_client_with_another_clients_seed_is_rejected(name: str) -> None:
    """site-2 sends site-1's ciphertexts as its own, properly signed; so does a client that was cloned with site-1."""
    federation = Federation(name)
    spec = federation.spec()
    bodies: list[bytes] = []

    def wire(letter: Letter) -> Iterable[Letter]:
        if is_vector(letter) and letter.sender == "site-1":
            bodies.append(bytes(letter.frame[HEADER_BYTES:]))
        if is_vector(letter) and letter.sender == "site-2":
            return (Letter("site-2", SERVER, federation.forge("site-2", SERVER, spec, UPLOAD, bodies[0])),)
        return (letter,)

    federation.wire = wire
    outcome = federation.round(spec=spec)
    assert [rejected.sender for rejected in outcome.rejected] == ["site-2"]
    assert "a seed that another client's record has" in str(outcome.rejected[0])
    federation.check(outcome, [site for site in federation.names if site != "site-2"])
