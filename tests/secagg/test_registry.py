"""Backends by name: what is mistyped is named with the nearest valid one, and what cannot hold is refused."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest

from secagg import registry
from secagg.errors import Refused
from secagg.layered import Layered
from secagg.plain import Plain
from secagg.protocol import Backend
from secagg.registry import GROUP, build, parameter_names
from secagg.settings import Settings


class NoisyParameters(Settings):
    """Parameters of a stand-in for training with noise."""

    epochs: int = 1


class Noisy:
    """A stand-in for what acts where clients train."""

    kind: ClassVar[str] = "training"
    Parameters: ClassVar[type[Settings]] = NoisyParameters
    name = "noisy"

    def __init__(self, parameters: NoisyParameters) -> None:
        self.parameters = parameters.model_dump()

    def spent(self) -> dict[str, Any]:
        return {"epsilon": 1.0}

    def compose(self, inner: Any) -> Any:
        return inner


class Unwilling(Noisy):
    """Cannot hold around anything."""

    def compose(self, inner: Any) -> Any:
        raise Refused("unwilling: this pair cannot hold")


EXTRA = {
    "halving": EntryPoint("halving", "tests.toy.halving:Halving", GROUP),
    "noisy": EntryPoint("noisy", "tests.secagg.test_registry:Noisy", GROUP),
    "unwilling": EntryPoint("unwilling", "tests.secagg.test_registry:Unwilling", GROUP),
    "lacking": EntryPoint("lacking", "no_such_library.backend:Backend", GROUP),
    "hollow": EntryPoint("hollow", "tests.toy.halving:NoSuchClass", GROUP),
}


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two real sums and toys around them, whatever else is installed."""
    real = {name: entry for name, entry in registry.available().items() if name in ("plain", "smpc")}
    monkeypatch.setattr(registry, "available", lambda: dict(sorted((real | EXTRA).items())))


def test_a_sum_by_name() -> None:
    composition = build("plain")
    assert composition.name == "plain"
    assert isinstance(composition.backend, Plain)
    assert isinstance(composition.backend, Backend)
    assert composition.training is None
    assert composition.spent(10) is None


def test_parameters_are_flat_and_go_to_the_part_that_knows_them() -> None:
    composition = build("noisy+halving+smpc", {"times": 3, "aggregators": 2, "epochs": 5})
    assert isinstance(composition.backend, Layered)
    assert dict(composition.backend.parameters) == {
        "aggregators": 2,
        "threshold": 2,
        "suite": "chacha20",
        "times": 3,
    }
    assert composition.training is not None
    assert composition.training.parameters == {"epochs": 5}
    assert composition.spent(3) == {"epsilon": 1.0}
    assert parameter_names("noisy+halving+smpc") == {"times", "aggregators", "threshold", "suite", "epochs"}


def test_a_layer_alone_stands_around_plain() -> None:
    composition = build("halving", {"times": 2})
    assert composition.backend.name == "halving+plain"
    assert parameter_names("halving") == {"times"}
    assert build("noisy").backend.name == "plain"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("plian", r"unknown backend 'plian' \(did you mean 'plain'\?\)"),
        ("Plain", r"unknown backend 'Plain' \(did you mean 'plain'\?\)"),
        ("plain ", r"unknown backend 'plain ' \(did you mean 'plain'\?\)"),
        ("smcp", r"unknown backend 'smcp' \(did you mean 'smpc'\?\)"),
        ("halvng+smpc", r"unknown backend 'halvng' in 'halvng\+smpc' \(did you mean 'halving'\?\)"),
        ("halving+smpcc", r"unknown backend 'smpcc' in 'halving\+smpcc' \(did you mean 'smpc'\?\)"),
        ("zzzzz", r"unknown backend 'zzzzz' \(valid: halving, hollow, lacking, noisy, plain, smpc, unwilling\)"),
        ("", r"unknown backend '' \(valid: .*plain"),
        ("plain+", r"unknown backend '' in 'plain\+' \(valid: "),
        ("+plain", r"unknown backend '' in '\+plain' \(valid: "),
    ],
)
def test_an_unknown_name_names_the_nearest(name: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        build(name)
    with pytest.raises(Refused, match=says):
        parameter_names(name)


@pytest.mark.parametrize(
    ("name", "key", "says"),
    [
        ("smpc", "agregators", r"backend 'smpc': unknown parameter 'agregators' \(did you mean 'aggregators'\?\)"),
        ("smpc", "degree", r"unknown parameter 'degree' \(valid: aggregators, suite, threshold\)"),
        ("plain", "aggregators", r"backend 'plain': unknown parameter 'aggregators' \(it has no parameters\)"),
        ("halving+smpc", "time", r"unknown parameter 'time' \(did you mean 'times'\?\)"),
    ],
)
def test_an_unknown_parameter_names_the_nearest(name: str, key: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        build(name, {key: 1})


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"aggregators": 1}, r"backend 'smpc': aggregators: .*greater than or equal to 2, got 1"),
        ({"aggregators": 17}, r"aggregators: .*less than or equal to 16, got 17"),
        ({"aggregators": "many"}, r"aggregators: .*integer.*, got 'many'"),
        ({"threshold": 4}, r"smpc: threshold is 4, expected 2 to 3, the number of aggregators"),
        ({"threshold": "two"}, r"threshold: .*integer.*, got 'two'"),
        ({"suite": "chacha21"}, r"suite: .*'chacha20', 'aes128ctr' or 'aes256ctr', got 'chacha21'"),
        ({"suite": None}, r"suite: .*, got None"),
        ({"aggregators": [3]}, r"aggregators: .*integer"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_field(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        build("smpc", parameters)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("plain+smpc", "sum+sum"),
        ("smpc+halving", "sum+layer+sum"),
        ("halving+noisy+plain", "layer+training+sum"),
        ("noisy+noisy+plain", "training+training+sum"),
    ],
)
def test_a_name_in_the_wrong_order_is_refused(name: str, kinds: str) -> None:
    with pytest.raises(Refused) as refused:
        build(name)
    assert str(refused.value) == f"backend {name!r}: expected [training+][layer+]sum, got {kinds}"


def test_a_pair_that_cannot_hold_is_refused_when_it_is_built() -> None:
    with pytest.raises(Refused, match="unwilling: this pair cannot hold"):
        build("unwilling+smpc")


def test_a_backend_whose_library_is_missing_says_which() -> None:
    with pytest.raises(Refused, match=r"backend 'lacking' needs a library that is not installed: .*no_such_library"):
        build("lacking")


def test_a_package_that_names_a_class_it_does_not_have_is_refused() -> None:
    """An entry point of somebody else's that is broken is one line, too."""
    with pytest.raises(Refused, match="hollow"):
        build("hollow")


def test_two_packages_that_claim_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    entries = [EntryPoint("plain", "secagg.plain:Plain", GROUP), EntryPoint("plain", "evil.plain:Plain", GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    uncached = registry.available.__wrapped__
    with pytest.raises(Refused, match=r"backend 'plain' is registered twice: secagg\.plain:Plain, evil\.plain:Plain"):
        uncached()
    # The same package seen twice on the path is one registration.
    monkeypatch.setattr(registry, "entry_points", lambda group: entries[:1] * 2)
    assert list(uncached()) == ["plain"]


def test_listing_imports_nothing() -> None:
    code = (
        "import sys; from secagg.registry import available; "
        "assert {'plain', 'smpc', 'dp', 'ckks'} <= set(available()); "
        "assert not {'he', 'smpc', 'dp', 'tenseal', 'torch', 'dp_accounting'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_composition_says_what_each_party_sees() -> None:
    for name in ("plain", "smpc", "halving", "halving+smpc"):
        guarantees = build(name).guarantees.to_json()
        assert guarantees["protection"]
        assert {"server", "clients"} <= set(guarantees["sees"])
