"""`secagg plan`: what a run will cost and show, before anybody trains: bytes, seconds, epsilon, who sees what.

Bytes follow from the backend's own formulas, which a test holds equal to what `bench` measures. Seconds are
measured here and now on three small rounds, and straight lines are laid through them, so they speak of this
machine.
"""

from __future__ import annotations

from statistics import median
from typing import Any, Literal

from pydantic import BaseModel, Field

from secagg.bench import Workload, encoding_for, run_bench
from secagg.driver import Driver
from secagg.errors import Refused
from secagg.registry import Composition
from secagg.spec import task_digest
from secagg.vectors import Layout

_CALIBRATION_PARAMS = (40_000, 240_000)
_CALIBRATION_CLIENTS = (3, 9)


class ClientPlan(BaseModel):
    """One client over all rounds."""

    upload_bytes: int
    download_bytes: int
    cpu_s: float


class ServerPlan(BaseModel):
    """The server: CPU over all rounds, memory for the sums of one."""

    cpu_s: float
    memory_bytes: int


class PrivacyPlan(BaseModel):
    """Epsilon at delta after all rounds, for the unit named."""

    unit: str
    epsilon: float
    delta: float
    noise_multiplier: float
    sampling_rate: float
    rounds: int


class Plan(BaseModel):
    """Schema `secagg.plan/1`."""

    schema_: Literal["secagg.plan/1"] = Field("secagg.plan/1", alias="schema")
    backend: str
    params: int
    clients: int
    rounds: int
    client: ClientPlan
    server: ServerPlan
    privacy: PrivacyPlan | None
    sees: dict[str, list[str]]


def make_plan(composition: Composition, *, params: int, clients: int, rounds: int) -> Plan:
    """Plan `rounds` rounds of `params` parameters among `clients` clients. Raises `Refused`."""
    backend = composition.backend
    workload = Workload(params, clients)
    driver = Driver(backend, workload.names())
    # No set-up is run for a plan: the spec is only asked what it costs.
    spec = driver.spec(
        rounds,
        layout=composition.layout(Layout.flat(params)),
        encoding=encoding_for(backend, clients),
        task=task_digest(b"plan"),
    )
    backend.check(spec)
    traffic = backend.traffic(spec)
    client_s, server_s = _measured_seconds(composition, params, clients)
    spent = composition.spent(rounds, clients=clients)
    return Plan(
        backend=composition.name,
        params=params,
        clients=clients,
        rounds=rounds,
        client=ClientPlan(
            upload_bytes=traffic.client_upload * rounds,
            download_bytes=traffic.client_download * rounds,
            cpu_s=client_s * rounds,
        ),
        server=ServerPlan(
            cpu_s=server_s * rounds,
            memory_bytes=traffic.server_memory,
        ),
        privacy=None if spent is None else _privacy(spent),
        sees={party: list(things) for party, things in composition.guarantees.sees.items()},
    )


def _measured_seconds(composition: Composition, params: int, clients: int) -> tuple[float, float]:
    """CPU seconds of one client and of the server in one round, extrapolated from three small ones.

    Straight lines in the parameters and in the clients: some of the server's work is paid once a round.
    """

    def measure(size: int, cohort: int) -> tuple[float, float]:
        try:
            # Each with keys of its own: a key may be for no more rounds than are planned.
            reports = [run_bench(composition, Workload(size, cohort)) for _ in range(3)]
        except Refused as error:
            raise Refused(f"seconds are measured on {size} parameters, which are refused: {error}") from None
        client = median(report.client.protect_cpu_s + report.client.reveal_cpu_s for report in reports)
        return client, median(report.server.total_cpu_s for report in reports)

    small, large = (min(params, size) for size in _CALIBRATION_PARAMS)
    few, more = _CALIBRATION_CLIENTS
    client_small, server_small = measure(small, few)
    client_large, server_large = measure(large, few)
    _, server_more = measure(large, more)
    each = max(0.0, (server_more - server_large) / (more - few))
    once = max(0.0, server_large - few * each)

    def at_full_size(at_small: float, at_large: float) -> float:
        slope = max(0.0, at_large - at_small) / (large - small) if large > small else 0.0
        return at_large + slope * (params - large)

    growth = at_full_size(server_small, server_large) / server_large if server_large else 1.0
    return at_full_size(client_small, client_large), (once + each * clients) * growth


def _privacy(spent: Any) -> PrivacyPlan:
    return PrivacyPlan(**{field: spent[field] for field in PrivacyPlan.model_fields})
