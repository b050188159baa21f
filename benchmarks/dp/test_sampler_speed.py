"""Discrete Gaussian draws a second, against opendp's exact sampler: `pytest benchmarks/dp --benchmark-only`.

Both draw from the operating system's randomness. opendp is a comparison only and is skipped where it is missing.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from secagg.gaussian import discrete_gaussian

SIGMAS = [0.5, 1.0, 10.0, 1e3, 1e5, 1e9, 2.0**40]
DRAWS = 1_000_000
OPENDP_DRAWS = 20_000


@pytest.mark.benchmark(group="sampler")
@pytest.mark.parametrize("sigma", SIGMAS)
def test_ours(benchmark: BenchmarkFixture, sigma: float) -> None:
    benchmark.extra_info["draws"] = DRAWS
    assert benchmark(discrete_gaussian, sigma, DRAWS).size == DRAWS


@pytest.mark.benchmark(group="sampler")
@pytest.mark.parametrize("sigma", [10.0, 1e3, 1e5])
def test_opendp(benchmark: BenchmarkFixture, sigma: float) -> None:
    opendp = pytest.importorskip("opendp.prelude")
    opendp.enable_features("contrib")
    space = opendp.vector_domain(opendp.atom_domain(T=int)), opendp.l2_distance(T=int)
    sampler = opendp.m.make_gaussian(*space, scale=sigma)
    benchmark.extra_info["draws"] = OPENDP_DRAWS
    zeros = [0] * OPENDP_DRAWS
    assert len(benchmark.pedantic(sampler, (zeros,), rounds=5)) == OPENDP_DRAWS
