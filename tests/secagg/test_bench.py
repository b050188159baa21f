"""`bench`: the report's exact shape, reproducible inputs, and bytes that equal the meters of a real round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg.admission import propose
from secagg.bench import MAX_WEIGHT, BenchReport, Workload, encoding_for, run_bench
from secagg.driver import Driver, Outcome
from secagg.errors import Refused
from secagg.identity import SERVER
from secagg.protocol import Backend, Traffic
from secagg.registry import build
from secagg.spec import task_digest
from secagg.vectors import Layout

# The schema of `secagg.bench/1`, as scripts rely on it: every key, at every level, and no other.
SCHEMA: dict[str, Any] = {
    "schema": str, "backend": str, "parameters": None, "params": int, "clients": int, "dropouts": int,
    "client": {
        "protect_cpu_s": float, "protect_wall_s": float, "reveal_cpu_s": float, "upload_bytes_per_param": float,
    },
    "server": {"total_cpu_s": float, "total_wall_s": float, "download_bytes_per_param": float},
    "helpers": {"total_cpu_s": float, "bytes_per_param": float},
    "wall_s": float, "peak_rss_mib": float, "max_abs_error": float, "exact": bool,
    "environment": {"python": str, "cpu": str, "cores": int, "versions": None},
}  # fmt: skip
CASES: list[tuple[str, dict[str, Any]]] = [
    ("plain", {}),
    ("smpc", {}),
    ("smpc", {"aggregators": 2}),
    ("smpc", {"aggregators": 5, "suite": "aes128ctr"}),
    ("smpc", {"aggregators": 3, "threshold": 2}),
    ("smpc", {"aggregators": 5, "threshold": 4}),
]
over_backends = pytest.mark.parametrize(("name", "parameters"), CASES)


def check_shape(value: Any, schema: dict[str, Any]) -> None:
    assert set(value) == set(schema)
    for key, kind in schema.items():
        if isinstance(kind, dict):
            check_shape(value[key], kind)
        elif kind is None:
            assert isinstance(value[key], dict)
        elif kind is float:
            assert type(value[key]) in (int, float)
            assert value[key] >= 0
        else:
            assert type(value[key]) is kind


@over_backends
@pytest.mark.parametrize("dropouts", [0, 2])
def test_the_report_has_exactly_the_keys_of_the_schema(name: str, parameters: dict[str, Any], dropouts: int) -> None:
    report = run_bench(build(name, parameters), Workload(50, 5, dropouts), repeat=2)
    text = report.model_dump_json(by_alias=True)
    check_shape(json.loads(text), SCHEMA)
    assert BenchReport.model_validate_json(text) == report
    assert report.schema_ == "secagg.bench/1"
    assert (report.backend, report.params, report.clients, report.dropouts) == (name, 50, 5, dropouts)
    assert report.parameters == dict(build(name, parameters).backend.parameters)
    assert report.exact
    assert 0 < report.max_abs_error < 1e-6
    assert report.environment.versions["numpy"] == np.__version__
    assert report.peak_rss_mib > 10


def played(backend: Backend, clients: int, params: int) -> tuple[Outcome, Traffic, int]:
    """A round with everybody present, what the backend said it would cost, and the size of the proposal."""
    names = Workload(params, clients).names()
    driver = Driver(backend, names)
    spec = driver.spec(
        1, layout=Layout.flat(params), encoding=encoding_for(backend, clients, params), task=task_digest(b"bytes")
    )
    vector = np.random.default_rng(params).uniform(-1, 1, params).astype(np.float32)
    outcome = driver.round(spec, lambda _: (vector, 3))
    return outcome, backend.traffic(spec), len(propose(spec, driver.identities[SERVER]))


@over_backends
@pytest.mark.parametrize("clients", [3, 8, 9, 20])
@pytest.mark.parametrize("params", [1, 1000])
def test_the_stated_bytes_are_the_measured_ones(
    name: str, parameters: dict[str, Any], clients: int, params: int
) -> None:
    """Apart from the proposal, which every party but the server gets once."""
    backend = build(name, parameters).backend
    outcome, traffic, proposal = played(backend, clients, params)
    for client in outcome.spec.roster.clients:
        meter = outcome.meters[client]
        assert meter.sent_bytes == traffic.client_upload
        assert meter.received_bytes - proposal == traffic.client_download
    helpers = list(outcome.spec.roster.helpers)
    through = sum(outcome.meters[helper].sent_bytes + outcome.meters[helper].received_bytes for helper in helpers)
    assert through - len(helpers) * proposal == traffic.helpers
    assert traffic.holder_download == 0


@over_backends
def test_every_byte_that_is_sent_is_received(name: str, parameters: dict[str, Any]) -> None:
    outcome, _, _ = played(build(name, parameters).backend, 5, 100)
    meters = outcome.meters.values()
    assert sum(meter.sent_bytes for meter in meters) == sum(meter.received_bytes for meter in meters)


@over_backends
def test_the_reports_bytes_are_those_of_the_backend(name: str, parameters: dict[str, Any]) -> None:
    composition = build(name, parameters)
    report = run_bench(composition, Workload(1000, 5))
    _, traffic, proposal = played(composition.backend, 5, 1000)
    assert report.client.upload_bytes_per_param * 1000 == pytest.approx(traffic.client_upload)
    assert report.server.download_bytes_per_param * 1000 == pytest.approx(traffic.client_download + proposal)
    helpers = len(composition.backend.helpers())
    assert report.helpers.bytes_per_param * 1000 == pytest.approx(traffic.helpers + helpers * proposal)


def test_inputs_are_a_function_of_the_seed_and_the_client() -> None:
    names = Workload(1000, 4).names()
    assert len(set(names)) == 4
    first = {name: Workload(1000, 4, seed=1).contribution(name, uniform_weights=False) for name in names}
    # Neither the other clients nor dropouts change what a client puts in.
    again = {name: Workload(1000, 9, 3, seed=1).contribution(name, uniform_weights=False) for name in names}
    other = {name: Workload(1000, 4, seed=2).contribution(name, uniform_weights=False) for name in names}
    for name in names:
        vector, weight = first[name]
        assert vector.dtype == np.float32
        assert vector.shape == (1000,)
        assert vector.min() < -0.95
        assert vector.max() > 0.95
        assert abs(vector).max() <= 1
        assert type(weight) is int
        assert 1 <= weight <= MAX_WEIGHT == 20
        np.testing.assert_array_equal(vector, again[name][0])
        assert weight == again[name][1]
        assert not np.array_equal(vector, other[name][0])
    assert len({vector.tobytes() for vector, _ in first.values()}) == 4
    weights = {Workload(1, 300).contribution(name, uniform_weights=False)[1] for name in Workload(1, 300).names()}
    assert weights == set(range(1, 21))
    assert Workload(5, 3).contribution("client-00001", uniform_weights=True)[1] == 1


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ((0, 3), "--params is 0"),
        ((10, 2), "--clients is 2, the minimum cohort is 3"),
        ((10, 3, 1), "--dropouts is 1, expected 0 to 0"),
        ((10, 5, -1), "--dropouts is -1, expected 0 to 2"),
    ],
)
def test_a_workload_that_cannot_be_summed_is_refused(sizes: tuple[int, ...], says: str) -> None:
    with pytest.raises(Refused, match=says):
        Workload(*sizes)


def test_progress_is_told_of_every_contribution() -> None:
    told: list[int] = []
    run_bench(build("plain"), Workload(10, 5, 1), repeat=3, progress=lambda: told.append(1))
    assert len(told) == 15


def test_a_backend_that_sums_wrongly_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker itself can fail: one more in one coordinate shows in both figures."""
    real = Driver.round

    def off_by_one(self: Driver, spec: Any, source: Any) -> Any:
        outcome = real(self, spec, source)
        outcome.result.totals[3] += 1 << 20
        return outcome

    monkeypatch.setattr(Driver, "round", off_by_one)
    report = run_bench(build("plain"), Workload(10, 3))
    assert not report.exact
    assert report.max_abs_error > 1e-4


def test_the_report_in_a_file_has_the_schema_under_its_alias(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(run_bench(build("plain"), Workload(5, 3)).model_dump_json(by_alias=True, indent=2))
    assert "schema_" not in path.read_text()
