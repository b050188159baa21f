"""The spec: one digest for everything a round agrees on, parsed strictly, never below the minimum cohort."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.driver import Driver
from secagg.errors import Refused
from secagg.fixedpoint import FixedPoint
from secagg.record import canonical_json
from secagg.registry import build
from secagg.spec import MAX_SPEC_BYTES, Roster, RoundSpec, task_digest
from secagg.vectors import Layout

FIELDS: dict[str, Any] = {
    "version": 1,
    "run": "a1" * 16,
    "round": 7,
    "phase": "round",
    "backend": "dp+smpc",
    "parameters": {"aggregators": 3, "suite": "chacha20", "noise": 1.5, "flag": True, "none": None},
    "roster": {
        "server": "00" * 32,
        "clients": {f"site-{n}": f"{n + 1:02x}" * 32 for n in range(5)},
        "helpers": {"aggregator-1": "aa" * 32},
    },
    "uploads_to": "server",
    "minimum_cohort": 4,
    "layout": {
        "tensors": [
            {"name": "w", "shape": [2, 3], "dtype": "float32"},
            {"name": "b", "shape": [3], "dtype": "float16"},
        ],
        "held": ["steps"],
    },
    "encoding": {
        "clients": 6,
        "value_bound": 1.0,
        "max_weight": 1,
        "modulus_bits": 32,
        "fraction_bits": 10,
        "divisor": 5,
        "rounding": "nearest",
        "noise_bound": 0.0,
        "rotation": None,
    },
    "task": "bb" * 32,
    "setup": "cc" * 32,
}


def spec(**changes: Any) -> RoundSpec:
    return RoundSpec.from_bytes(json.dumps(FIELDS | changes).encode())


def changed(*path: Any, to: Any) -> dict[str, Any]:
    fields = copy.deepcopy(FIELDS)
    inner = fields
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return fields


CHANGED = {
    "run": changed("run", to="a2" * 16),
    "round": changed("round", to=8),
    "phase": changed("phase", to="setup"),
    "backend": changed("backend", to="smpc"),
    "parameter value": changed("parameters", "aggregators", to=2),
    "parameter type": changed("parameters", "aggregators", to=3.0),
    "parameter one is not true": changed("parameters", "flag", to=1),
    "parameter none is not a word": changed("parameters", "none", to="None"),
    "parameter added": changed("parameters", "more", to=0),
    "no parameters": changed("parameters", to={}),
    "server": changed("roster", "server", to="ff" * 32),
    "client's key": changed("roster", "clients", "site-2", to="ff" * 32),
    "client more": changed("roster", "clients", to=FIELDS["roster"]["clients"] | {"site-9": "ff" * 32}),
    "client's name": changed(
        "roster", "clients", to={name.replace("4", "5"): key for name, key in FIELDS["roster"]["clients"].items()}
    ),
    "clients' keys swapped": changed(
        "roster", "clients", to=FIELDS["roster"]["clients"] | {"site-0": "02" * 32, "site-1": "01" * 32}
    ),
    "helper's key": changed("roster", "helpers", "aggregator-1", to="ff" * 32),
    "no helper": changed("roster", "helpers", to={}),
    "uploads_to": changed("uploads_to", to="aggregator-1"),
    "minimum_cohort": changed("minimum_cohort", to=3),
    "tensor name": changed("layout", "tensors", 0, "name", to="v"),
    "tensor shape": changed("layout", "tensors", 0, "shape", to=[3, 2]),
    "tensor dtype": changed("layout", "tensors", 0, "dtype", to="float64"),
    "tensor order": changed("layout", "tensors", to=FIELDS["layout"]["tensors"][::-1]),
    "held": changed("layout", "held", to=[]),
    "encoding clients": changed("encoding", "clients", to=7),
    "value_bound": changed("encoding", "value_bound", to=1.0000000000000002),
    "max_weight": changed("encoding", to=FIELDS["encoding"] | {"max_weight": 2, "divisor": None}),
    "modulus_bits": changed("encoding", "modulus_bits", to=64),
    "fraction_bits": changed("encoding", "fraction_bits", to=11),
    "rounding": changed("encoding", "rounding", to="stochastic"),
    "divisor": changed("encoding", "divisor", to=4),
    "noise_bound": changed("encoding", "noise_bound", to=0.5),
    "rotation": changed("encoding", "rotation", to="cd" * 32),
    "no divisor": changed("encoding", "divisor", to=None),
    "task": changed("task", to="bc" * 32),
    "setup": changed("setup", to=""),
}


def parse(fields: Any) -> RoundSpec:
    return RoundSpec.from_bytes(json.dumps(fields).encode())


def test_every_field_of_the_models_is_in_the_list_of_changes() -> None:
    """A field added later must be added here, and with it to the digest."""
    assert set(RoundSpec.model_fields) == set(FIELDS)
    assert set(Roster.model_fields) == set(FIELDS["roster"])
    assert set(FixedPoint.model_fields) == set(FIELDS["encoding"])
    assert set(Layout.model_fields) == set(FIELDS["layout"])
    assert {*RoundSpec.model_fields} - {"version", "parameters", "roster", "layout", "encoding"} <= set(CHANGED)


def test_the_digest_changes_with_every_single_field() -> None:
    digests = {"as it was": parse(FIELDS).digest} | {name: parse(fields).digest for name, fields in CHANGED.items()}
    assert len(set(digests.values())) == len(digests)
    assert {len(digest) for digest in digests.values()} == {32}


@given(st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_the_order_of_keys(random: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            keys = list(value)
            random.shuffle(keys)
            return {key: shuffled(value[key]) for key in keys}
        return value

    assert parse(shuffled(FIELDS)).digest == parse(FIELDS).digest
    assert parse(shuffled(FIELDS)).to_bytes() == parse(FIELDS).to_bytes()


def test_a_spec_is_read_back() -> None:
    before = parse(FIELDS)
    after = RoundSpec.from_bytes(before.to_bytes())
    assert after == before
    assert after.digest == before.digest
    assert after.to_bytes() == before.to_bytes() == canonical_json(json.loads(before.to_bytes()))


@pytest.mark.parametrize("aggregators", [2, 3, 12])
def test_a_spec_that_is_read_back_still_passes_its_own_backend(aggregators: int) -> None:
    """Reading sorts names, and aggregator-10 stands before aggregator-2."""
    backend = build("smpc", {"aggregators": aggregators}).backend
    driver = Driver(backend, ["a", "b", "c"])
    made = driver.spec(
        1, layout=Layout.flat(3), encoding=FixedPoint.fit(clients=3, value_bound=1.0), task=task_digest(b"")
    )
    read = RoundSpec.from_bytes(made.to_bytes())
    assert read.digest == made.digest
    backend.check(read)


@pytest.mark.parametrize("cohort", [-1, 0, 1, 2])
def test_t8_t9_the_minimum_cohort_is_never_below_3(cohort: int) -> None:
    with pytest.raises(Refused, match=f"minimum_cohort is {cohort}, expected 3 at least"):
        spec(minimum_cohort=cohort)


def test_t9_the_minimum_cohort_is_3_where_nothing_is_said() -> None:
    assert parse({key: value for key, value in FIELDS.items() if key != "minimum_cohort"}).minimum_cohort == 3


def test_t9_too_few_clients_are_refused() -> None:
    clients = {name: FIELDS["roster"]["clients"][name] for name in ("site-0", "site-1")}
    with pytest.raises(Refused, match="2 clients take part, the minimum cohort is 3"):
        spec(minimum_cohort=3, roster=FIELDS["roster"] | {"clients": clients})
    with pytest.raises(Refused, match="5 clients take part, the minimum cohort is 6"):
        spec(minimum_cohort=6)


def test_m11_the_proof_must_cover_the_roster() -> None:
    with pytest.raises(Refused, match="the encoding is proven for 4 clients, the roster has 5"):
        spec(encoding=FIELDS["encoding"] | {"clients": 4})


def test_an_encoding_that_overflows_cannot_come_in_through_a_spec() -> None:
    with pytest.raises(Refused, match="modulus_bits = 32 is too small"):
        spec(encoding=FIELDS["encoding"] | {"value_bound": 1e9})


@pytest.mark.parametrize("place", ["", "roster", "layout", "encoding"])
def test_an_unknown_key_is_refused_by_name(place: str) -> None:
    fields = copy.deepcopy(FIELDS)
    (fields[place] if place else fields)["minimum_kohort"] = 3
    path = f"{place}.minimum_kohort" if place else "minimum_kohort"
    with pytest.raises(Refused, match=rf"^spec: unknown key '{path}'"):
        parse(fields)


def test_an_unknown_key_at_the_top_names_the_nearest() -> None:
    with pytest.raises(Refused, match=r"unknown key 'minimum_kohort' \(did you mean 'minimum_cohort'\?\)"):
        spec(minimum_kohort=3)


@pytest.mark.parametrize("name", ["run", "round", "backend", "roster", "layout", "encoding", "task"])
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(Refused, match=f"^spec: {name}: required, and not given"):
        parse({key: value for key, value in FIELDS.items() if key != name})


BAD: dict[str, dict[str, Any]] = {
    "version 2 (R8)": {"version": 2},
    "version true": {"version": True},
    "version 1.0": {"version": 1.0},
    "run in capitals": {"run": "A1" * 16},
    "run with a line end": {"run": "a1" * 16 + "\n"},
    "run too short": {"run": "a1" * 15},
    "round -1": {"round": -1},
    "round true": {"round": True},
    "round as a word": {"round": "7"},
    "round 7.0": {"round": 7.0},
    "round too large": {"round": 2**32 + 1},
    "phase": {"phase": "training"},
    "backend with a path": {"backend": "../smpc"},
    "backend empty": {"backend": ""},
    "backend +": {"backend": "dp+"},
    "backend with a line end": {"backend": "smpc\n"},
    "backend too long": {"backend": "a" * 129},
    "parameters a list": {"parameters": []},
    "parameters nested": {"parameters": {"a": {"b": 1}}},
    "too many parameters": {"parameters": {str(n): 1 for n in range(65)}},
    "uploads_to a stranger": {"uploads_to": "aggregator-2"},
    "uploads_to a client": {"uploads_to": "site-1"},
    "minimum_cohort true": {"minimum_cohort": True},
    "minimum_cohort as a word": {"minimum_cohort": "4"},
    "minimum_cohort 4.0": {"minimum_cohort": 4.0},
    "task short": {"task": "bb"},
    "task capitals": {"task": "BB" * 32},
    "task none": {"task": None},
    "setup short": {"setup": "cc"},
    "setup with a line end": {"setup": "cc" * 32 + "\n"},
    "value_bound as a word": {"encoding": FIELDS["encoding"] | {"value_bound": "1.0"}},
    "value_bound true": {"encoding": FIELDS["encoding"] | {"value_bound": True}},
    "clients as a word": {"encoding": FIELDS["encoding"] | {"clients": "5"}},
    "shape of floats": {"layout": {"tensors": [{"name": "w", "shape": [2.0]}]}},
    "shape as a word": {"layout": {"tensors": [{"name": "w", "shape": "23"}]}},
    "no tensors": {"layout": {"tensors": []}},
    "roster null": {"roster": None},
    "no clients": {"roster": FIELDS["roster"] | {"clients": {}}},
    "key short": {"roster": FIELDS["roster"] | {"server": "00"}},
    "client called server": {"roster": FIELDS["roster"] | {"helpers": {"server": "ee" * 32}}},
    "client's name a path": {"roster": FIELDS["roster"] | {"helpers": {"../x": "ee" * 32}}},
    "client and helper": {"roster": FIELDS["roster"] | {"helpers": {"site-1": "ee" * 32}}},
    "two with one key": {"roster": FIELDS["roster"] | {"helpers": {"aggregator-1": "01" * 32}}},
    "server's key again": {"roster": FIELDS["roster"] | {"helpers": {"aggregator-1": "00" * 32}}},
}


@pytest.mark.parametrize("name", BAD)
def test_a_spec_is_parsed_strictly(name: str) -> None:
    with pytest.raises(Refused) as refused:
        spec(**BAD[name])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        json.dumps(FIELDS).encode()[:-1],
        json.dumps(FIELDS).encode() + b" {}",
        json.dumps(FIELDS).encode().replace(b'"round": 7', b'"round": 7, "round": 7'),
        json.dumps(FIELDS).encode().replace(b'"site-1":', b'"site-0":'),
        json.dumps(FIELDS).encode().replace(b'"noise": 1.5', b'"noise": NaN'),
        json.dumps(FIELDS).encode().replace(b'"noise": 1.5', b'"noise": -Infinity'),
        json.dumps(FIELDS).encode().replace(b'"value_bound": 1.0', b'"value_bound": NaN'),
        json.dumps(FIELDS).encode().replace(b'"value_bound": 1.0', b'"value_bound": 1e999'),
    ],
    ids=lambda data: data[:12].decode("latin1") + f"... {len(data)}",
)
def test_what_is_not_strict_json_is_refused(data: bytes) -> None:
    with pytest.raises(Refused, match="spec"):
        RoundSpec.from_bytes(data)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5000], ids=["1e999", "-1e999", "5000 digits"])
def test_a_number_that_breaks_the_digest_does_not_come_in(number: str) -> None:
    """`1e999` is infinity to a JSON reader, and then the spec has no digest."""
    with pytest.raises(Refused, match="spec"):
        RoundSpec.from_bytes(json.dumps(FIELDS).replace('"noise": 1.5', f'"noise": {number}').encode())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_parameter_that_is_not_finite_is_refused_when_the_spec_is_made(value: float) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's ValidationError is one
        RoundSpec.model_validate(parse(FIELDS).model_dump() | {"parameters": {"noise": value}})


def test_t12_a_spec_over_the_limit_is_not_parsed() -> None:
    with pytest.raises(Refused, match=f"at most {MAX_SPEC_BYTES} expected"):
        RoundSpec.from_bytes(b" " * (MAX_SPEC_BYTES + 1))


@pytest.mark.parametrize("name", ["backend", "run", "task"])
def test_a_hostile_value_is_not_repeated_at_length(name: str) -> None:
    """The reason ends up in logs and on screens of every site."""
    with pytest.raises(Refused) as refused:
        spec(**{name: "x" * 100_000})
    assert len(str(refused.value)) < 500


def test_the_roster_knows_everybody_by_fingerprint() -> None:
    marks = parse(FIELDS).roster.fingerprints
    assert set(marks) == {"server", "aggregator-1", *(f"site-{n}" for n in range(5))}
    assert marks["site-2"] == b"\x03" * 32


@given(st.lists(st.binary(max_size=6), max_size=5), st.lists(st.binary(max_size=6), max_size=5))
def test_task_digests_do_not_slide(left: list[bytes], right: list[bytes]) -> None:
    assert (task_digest(*left) == task_digest(*right)) == (left == right)
    joined = b"".join(left)
    assert (task_digest(joined) == task_digest(*left)) == ([joined] == left)
