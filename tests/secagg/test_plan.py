"""`plan`: what it states in bytes is what a round measures, and its JSON is its schema."""

from __future__ import annotations

import json
from typing import Any

import pytest

from secagg.bench import BenchReport, Workload, run_bench
from secagg.errors import Refused
from secagg.plan import LocalWork, Plan, make_plan
from secagg.registry import Composition, build
from tests.secagg.test_bench import CASES, played

# The schema of `secagg.plan/1`. `privacy` is null where no differential privacy is claimed.
SCHEMA = {
    "": {"schema", "backend", "params", "clients", "rounds", "client", "server", "privacy", "sees"},
    "client": {"upload_bytes", "download_bytes", "cpu_s"},
    "server": {"cpu_s", "memory_bytes"},
}
PRIVACY = {"unit", "epsilon", "delta", "noise_multiplier", "sampling_rate", "rounds"}
over_backends = pytest.mark.parametrize(("name", "parameters"), CASES)


@over_backends
def test_the_plan_has_exactly_the_keys_of_the_schema(name: str, parameters: dict[str, Any]) -> None:
    plan = make_plan(build(name, parameters), params=100, clients=4, rounds=3)
    text = plan.model_dump_json(by_alias=True)
    fields = json.loads(text)
    assert set(fields) == SCHEMA[""]
    assert set(fields["client"]) == SCHEMA["client"]
    assert set(fields["server"]) == SCHEMA["server"]
    assert fields["privacy"] is None
    assert fields["schema"] == "secagg.plan/1"
    assert (fields["backend"], fields["params"], fields["clients"], fields["rounds"]) == (name, 100, 4, 3)
    assert all(isinstance(thing, str) for things in fields["sees"].values() for thing in things)
    assert {"server", "clients"} <= set(fields["sees"])
    assert Plan.model_validate_json(text) == plan


def test_the_privacy_part_has_its_keys() -> None:
    privacy = Plan.model_fields["privacy"].annotation
    assert set(privacy.__args__[0].model_fields) == PRIVACY


@pytest.mark.parametrize("sampling_rate", [1.0, 0.1])
def test_a_plan_answers_which_noise_and_which_epsilon(sampling_rate: float) -> None:
    """Epsilon 8 over 50 rounds: the noise that it names has that epsilon when it is asked the other way round."""

    def privacy(**parameters: float) -> dict[str, Any]:
        composition = build("dp", {**parameters, "sampling_rate": sampling_rate, "rounds": 50})
        plan = make_plan(composition, params=10, clients=3, rounds=50)
        return dict(json.loads(plan.model_dump_json(by_alias=True))["privacy"])

    solved = privacy(target_epsilon=8.0, target_delta=1e-5)
    assert set(solved) == PRIVACY
    assert 7.98 < solved["epsilon"] <= 8.0
    assert (solved["unit"], solved["delta"], solved["rounds"]) == ("client", 1e-5, 50)
    assert solved["sampling_rate"] == sampling_rate
    assert privacy(noise_multiplier=solved["noise_multiplier"], target_delta=1e-5) == solved


@over_backends
@pytest.mark.parametrize("rounds", [1, 7])
def test_the_bytes_are_those_of_a_real_round_times_the_rounds(
    name: str, parameters: dict[str, Any], rounds: int
) -> None:
    composition = build(name, parameters)
    plan = make_plan(composition, params=1000, clients=5, rounds=rounds)
    outcome, _, proposal = played(composition.backend, 5, 1000)
    for client in outcome.spec.roster.clients:
        meter = outcome.meters[client]
        assert plan.client.upload_bytes == rounds * meter.sent_bytes
        assert plan.client.download_bytes == rounds * (meter.received_bytes - proposal)


def test_more_rounds_cost_more_seconds_and_no_more_memory() -> None:
    one, many = (make_plan(build("smpc"), params=1000, clients=3, rounds=rounds) for rounds in (1, 1000))
    assert one.client.cpu_s > 0
    assert one.server.cpu_s > 0
    assert many.client.cpu_s > 20 * one.client.cpu_s
    assert many.server.memory_bytes == one.server.memory_bytes


def test_memory_and_bytes_grow_with_the_model_and_not_with_the_clients() -> None:
    few, more = (make_plan(build("plain"), params=1000, clients=clients, rounds=1) for clients in (3, 30))
    large = make_plan(build("plain"), params=2001, clients=3, rounds=1)
    assert few.server.memory_bytes == more.server.memory_bytes
    assert large.server.memory_bytes == 2 * few.server.memory_bytes
    assert few.client.upload_bytes == more.client.upload_bytes == 204 + 1001 * 4


@pytest.mark.parametrize(
    ("clients", "parameters"), [(60, {"degree": 20, "threshold": 17}), (300, {"corruption": 0.4})], ids=str
)
def test_parameters_that_three_clients_cannot_have_are_measured_among_more(
    clients: int, parameters: dict[str, Any]
) -> None:
    composition = build("secaggplus", parameters)
    with pytest.raises(Refused):
        make_plan(composition, params=100, clients=3, rounds=1)
    plan = make_plan(composition, params=100, clients=clients, rounds=1)
    assert plan.client.cpu_s > 0
    assert plan.server.cpu_s > 0


def test_the_smallest_cohort_that_is_allowed_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[int, int]] = []

    def bench(composition: Composition, workload: Workload) -> BenchReport:
        measured.append((workload.params, workload.clients))
        return run_bench(composition, workload)

    monkeypatch.setattr("secagg.plan.run_bench", bench)
    composition = build("secaggplus", {"degree": 20, "threshold": 17})
    make_plan(composition, params=1000, clients=60, rounds=1)
    few = min(clients for _, clients in measured)
    with pytest.raises(Refused):
        make_plan(composition, params=1000, clients=few - 1, rounds=1)
    assert max(clients for _, clients in measured) < 2 * few
    assert max(params for params, _ in measured) <= 1000
    measured.clear()
    make_plan(build("plain"), params=1000, clients=60, rounds=1)
    assert {clients for _, clients in measured} == {3, 9}


@pytest.mark.parametrize("sizes", [{"params": 0}, {"clients": 2}, {"params": 1 << 33}])
def test_a_plan_that_cannot_be_made_is_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(Refused):
        make_plan(build("plain"), **({"params": 10, "clients": 3, "rounds": 1} | sizes))


def test_more_rounds_than_a_key_opens_are_refused() -> None:
    with pytest.raises(Refused, match="round 6 is over the query budget of 5 rounds under one key"):
        make_plan(build("ckks", {"query_budget": 5}), params=10, clients=3, rounds=6)


def test_noise_in_training_is_planned_from_rows_batches_and_steps() -> None:
    private = build("dp-sgd+smpc", {"target_epsilon": 8.0, "rounds": 5})
    plan = make_plan(private, params=100, clients=4, rounds=5, work=LocalWork(rows=1000, batch_size=64, steps=16))
    assert plan.privacy is not None
    assert (plan.privacy.unit, plan.privacy.rounds, plan.privacy.sampling_rate) == ("sample", 5, 0.064)
    assert 7.9 < plan.privacy.epsilon <= 8.0
    alone = make_plan(build("smpc"), params=100, clients=4, rounds=5)
    assert plan.client.upload_bytes == alone.client.upload_bytes
    with pytest.raises(Refused, match="rows, batch_size and local_steps are needed"):
        make_plan(private, params=100, clients=4, rounds=5)
    with pytest.raises(Refused, match="'smpc' does not act where clients train"):
        make_plan(build("smpc"), params=100, clients=4, rounds=5, work=LocalWork(1000, 64, 16))
