"""D9: audits of the mechanisms as they are. Which bugs make them go red: `tests.guards.planted`."""

from __future__ import annotations

import pytest

from tests.dp.audit.family import FAMILY, QUICK


@pytest.mark.parametrize("name", QUICK)
def test_d9_no_lower_bound_exceeds_its_claim(name: str) -> None:
    """A true claim fails here once in 400 runs at most; with bounds as far under their claims as these, once in 10^6.

    `smpc-quick` is the nearest: 56 right guesses of 64 are needed, 38 are expected, and 4 more or fewer.
    """
    found = FAMILY[name].prepared().run()
    assert found.lower_bound <= found.claim.epsilon, found
