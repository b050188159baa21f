"""What a guard is, for the mutation rule."""

from __future__ import annotations

from dataclasses import dataclass

WIRE = "tests/adversary/test_wire.py"
COHORT = "tests/adversary/test_cohort.py"
SMPC = "tests/adversary/test_smpc.py"
SMPC_LOSSES = "tests/adversary/test_smpc_losses.py"
SMPC_THRESHOLD = "tests/adversary/test_smpc_threshold.py"
SECAGGPLUS = "tests/adversary/secaggplus"
SECAGGPLUS_UNITS = "tests/smpc/secaggplus"
CKKS = "tests/adversary/test_ckks.py"
OPENINGS = "tests/adversary/test_openings.py"
SEEDS = "tests/adversary/test_seeds.py"
BFV = "tests/adversary/test_bfv.py"
VERIFIED = "tests/adversary/test_verified.py"
NATIVE = "tests/adversary/test_native.py"
WORKERS = "tests/he/test_workers.py"
BFV_ENGINE = "tests/he/test_bfv.py"
ACCOUNTANT = "tests/dp/test_accountant.py"
MASKS = "tests/smpc/masks"


@dataclass(frozen=True)
class Guard:
    """`code` stands once in `file`; with `instead` in its place one of `tests` must fail."""

    name: str
    cases: tuple[str, ...]
    file: str
    code: str
    instead: str
    tests: tuple[str, ...]
