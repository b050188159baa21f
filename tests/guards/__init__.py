"""The guards that `tests.mutants` deletes, each with the cases of the threat list it answers and its tests."""

from __future__ import annotations

from tests.guards.additive import GUARDS as ADDITIVE
from tests.guards.audit import GUARDS as AUDIT
from tests.guards.backends import GUARDS as BACKENDS
from tests.guards.evaluation import GUARDS as EVALUATION
from tests.guards.ground import GUARDS as GROUND
from tests.guards.guard import Guard
from tests.guards.leakage import GUARDS as LEAKAGE
from tests.guards.ledger import GUARDS as LEDGER
from tests.guards.masks import GUARDS as MASKS
from tests.guards.native import GUARDS as NATIVE
from tests.guards.noise import GUARDS as NOISE
from tests.guards.sample import GUARDS as SAMPLE
from tests.guards.secaggplus import GUARDS as SECAGGPLUS
from tests.guards.selective import GUARDS as SELECTIVE

GUARDS: tuple[Guard, ...] = (
    *GROUND,
    *BACKENDS,
    *NATIVE,
    *ADDITIVE,
    *MASKS,
    *SECAGGPLUS,
    *SELECTIVE,
    *LEDGER,
    *LEAKAGE,
    *EVALUATION,
    *NOISE,
    *SAMPLE,
    *AUDIT,
)
