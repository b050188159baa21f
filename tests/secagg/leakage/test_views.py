"""What each party reads under each backend, out of real rounds: T9, T10, C8 and what the guarantees say beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secagg.errors import Aborted, Refused
from secagg.fixedpoint import FixedPoint
from secagg.frames import HEADER_BYTES
from secagg.identity import SERVER
from secagg.leakage.openings import open_coordinates
from secagg.leakage.recording import Recording, record
from secagg.leakage.replay import Replayed
from secagg.leakage.views import EVERYBODY, View, _Reading, coalitions, malicious_server, views
from secagg.ringsum import RingSum

SHARED = {"key_mode": "shared", "acknowledge_shared_key": True}
SIZE = 129
CLIENTS = ["ada", "ben", "cyd", "dan"]
GENERATOR = np.random.default_rng(5)
VECTORS = {name: GENERATOR.uniform(-0.05, 0.05, SIZE).astype(np.float32) for name in CLIENTS}
WEIGHTS = {name: 2 * place + 1 for place, name in enumerate(CLIENTS)}
RECORDED: dict[str, Recording] = {}


def recording(name: str, **parameters: Any) -> Recording:
    key = f"{name} {parameters}"
    if key not in RECORDED:
        RECORDED[key] = record(name, VECTORS, parameters=parameters, weights=WEIGHTS)
    return RECORDED[key]


def read(name: str, party: str, *colluders: str, **parameters: Any) -> list[str]:
    """What a coalition reads, in words, after holding each vector against the clients' inputs."""
    found = views(recording(name, **parameters), party, colluders)
    for view in found:
        check(view, weighted=not name.startswith("dp"))
    return [str(view) for view in found]


def check(view: View, *, weighted: bool = True) -> None:
    if view.vector is None:
        assert view.over == ()
        return
    truth = sum(VECTORS[name].astype(np.float64) * (WEIGHTS[name] if weighted else 1) for name in view.over)
    read_ = np.isfinite(view.vector)
    assert (np.abs(view.vector - truth)[read_].max() < 1e-6) != view.noised
    if view.weight is not None:
        assert view.weight == sum(WEIGHTS[name] if weighted else 1 for name in view.over)


EVERY = [f"the update of {name}" for name in CLIENTS]
LAST = ["the update of dan"]
NOTHING, SUM, REST = ["nothing"], ["the sum of 4"], ["the sum of 3"]


def test_plain_shows_the_server_every_update() -> None:
    assert read("plain", SERVER) == EVERY
    assert read("plain", EVERYBODY) == SUM


@pytest.mark.parametrize("threat", ["active", "passive"])
def test_secaggplus_shows_the_server_the_sum_and_n_minus_1_colluders_the_last_update(threat: str) -> None:
    assert read("secaggplus", SERVER, threat=threat) == SUM
    assert read("secaggplus", SERVER, "ada", threat=threat) == REST
    assert read("secaggplus", SERVER, *CLIENTS[:3], threat=threat) == LAST


def test_secaggplus_with_more_colluders_than_its_threshold_opens_everybody() -> None:
    """The neighbours of a client hold both its secrets together: nobody has told the replay so."""
    vectors = {f"site-{place}": VECTORS["ada"] * np.float32(place + 1) / 8 for place in range(8)}
    kept = record("secaggplus", vectors, parameters={"threat": "passive", "threshold": 4})
    colluders = sorted(vectors)[:5]
    assert [str(view) for view in views(kept, SERVER, colluders[:3])] == ["the sum of 5"]
    found = views(kept, SERVER, colluders)
    assert [view.over for view in found] == [("site-5",), ("site-6",), ("site-7",)]
    for view in found:
        assert np.abs(view.vector - vectors[view.over[0]]).max() < 1e-6


def test_smpc_shows_k_minus_1_aggregators_the_sum_and_all_of_them_everything() -> None:
    assert read("smpc", SERVER) == read("smpc", SERVER, "aggregator-1") == SUM
    assert read("smpc", "aggregator-1") == read("smpc", "aggregator-1", "aggregator-2") == NOTHING
    assert read("smpc", SERVER, "aggregator-1", "aggregator-2") == EVERY


def test_smpc_with_a_threshold_shows_that_many_everything() -> None:
    assert read("smpc", SERVER, threshold=2) == SUM
    assert read("smpc", SERVER, "aggregator-2", threshold=2) == EVERY
    assert read("smpc", "aggregator-1", "aggregator-2", threshold=2) == NOTHING


@pytest.mark.parametrize("name", ["ckks", "bfv"])
def test_a_key_holder_reads_the_sum_and_with_the_server_everything(name: str) -> None:
    assert read(name, SERVER) == read(name, "holder") == SUM
    assert read(name, "holder", *CLIENTS[:3]) == LAST
    assert read(name, SERVER, "holder") == EVERY


def test_a_verifying_holder_alone_reads_everything() -> None:
    assert read("ckks", SERVER, verified=True) == SUM
    assert read("ckks", "holder", verified=True) == EVERY


@pytest.mark.parametrize("name", ["ckks", "bfv"])
def test_c8_a_shared_key_shows_the_server_nothing_and_with_any_client_everything(name: str) -> None:
    assert read(name, SERVER, **SHARED) == NOTHING
    assert read(name, "ada", **SHARED) == REST
    assert read(name, SERVER, "ada", **SHARED) == EVERY[1:]


def test_clients_have_the_released_sum_and_n_minus_1_of_them_the_last_update() -> None:
    for name in ("plain", "secaggplus", "smpc", "ckks"):
        assert read(name, "ada") == REST
        assert read(name, "ada", "ben", "cyd") == LAST


def test_selective_encryption_shows_the_server_the_coordinates_outside_the_mask() -> None:
    found = views(recording("selective", fraction=0.25), SERVER)
    for view in found:
        check(view)
    assert [view.over for view in found] == [*((name,) for name in CLIENTS), tuple(CLIENTS)]
    assert {round(SIZE * view.share) for view in found if view.single} == {SIZE - round(SIZE * 0.25)}
    assert all(view.weight is None for view in found if view.single)
    with pytest.raises(Refused, match="the sum of the weights is not read"):
        found[0].mean()


def test_noise_at_the_server_is_in_what_is_released_and_not_in_what_the_server_reads() -> None:
    noise = {"noise": "server", "noise_multiplier": 0.1}
    assert read("dp+secaggplus", EVERYBODY, **noise) == ["the sum of 4, with noise"]
    assert read("dp+secaggplus", "ada", "ben", "cyd", **noise) == ["the update of dan, with noise"]
    assert read("dp+secaggplus", SERVER, **noise) == SUM
    assert read("dp", SERVER) == EVERY


def test_a_rotated_sum_is_turned_back_before_it_is_read() -> None:
    kept = record("dp+secaggplus", VECTORS, parameters={"noise_multiplier": 0.01, "clip_l2": 16.0})
    assert kept.spec.encoding.rotation is not None
    (view,) = views(kept, SERVER)
    assert str(view) == "the sum of 4, with noise"
    noise = view.vector - sum(VECTORS.values())
    # Four clients each add a share of which two make up the whole.
    assert float(np.std(noise)) == pytest.approx(0.16 * 2**0.5, rel=0.5)


def test_a_layers_own_coordinates_stand_behind_the_clients() -> None:
    adaptive = {"noise": "server", "noise_multiplier": 0.1, "clipping": "adaptive"}
    kept = record("dp+smpc", VECTORS, parameters=adaptive, value_bound=1.0)
    (view,) = views(kept, SERVER)
    assert str(view) == "the sum of 4"
    assert view.vector is not None
    assert view.vector.shape == (SIZE + 1,)
    np.testing.assert_allclose(view.vector[:SIZE], sum(VECTORS.values()), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "parameters", "answer"),
    [
        ("smpc", {}, "equivocation"),
        ("ckks", {}, "equivocation"),
        ("bfv", SHARED, "equivocation"),
        ("secaggplus", {"threat": "passive"}, "equivocation"),
    ],
)
def test_t10_a_second_set_of_survivors_gives_a_malicious_server_nothing(
    name: str, parameters: dict[str, Any], answer: str
) -> None:
    before = [str(view) for view in views(recording(name, **parameters), SERVER)]
    found, refusals = malicious_server(recording(name, **parameters))
    assert [str(view) for view in found] == before
    assert not any(view.single for view in found)
    assert all(answer in refusal for refusal in refusals)
    assert refusals


def test_t10_an_active_round_gives_a_malicious_server_the_sum_only() -> None:
    for name, parameters in [("secaggplus", {}), ("ckks", {"verified": True})]:
        found, _ = malicious_server(recording(name, **parameters))
        assert [str(view) for view in found] == SUM


def test_a_session_that_ends_with_another_sum_than_it_claims_taught_nobody_anything() -> None:
    """A server with half of the shares can make its session end with anything at all."""
    kept = recording("smpc")
    wrong = kept.outcome.result.with_totals(kept.outcome.result.totals[::-1].copy())
    for result, read_ in [(wrong, NOTHING), (kept.outcome.result, SUM)]:
        reading = _Reading(kept, {SERVER})
        reading._take(Replayed((result,), (), ()), ())
        assert [str(view) for view in reading.views(SERVER, ())] == read_


def test_t9_a_cohort_under_the_minimum_gives_nobody_anything() -> None:
    with pytest.raises(Refused, match="1 clients take part, the minimum cohort is 3"):
        record("secaggplus", {"ada": VECTORS["ada"]})
    for name in ("plain", "smpc", "ckks"):
        with pytest.raises(Aborted, match="minimum cohort is 3"):
            record(name, VECTORS, absent=CLIENTS[1:])


def test_a_vanished_client_is_in_nobody_s_view() -> None:
    kept = record("smpc", VECTORS, weights=WEIGHTS, absent=["ben"])
    assert kept.clients == ("ada", "cyd", "dan")
    (view,) = views(kept, SERVER)
    check(view)
    assert view.over == ("ada", "cyd", "dan")
    opened = views(kept, SERVER, ["aggregator-1", "aggregator-2"])
    assert [view.over for view in opened] == [("ada",), ("cyd",), ("dan",)]


def test_coalitions_name_everybody_once() -> None:
    rows = coalitions(recording("smpc"))
    assert len(rows) == len(set(rows))
    assert ("server", ("aggregator-1", "aggregator-2")) in rows
    assert ("server", ("ben", "cyd", "dan")) in rows
    assert all(views(recording("smpc"), party, colluders) for party, colluders in rows)


def test_an_unknown_party_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="'holder' is no party of this round"):
        views(recording("smpc"), "holder")


@pytest.mark.parametrize(
    ("vectors", "why"),
    [
        ({**VECTORS, "dan": np.zeros(3, np.float32)}, "expected one shape"),
        ({**VECTORS, "dan": np.full(SIZE, np.nan, np.float32)}, "vector of 'dan': expected finite float32"),
        ({**VECTORS, "dan": VECTORS["dan"].astype(np.float64)}, "got float64"),
    ],
)
def test_bad_vectors_are_refused(vectors: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        record("plain", vectors)


# Reading in the clear.


def frame(words: np.ndarray, offset: int = 0) -> bytes:
    return bytes(HEADER_BYTES + offset) + words.astype("<u4").tobytes()


def test_coordinates_in_the_clear_are_found_at_any_alignment_and_in_order_only() -> None:
    encoding = FixedPoint(clients=3, value_bound=1.0, fraction_bits=20)
    integers = np.random.default_rng(1).integers(-(2**20), 2**20, 60, dtype=np.int32)
    words = integers.view(np.uint32)
    noise = np.random.default_rng(2).integers(0, 2**32, 40, dtype=np.uint32)
    for offset in range(4):
        assert open_coordinates(frame(words, offset), integers, encoding).all()
    odd = open_coordinates(frame(np.concatenate([noise, words[1::2], noise]), 3), integers, encoding)
    assert np.flatnonzero(odd).tolist() == list(range(1, 60, 2))
    assert not open_coordinates(frame(words[::-1]), integers, encoding).any()
    assert not open_coordinates(frame(words[:7]), integers, encoding).any()
    assert not open_coordinates(frame(noise), integers, encoding).any()


def test_a_packed_vector_in_the_clear_is_found() -> None:
    encoding = FixedPoint.fit(clients=4, value_bound=1.0, modulus_bits=24)
    integers = encoding.encode(VECTORS["ada"]).integers
    body = bytes(RingSum(encoding, integers.size).to_wire(integers))
    assert open_coordinates(bytes(HEADER_BYTES) + body, integers, encoding).all()
    assert not open_coordinates(bytes(HEADER_BYTES) + body[:-1], integers, encoding).any()
