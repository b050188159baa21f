"""`secagg bench`: one round of a backend, measured, on inputs that any other system can be given too.

Inputs are distinct float32 vectors, uniform in [-1, 1], with whole weights 1..20, drawn from a seed. The
sessions are the production ones, authentication included, each with its own keys. Every client's figures are
its own; the report gives their median. Making inputs, imports, set-up and checking are not timed.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from secagg.driver import Driver, Meter, Outcome
from secagg.errors import Refused
from secagg.fixedpoint import FixedPoint
from secagg.identity import SERVER
from secagg.layered import fit_encoding
from secagg.protocol import Backend
from secagg.registry import Composition
from secagg.spec import MIN_COHORT, task_digest
from secagg.vectors import MAX_PARAMETERS, Layout

MAX_WEIGHT = 20
MAX_SIMULATED = 20_000


class ClientFigures(BaseModel):
    """What one client does in the round (median over clients): up to its last byte sent, and from the sum on."""

    protect_cpu_s: float
    protect_wall_s: float
    reveal_cpu_s: float
    upload_bytes_per_param: float


class ServerFigures(BaseModel):
    """Everything the server does; the download is to one client, and to a key holder where there is one."""

    total_cpu_s: float
    total_wall_s: float
    download_bytes_per_param: float


class HelperFigures(BaseModel):
    """All helpers together, bytes in both directions."""

    total_cpu_s: float
    bytes_per_param: float


class Environment(BaseModel):
    """Where it was measured."""

    python: str
    cpu: str
    cores: int
    versions: dict[str, str]


class BenchReport(BaseModel):
    """Schema `secagg.bench/1`. Seconds, bytes a parameter, MiB; with several repeats, medians over them."""

    schema_: Literal["secagg.bench/1"] = Field("secagg.bench/1", alias="schema")
    backend: str
    parameters: dict[str, Any]
    params: int
    clients: int
    dropouts: int
    client: ClientFigures
    server: ServerFigures
    helpers: HelperFigures
    wall_s: float
    peak_rss_mib: float
    max_abs_error: float
    exact: bool
    environment: Environment


@dataclass(frozen=True)
class Workload:
    """The inputs of a benchmark: how many parameters and clients, who vanishes, from which seed."""

    params: int
    clients: int
    dropouts: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.params <= MAX_PARAMETERS:
            raise Refused(f"--params is {self.params}, expected 1 to {MAX_PARAMETERS}")
        if self.clients < MIN_COHORT:
            raise Refused(f"--clients is {self.clients}, the minimum cohort is {MIN_COHORT}")
        if self.clients > MAX_SIMULATED:
            raise Refused(f"--clients is {self.clients}, expected {MAX_SIMULATED} at most in one process")
        if not 0 <= self.dropouts <= self.clients - MIN_COHORT:
            raise Refused(
                f"--dropouts is {self.dropouts}, expected 0 to {self.clients - MIN_COHORT}: "
                f"{MIN_COHORT} of the {self.clients} clients must stay"
            )

    def names(self) -> list[str]:
        return [f"client-{number:05d}" for number in range(self.clients)]

    def contribution(self, name: str, *, uniform_weights: bool) -> tuple[NDArray[np.float32], int]:
        """One client's vector and weight: a function of the seed and its number alone."""
        generator = np.random.default_rng([self.seed, int(name.removeprefix("client-"))])
        vector = generator.random(self.params, np.float32)
        vector *= 2
        vector -= 1
        return vector, 1 if uniform_weights else int(generator.integers(1, MAX_WEIGHT + 1))


def encoding_for(backend: Backend, clients: int, params: int, *, modulus_bits: int = 32) -> FixedPoint:
    """The encoding of the benchmark's inputs: the finest that fits the ring and the backend's sums."""
    uniform = backend.guarantees.uniform_weights
    return fit_encoding(
        backend,
        clients=clients,
        value_bound=1.0,
        size=params,
        max_weight=1 if uniform else MAX_WEIGHT,
        modulus_bits=modulus_bits,
        divisor=clients if uniform else None,
    )


def smallest_cohort(backend: Backend) -> int:
    """The minimum cohort to measure with: more than usual where noise is calibrated to more survivors."""
    return max(MIN_COHORT, backend.parameters.get("survivors") or 0)


def run_bench(
    composition: Composition,
    workload: Workload,
    *,
    repeat: int = 1,
    modulus_bits: int = 32,
    progress: Callable[[], object] = lambda: None,
) -> BenchReport:
    """Run the benchmark; `progress` is called for every contribution made."""
    if composition.training is not None:
        raise Refused(f"bench measures sums; {composition.training.name!r} acts where clients train")
    backend = composition.backend
    names = workload.names()
    driver = Driver(backend, names, minimum_cohort=smallest_cohort(backend))
    layout = composition.layout(Layout.flat(workload.params))
    encoding = encoding_for(backend, workload.clients, layout.size, modulus_bits=modulus_bits)
    driver.set_up(layout=layout, encoding=encoding)
    checker = _Checker(workload, backend, encoding)
    vanished = set(names[len(names) - workload.dropouts :])
    outcomes: list[Outcome] = []
    errors: list[float] = []
    for number in range(1, repeat + 1):

        def source(name: str) -> tuple[NDArray[np.float32], int] | None:
            progress()
            if name in vanished:
                return None
            vector, weight = checker.contribution(name)
            return np.pad(vector, (0, layout.size - vector.size)), weight

        spec = driver.spec(number, layout=layout, encoding=encoding, task=task_digest(b"bench"))
        outcome = driver.round(spec, source)
        errors.append(checker.error(outcome.result.mean()))
        checker.compare(outcome.result.totals)
        outcomes.append(outcome)
    return _report(composition, workload, outcomes, max(errors), exact=checker.exact)


class _Checker:
    """Adds the inputs up in float64, and their encodings in int64, while the first round takes them in."""

    def __init__(self, workload: Workload, backend: Backend, encoding: FixedPoint) -> None:
        self.exact = True
        self._workload = workload
        self._encoding = encoding
        self._uniform = backend.guarantees.uniform_weights
        self._sum = np.zeros(workload.params)
        self._integers = np.zeros(workload.params, np.int64)
        self._weight = 0
        self._seen: set[str] = set()

    def contribution(self, name: str) -> tuple[NDArray[np.float32], int]:
        vector, weight = self._workload.contribution(name, uniform_weights=self._uniform)
        if name not in self._seen:
            self._seen.add(name)
            self._sum += np.multiply(vector, weight, dtype=np.float64)
            self._integers += self._encoding.encode(vector, weight).integers[: vector.size]
            self._weight += weight
        return vector, weight

    def error(self, mean: NDArray[np.float32]) -> float:
        """Largest absolute difference to the float64 mean of the unprotected inputs."""
        divisor = self._encoding.divisor or self._weight
        return float(np.max(np.abs(mean[: self._sum.size] - self._sum / divisor)))

    def compare(self, totals: NDArray[Any]) -> None:
        self.exact = self.exact and bool(np.array_equal(totals[: self._integers.size], self._integers))


def _report(
    composition: Composition, workload: Workload, outcomes: list[Outcome], error: float, *, exact: bool
) -> BenchReport:
    def median(figure: Callable[[Outcome], float]) -> float:
        return statistics.median(figure(outcome) for outcome in outcomes)

    def of_clients(figure: Callable[[Meter], float]) -> float:
        return median(
            lambda outcome: statistics.median(figure(outcome.meters[name]) for name in outcome.result.contributors)
        )

    def of_helpers(figure: Callable[[Meter], float]) -> float:
        return median(lambda outcome: sum(figure(outcome.meters[name]) for name in outcome.spec.roster.helpers))

    def of_server(figure: Callable[[Meter], float]) -> float:
        return median(lambda outcome: figure(outcome.meters[SERVER]))

    def to_holder(outcome: Outcome) -> float:
        holder = outcome.meters.get("holder")
        return holder.received_bytes if holder else 0.0

    size = workload.params
    return BenchReport(
        backend=composition.name,
        parameters=dict(composition.backend.parameters),
        params=size,
        clients=workload.clients,
        dropouts=workload.dropouts,
        client=ClientFigures(
            protect_cpu_s=of_clients(lambda meter: meter.protect_cpu_s),
            protect_wall_s=of_clients(lambda meter: meter.protect_wall_s),
            reveal_cpu_s=of_clients(lambda meter: meter.reveal_cpu_s),
            upload_bytes_per_param=of_clients(lambda meter: meter.sent_bytes) / size,
        ),
        server=ServerFigures(
            total_cpu_s=of_server(lambda meter: meter.protect_cpu_s + meter.reveal_cpu_s),
            total_wall_s=of_server(lambda meter: meter.protect_wall_s + meter.reveal_wall_s),
            download_bytes_per_param=(of_clients(lambda meter: meter.received_bytes) + median(to_holder)) / size,
        ),
        helpers=HelperFigures(
            total_cpu_s=of_helpers(lambda meter: meter.protect_cpu_s + meter.reveal_cpu_s),
            bytes_per_param=of_helpers(lambda meter: meter.sent_bytes + meter.received_bytes) / size,
        ),
        wall_s=median(lambda outcome: outcome.wall_s),
        peak_rss_mib=peak_rss_mib(),
        max_abs_error=error,
        exact=exact,
        environment=environment(),
    )


def peak_rss_mib() -> float:
    """The most memory that this process has held, and each of its present worker processes beside it, added up, MiB.

    Of a worker, the pages that back files or are shared are left out: libraries are mapped here as well. Peaks need not
    have been at one time. From /proc where there is one: `ru_maxrss` of a fresh process starts at its parent's.
    """
    try:
        children = [pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
        own = _memory_kib("self")["VmHWM"]
        workers = [_memory_kib(pid) for pid in children]
        return (own + sum(kib["VmHWM"] - kib["RssFile"] - kib["RssShmem"] for kib in workers)) / 1024
    except (OSError, KeyError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _memory_kib(process: str) -> dict[str, int]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    fields = (line.partition(":")[::2] for line in lines if line.endswith(" kB"))
    return {name: int(size.removesuffix(" kB")) for name, size in fields}


def environment(*, libraries: Mapping[str, str] | None = None) -> Environment:
    """Python, processor, cores, and the versions of the libraries that do the work."""
    names = ("secagg", "numpy", "cryptography", "tenseal", "dp-accounting")
    return Environment(
        python=platform.python_version(),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        versions={name: version(name) for name in names} | dict(libraries or {}),
    )


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()
