"""What a ledger costs a site each round: `pytest benchmarks/dp/test_ledger_speed.py --benchmark-only`."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from dp.accountant import Charge
from dp.book import Budget
from dp.ledger import Ledger


@pytest.mark.benchmark(group="ledger")
@pytest.mark.parametrize("entries", [1, 1000])
def test_one_charge(benchmark: BenchmarkFixture, tmp_path: Path, entries: int) -> None:
    """With a ledger that has so many charges already."""
    budget = Budget(population="heart", epsilon=1e6, delta=1e-5)
    ledger = Ledger(tmp_path / "site.ledger", "site")

    def spend() -> None:
        ledger.spend(Charge(50.0), budget=budget, run="ab" * 16, round_number=1)

    for _ in range(entries):
        spend()
    benchmark(spend)


@pytest.mark.benchmark(group="ledger")
def test_opening_a_ledger_of_ten_thousand_charges(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    budget = Budget(population="heart", epsilon=1e6, delta=1e-5)
    path = tmp_path / "site.ledger"
    ledger = Ledger(path, "site")
    for number in range(10_000):
        ledger.spend(Charge(50.0), budget=budget, run="ab" * 16, round_number=number)
    benchmark.pedantic(Ledger, (path, "site"), rounds=3)
