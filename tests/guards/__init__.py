"""The guards that `tests.mutants` deletes, each with the cases of the threat list it answers and its tests."""

from __future__ import annotations

from tests.guards.backends import GUARDS as BACKENDS
from tests.guards.ground import GUARDS as GROUND
from tests.guards.guard import Guard
from tests.guards.ledger import GUARDS as LEDGER

GUARDS: tuple[Guard, ...] = (*GROUND, *BACKENDS, *LEDGER)
