"""Every backend computes the same thing: the weighted mean, against float64 NumPy, over sizes and weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secagg import record
from secagg.bench import BenchReport, Workload, encoding_for, run_bench
from secagg.driver import Driver
from secagg.errors import Refused
from secagg.fixedpoint import FixedPoint
from secagg.identity import SERVER
from secagg.plan import make_plan
from secagg.registry import build
from secagg.spec import task_digest
from secagg.vectors import Layout

SHARED = {"key_mode": "shared", "acknowledge_shared_key": True}
EXACT: list[tuple[str, dict[str, Any], float]] = [
    ("plain", {}, 1e-6),
    ("smpc", {}, 1e-6),
    ("smpc", {"aggregators": 2, "suite": "aes128ctr"}, 1e-6),
    ("smpc", {"aggregators": 5, "suite": "aes256ctr"}, 1e-6),
    ("smpc", {"aggregators": 3, "threshold": 2}, 1e-6),
    ("smpc", {"aggregators": 5, "threshold": 3}, 1e-6),
    ("secaggplus", {}, 1e-6),
    ("secaggplus", {"threat": "passive", "suite": "aes128ctr"}, 1e-6),
    ("secaggplus", {"degree": 6}, 1e-6),
    ("ckks", {}, 1e-6),
    ("ckks", {"preset": "n4096-q88"}, 1e-6),
    ("ckks", {"verified": True}, 1e-6),
    ("ckks", SHARED, 1e-6),
    ("ckks", SHARED | {"preset": "n4096-q60"}, 1e-6),
    # The sum is exact; in 24 bits the encoding is coarser.
    ("bfv", {}, 1e-5),
    ("bfv", {"preset": "n8192-3x32"}, 1e-6),
    ("bfv", {"verified": True}, 1e-5),
    ("bfv", SHARED, 1e-5),
    ("selective", {}, 1e-6),
    ("selective", {"fraction": 0.1}, 1e-6),
    ("selective", SHARED | {"fraction": 0.1}, 1e-6),
    ("selective", {"fraction": 0.5, "scheme": "bfv"}, 1e-5),
    ("selective", SHARED | {"fraction": 0.5, "scheme": "bfv"}, 1e-5),
]
ALL = [*EXACT, ("dp", {}, 0.0), ("dp+smpc", {"noise": "server"}, 0.0), ("dp+ckks", {"noise": "server"}, 0.0)]
ALL += [("dp+bfv", {"noise": "server"}, 0.0), ("dp+bfv", {"noise": "server", "verified": True}, 0.0)]
ALL += [("dp+secaggplus", {"noise": "server"}, 0.0)]
ALL += [("dp+selective", {"fraction": 0.1}, 0.0)]


@pytest.mark.parametrize("params", [1, 4095, 4096, 4097, 20_011])
@pytest.mark.parametrize(("name", "parameters", "bound"), EXACT)
def test_every_aggregate_equals_float64_numpy(name: str, parameters: dict[str, Any], bound: float, params: int) -> None:
    """Values in [-1, 1], weights 1..20, one client of ten missing: the mean is within the bound, the sum exact."""
    report = run_bench(build(name, parameters), Workload(params, clients=10, dropouts=1, seed=params))
    assert report.max_abs_error <= bound
    assert report.exact


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("plain", {}), ("smpc", {}), ("secaggplus", {}), ("ckks", {}), ("bfv", {}), ("selective", {"fraction": 0.5})],
)
def test_values_at_the_edge_of_the_ring_are_summed_exactly(name: str, parameters: dict[str, Any]) -> None:
    """M11, S6: every client at the bound with the largest weight, all of one sign."""
    backend = build(name, parameters).backend
    names = [f"site-{number}" for number in range(7)]
    encoding = encoding_for(backend, len(names), 5000)
    layout = Layout.flat(5000)
    driver = Driver(backend, names)
    driver.set_up(layout=layout, encoding=encoding)
    for number, sign in enumerate((1.0, -1.0), start=1):
        edge: NDArray[np.float32] = np.full(5000, sign * encoding.value_bound, np.float32)
        spec = driver.spec(number, layout=layout, encoding=encoding, task=task_digest(b"edge"))
        outcome = driver.round(spec, lambda _, edge=edge: (edge, encoding.max_weight))  # type: ignore[misc]
        assert abs(int(outcome.result.totals[0])) > 2 ** ((backend.sum_bits or encoding.modulus_bits) - 2)
        np.testing.assert_array_equal(outcome.result.mean(), edge)


@pytest.mark.parametrize("bits", [20, 21, 22, 23, 24])
@pytest.mark.parametrize("name", ["plain", "smpc"])
def test_a_narrow_ring_sums_exactly_and_uploads_no_bit_too_many(name: str, bits: int) -> None:
    """100,000 parameters: three bytes each at 24 bits, and what the headers and seeds take."""
    report = run_bench(build(name), Workload(100_000, clients=10, dropouts=1), modulus_bits=bits)
    assert report.exact
    assert bits / 8 < report.client.upload_bytes_per_param <= bits / 8 + 0.01
    assert report.max_abs_error <= 2.0 ** -(bits - 9)


@pytest.mark.parametrize("name", ["ckks", "bfv", "dp+ckks"])
def test_a_narrow_ring_is_refused_where_slots_hold_32_bits(name: str) -> None:
    parameters = {"noise": "server"} if name.startswith("dp+") else {}
    with pytest.raises(Refused, match="modulus_bits is 24, a slot holds 32 bits; set it to 32"):
        run_bench(build(name, parameters), Workload(10, clients=4), modulus_bits=24)


@pytest.mark.parametrize("name", ["plain", "smpc", "bfv"])
def test_stochastic_rounding_takes_nothing_from_the_mean_on_a_coarse_grid(name: str) -> None:
    """To the nearest, 0.3 of a step is nothing for everybody; by chance, the sum has it."""
    backend, names, size = build(name).backend, [f"site-{number}" for number in range(5)], 20_000
    layout = Layout.flat(size)
    value = np.float32(0.3 / 256)
    sums = {}
    for rounding in ("nearest", "stochastic"):
        encoding = FixedPoint(clients=5, value_bound=1.0, fraction_bits=8, divisor=5, rounding=rounding)  # type: ignore[arg-type]
        driver = Driver(backend, names)
        driver.set_up(layout=layout, encoding=encoding)
        spec = driver.spec(1, layout=layout, encoding=encoding, task=task_digest(b"coarse"))
        sums[rounding] = driver.round(spec, lambda _: (np.full(size, value), 1)).result.totals
    assert not sums["nearest"].any()
    # 100,000 draws of probability 0.3: six standard deviations.
    assert abs(int(sums["stochastic"].sum()) - 30_000) <= 6 * (100_000 * 0.3 * 0.7) ** 0.5
    assert set(np.unique(sums["stochastic"]).tolist()) <= set(range(6))


def test_dp_refuses_to_round_by_chance() -> None:
    """That the rounding of a clipped vector fails, however improbable, is charged only for noise at clients (D8)."""
    encoding = FixedPoint.fit(clients=4, value_bound=1.0, divisor=4, rounding="stochastic")
    driver = Driver(build("dp").backend, [f"site-{number}" for number in range(4)])
    with pytest.raises(Refused, match="dp: rounding is 'stochastic', expected 'nearest'"):
        driver.spec(1, layout=Layout.flat(5), encoding=encoding, task=task_digest(b"dp"))


def test_dp_adds_noise_of_the_stated_size_to_clipped_updates() -> None:
    """The released mean minus the clipped mean has standard deviation noise_multiplier * clip_l2 / divisor."""
    size, clip, multiplier = 40_000, 0.5, 2.0
    backend = build("dp", {"noise_multiplier": multiplier, "clip_l2": clip}).backend
    names = [f"site-{number}" for number in range(8)]
    encoding, layout = encoding_for(backend, 8, size), Layout.flat(size)
    vectors = {n: np.random.default_rng(i).normal(0, 1, size).astype(np.float32) for i, n in enumerate(names)}
    driver = Driver(backend, names)
    outcome = driver.round(
        driver.spec(1, layout=layout, encoding=encoding, task=task_digest(b"dp")), lambda name: (vectors[name], 1)
    )
    clipped = sum(v.astype(float) * (clip / np.linalg.norm(v.astype(float))) for v in vectors.values()) / 8
    noise = outcome.result.mean() - clipped
    expected = multiplier * clip / 8
    assert abs(noise.std() / expected - 1) < 0.03  # 40,000 draws: 8 standard errors
    assert abs(noise.mean()) < 8 * expected / size**0.5


@pytest.mark.parametrize(("name", "parameters"), [(name, parameters) for name, parameters, _ in ALL])
def test_plan_states_the_bytes_that_bench_measures(name: str, parameters: dict[str, Any]) -> None:
    """Apart from the server's proposal, which every party reads and which grows with the roster alone."""
    composition = build(name, parameters)
    workload = Workload(9001, clients=4)
    driver = Driver(composition.backend, workload.names())
    layout, encoding = Layout.flat(9001), encoding_for(composition.backend, 4, 9001)
    driver.set_up(layout=layout, encoding=encoding)
    spec = driver.spec(1, layout=layout, encoding=encoding, task=task_digest(b"bytes"))
    uniform = not encoding.weighted
    outcome = driver.round(spec, lambda client: workload.contribution(client, uniform_weights=uniform))
    traffic = composition.backend.traffic(spec)
    proposal = 64 + len(spec.to_bytes())
    meters, helpers = outcome.meters, list(spec.roster.helpers)
    for client in workload.names():
        assert meters[client].sent_bytes == traffic.client_upload
        assert meters[client].received_bytes - proposal == traffic.client_download
    assert sum(meters[h].sent_bytes + meters[h].received_bytes - proposal for h in helpers) == traffic.helpers
    plan = make_plan(composition, params=9001, clients=4, rounds=3)
    assert plan.client.upload_bytes == 3 * traffic.client_upload
    assert SERVER in plan.sees


@pytest.mark.parametrize("name", ["plain", "smpc", "secaggplus", "ckks", "bfv", "selective", "dp"])
def test_bench_writes_the_schema(name: str, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    command = [sys.executable, "-c", "from secagg.cli import main; main()", "bench", "--backend", name]
    command += ["--params", "20000", "--clients", "5", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads(path.read_text())
    BenchReport.model_validate(written)
    assert list(written) == [
        "schema", "backend", "parameters", "params", "clients", "dropouts", "client", "server", "helpers", "wall_s",
        "peak_rss_mib", "max_abs_error", "exact", "environment",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["plain", "smpc", "secaggplus", "ckks", "bfv"])
def test_a_client_alone_in_its_process_does_the_same_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that one party computed is handed to another: alone, a client uploads as many bytes for like CPU."""
    monkeypatch.setenv("SECAGG_WORKERS", "0")  # no worker is started in either, so that nobody pays for its start
    size = 300_000
    backend = build(name).backend
    workload = Workload(size, clients=4)
    driver = Driver(backend, workload.names())
    layout, encoding = Layout.flat(size), encoding_for(backend, 4, size)
    driver.set_up(layout=layout, encoding=encoding)
    client = workload.names()[-1]
    kept: dict[str, Any] = {}
    make = backend.session

    def keep(spec: Any, party: Any, *, setup: bytes = b"", state: bytes = b"") -> Any:
        kept[party.name] = make(spec, party, setup=setup, state=state)
        return kept[party.name]

    backend.session = keep  # type: ignore[method-assign]
    states: list[bytes] = []
    spec = driver.spec(1, layout=layout, encoding=encoding, task=task_digest(b"alone"))

    def source(who: str) -> tuple[NDArray[np.float32], int]:
        if who == client:
            states.append(kept[client].dump())
        return workload.contribution(who, uniform_weights=False)

    together = driver.round(spec, source).meters[client]
    # What else the process does meanwhile, a collection of garbage say, is in its time: the least of three counts.
    more = (driver.spec(number, layout=layout, encoding=encoding, task=task_digest(b"alone")) for number in (2, 3))
    meters = [together, *(driver.round(again, source).meters[client] for again in more)]
    least = min(meter.protect_cpu_s for meter in meters)
    vector, weight = workload.contribution(client, uniform_weights=False)
    identity = driver.identities[client]
    fields = {
        "spec": spec.to_bytes(), "party": client, "directory": driver.directory.to_bytes(), "frame": b"",
        "signing": identity.signing_key.private_bytes_raw(),
        "agreement": identity.agreement_key.private_bytes_raw(),
        "setup": driver._setup.get(client, b""), "state": states[0], "vector": vector, "weight": weight,
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.toy.resume"]
    runs = [subprocess.run(command, input=record.encode(fields), capture_output=True, timeout=120) for _ in range(3)]
    alone = [record.decode(run.stdout) for run in runs]
    upload = max(len(frame) for _, frame in alone[0]["sends"])
    assert 0 <= together.sent_bytes - upload < 2000  # the rest is key agreement and recovery
    # The same work within a wide margin: a shared result would make one of the two many times cheaper.
    cheapest = min(run["cpu"] for run in alone)
    assert cheapest < 4 * least + 0.05
    assert least < 4 * cheapest + 0.05
