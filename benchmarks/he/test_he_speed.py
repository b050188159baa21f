"""Encrypt, add and open, scheme by scheme, without sessions around them: `pytest benchmarks/he --benchmark-only`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.he.against_peer import OURS
from he import workers
from he.backend import EncryptedSum
from he.scheme import Scheme
from secagg.bench import encoding_for
from secagg.driver import Driver
from secagg.protocol import Backend
from secagg.registry import build
from secagg.spec import RoundSpec, task_digest
from secagg.vectors import Layout

PARAMETERS = 200_000
CLIENTS = ["a", "b", "c"]


@dataclass
class Subject:
    """A scheme with keys, the integers of one client, and specs of rounds that have not been."""

    scheme: Scheme
    secret: bytes
    key: bytes
    values: NDArray[np.int32]
    driver: Driver
    rounds: Any

    def spec(self) -> RoundSpec:
        encoding = encoding_for(self.driver.backend, len(CLIENTS))
        layout = Layout.flat(PARAMETERS)
        return self.driver.spec(next(self.rounds), layout=layout, encoding=encoding, task=task_digest(b"bench"))

    def encrypt(self) -> bytes:
        return b"".join(self.scheme.encryptor(self.key, clients=len(CLIENTS)).encrypt(self.values))


@pytest.fixture(autouse=True)
def _one_process() -> Iterator[None]:
    workers.use(0)
    yield
    workers.use(None)


@pytest.fixture(scope="module", params=OURS.values(), ids=OURS)
def subject(request: pytest.FixtureRequest) -> Subject:
    name, parameters = request.param
    backend: Backend = build(name, parameters).backend
    assert isinstance(backend, EncryptedSum)
    secret, public = backend.scheme.generate()
    exported = secret.local().for_state()
    key = public.to_bytes() if public is not None and not backend.shared else exported
    encoding = encoding_for(backend, len(CLIENTS))
    length = encoding.length(PARAMETERS)
    values = np.random.default_rng(0).integers(-1000, 1000, length, np.int32)
    return Subject(backend.scheme, exported, key, values, Driver(backend, CLIENTS), itertools.count(1))


@pytest.mark.benchmark(group="encrypt")
def test_encrypt(benchmark: BenchmarkFixture, subject: Subject) -> None:
    assert len(benchmark(subject.encrypt)) == subject.scheme.fresh_bytes(subject.values.size)


@pytest.mark.benchmark(group="add")
def test_add(benchmark: BenchmarkFixture, subject: Subject) -> None:
    body, total = subject.encrypt(), subject.scheme.empty_sum(subject.values.size)
    benchmark(total.fold, body)
    assert total.count


@pytest.mark.benchmark(group="open")
def test_open(benchmark: BenchmarkFixture, subject: Subject) -> None:
    total = subject.scheme.empty_sum(subject.values.size)
    for _ in CLIENTS:
        total.fold(subject.encrypt())

    def fresh() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (subject.scheme.decryptor(subject.secret, subject.spec(), rng=subject.driver.party("a").rng),), {}

    def opened(decryptor: Any) -> NDArray[np.int64]:
        return decryptor.decrypt(total.to_bytes(), length=subject.values.size, clients=len(CLIENTS))

    assert np.array_equal(benchmark.pedantic(opened, setup=fresh, rounds=5), len(CLIENTS) * subject.values)
