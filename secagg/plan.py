"""`secagg plan`: what a run will cost and show, before anybody trains: bytes, seconds, epsilon, who sees what.

Bytes follow from the backend's own formulas, which a test holds equal to what `bench` measures. Seconds are
measured here and now on small rounds, in the smallest cohort that the parameters allow and in a larger one, and
straight lines are laid through them, so they speak of this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

from pydantic import BaseModel, Field

from secagg.bench import Workload, encoding_for, run_bench, smallest_cohort
from secagg.driver import Driver
from secagg.errors import Refused
from secagg.registry import Composition, build
from secagg.spec import MIN_COHORT, RoundSpec, task_digest
from secagg.vectors import Layout

_CALIBRATION_PARAMS = (40_000, 240_000)
_LARGE_COHORT = 9


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


@dataclass(frozen=True)
class LocalWork:
    """What a client does between two sums, where privacy is spent on it: its rows, batches and steps a round."""

    rows: int
    batch_size: int
    steps: int


def make_plan(
    composition: Composition, *, params: int, clients: int, rounds: int, work: LocalWork | None = None
) -> Plan:
    """Plan `rounds` rounds of `params` parameters among `clients` clients. Raises `Refused`.

    `work` is for backends that act where clients train, and for no others. Their seconds are without training.
    """
    backend = composition.backend
    workload = Workload(params, clients)
    spec = _spec(composition, workload, rounds)
    traffic = backend.traffic(spec)
    client_s, server_s = _measured_seconds(replace(composition, training=None), params, clients)
    spent = planned_privacy(composition, rounds=rounds, clients=clients, work=work)
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


def planned_privacy(
    composition: Composition, *, rounds: int, clients: int, work: LocalWork | None = None
) -> Mapping[str, Any] | None:
    """What the run will have spent, with warnings; None where no privacy is claimed. Raises `Refused`."""
    if composition.training is None:
        if work is not None:
            raise Refused(f"rows, batch_size, local_steps: {composition.name!r} does not act where clients train")
        return composition.spent(rounds, clients=clients)
    if work is None:
        raise Refused(
            f"{composition.name!r} spends privacy where clients train: rows, batch_size and local_steps are needed"
        )
    return composition.training.planned(rows=work.rows, batch_size=work.batch_size, steps=work.steps)


def _spec(composition: Composition, workload: Workload, number: int) -> RoundSpec:
    """The spec of a round. No set-up is run for a plan: it is only asked what it costs. Raises `Refused`."""
    backend = composition.backend
    layout = composition.layout(Layout.flat(workload.params))
    spec = Driver(backend, workload.names(), minimum_cohort=smallest_cohort(backend)).spec(
        number,
        layout=layout,
        encoding=encoding_for(backend, workload.clients, layout.size),
        task=task_digest(b"plan"),
    )
    backend.check(spec)
    return spec


def _measured_seconds(composition: Composition, params: int, clients: int) -> tuple[float, float]:
    """CPU seconds of one client and of the server in one round, extrapolated from small ones.

    Straight lines in the parameters and in the clients: some of the server's work is paid once a round.
    """

    def measure(size: int, cohort: int) -> tuple[float, float]:
        try:
            # Each with keys of its own: a key may be for no more rounds than are planned. A large cohort takes
            # seconds, and is steadier.
            times = 3 if cohort <= _LARGE_COHORT else 1
            reports = [run_bench(composition, Workload(size, cohort)) for _ in range(times)]
        except Refused as error:
            raise Refused(f"seconds are measured on {size} parameters, which are refused: {error}") from None
        client = median(report.client.protect_cpu_s + report.client.reveal_cpu_s for report in reports)
        return client, median(report.server.total_cpu_s for report in reports)

    if smallest_cohort(composition.backend) > MIN_COHORT:
        # A share of noise costs the same, whatever it is calibrated to.
        fewer = {"survivors": MIN_COHORT, "colluders": 1}
        composition = build(composition.name, {**composition.backend.parameters, **fewer})
    few = _allowed_cohort(composition, params, MIN_COHORT, clients)
    more = _allowed_cohort(composition, params, few + max(6, few // 4), 4 * few)
    # The more clients, the fewer parameters: a cohort that must be large is measured as quickly.
    small, large = (min(params, size * MIN_COHORT // few) for size in _CALIBRATION_PARAMS)
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


def _allowed_cohort(composition: Composition, params: int, least: int, most: int) -> int:
    """The first of `least` to `most` clients, in steps of an eighth, that the parameters allow. Raises `Refused`."""
    clients = least
    while True:
        try:
            _spec(composition, Workload(params, clients), 1)
        except Refused:
            if clients >= most:
                raise
            clients = min(most, clients + max(1, clients // 8))
        else:
            return clients


def _privacy(spent: Any) -> PrivacyPlan:
    return PrivacyPlan(**{field: spent[field] for field in PrivacyPlan.model_fields})
