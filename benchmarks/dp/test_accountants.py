"""Accountants against each other: `pytest benchmarks/dp/test_accountants.py --benchmark-only`.

Ours (privacy loss distributions on a grid of 1e-4), its library's Renyi divergences, and Opacus' PRV accountant, on
the setting of the literature and on a long run. `epsilon` stands in the extra information of each.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from dp.accountant import Charge, composed_epsilon, solve_noise_multiplier

DELTA = 1e-5
SETTINGS = [(1.0, 10_000, 0.01), (2.0, 1000, 0.05), (4.0, 50, 1.0)]
settings = pytest.mark.parametrize(("noise_multiplier", "steps", "rate"), SETTINGS)


@pytest.mark.benchmark(group="accountant")
@settings
def test_ours(benchmark: BenchmarkFixture, noise_multiplier: float, steps: int, rate: float) -> None:
    charge = Charge(noise_multiplier, steps, rate)
    benchmark.extra_info["epsilon"] = benchmark(composed_epsilon, [charge], delta=DELTA)


@pytest.mark.benchmark(group="accountant")
@settings
def test_renyi(benchmark: BenchmarkFixture, noise_multiplier: float, steps: int, rate: float) -> None:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    def spent() -> float:
        event = PoissonSampledDpEvent(rate, GaussianDpEvent(noise_multiplier))
        return float(RdpAccountant().compose(event, steps).get_epsilon(DELTA))

    benchmark.extra_info["epsilon"] = benchmark(spent)


@pytest.mark.benchmark(group="accountant")
@settings
def test_opacus_prv(benchmark: BenchmarkFixture, noise_multiplier: float, steps: int, rate: float) -> None:
    from opacus.accountants import PRVAccountant

    def spent() -> float:
        accountant = PRVAccountant()
        accountant.history = [(noise_multiplier, rate, steps)]
        return float(accountant.get_epsilon(DELTA))

    benchmark.extra_info["epsilon"] = benchmark(spent)


@pytest.mark.benchmark(group="solver")
@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_solving_for_the_noise(benchmark: BenchmarkFixture, rate: float) -> None:
    found = benchmark.pedantic(
        solve_noise_multiplier, (8.0, DELTA), {"rounds": 50, "sampling_rate": rate}, rounds=3, warmup_rounds=1
    )
    benchmark.extra_info["noise_multiplier"] = found
