"""Backends by name: `build("dp+smpc", {"noise_multiplier": 1.0})`, found through entry points.

A name is `[training+][layer+...]sum`. Each part is an entry point in the group `secagg.backends`, so that a
package of somebody else's can add one. Parameters are flat: each goes to the part that knows it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from secagg.errors import Refused, did_you_mean
from secagg.guarantees import Guarantees
from secagg.layered import Layered
from secagg.protocol import Backend, Component, Layer, Training
from secagg.settings import read_settings
from secagg.vectors import Layout

GROUP = "secagg.backends"


@dataclass(frozen=True)
class Composition:
    """A built name: what protects the sum, and what (if anything) acts where clients train."""

    name: str
    backend: Backend
    training: Training | None

    @property
    def guarantees(self) -> Guarantees:
        inner = self.backend.guarantees
        return inner if self.training is None else self.training.compose(inner)

    def layout(self, model: Layout) -> Layout:
        """What travels for a model of this layout: layers may add tensors of their own behind it."""
        for layer in self.layers:
            model = layer.extend(model)
        return model

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What stands around the sum, the outermost first."""
        return self.backend.layers if isinstance(self.backend, Layered) else ()

    def spent(self, rounds: int, *, clients: int | None = None) -> Mapping[str, Any] | None:
        """The privacy spent after so many rounds, or None where no differential privacy is claimed."""
        if self.training is not None:
            return self.training.spent()
        claims = [claim for layer in self.layers if (claim := layer.spent(rounds, clients=clients)) is not None]
        return claims[0] if claims else None


@functools.cache
def available() -> Mapping[str, EntryPoint]:
    """The registered parts by name. Nothing is imported. Two packages that claim one name are refused."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in found and found[entry.name].value != entry.value:
            raise Refused(f"backend {entry.name!r} is registered twice: {found[entry.name].value}, {entry.value}")
        found[entry.name] = entry
    return dict(sorted(found.items()))


def build(name: str, parameters: Mapping[str, Any] | None = None) -> Composition:
    """Build a composition. Raises `Refused` for an unknown name or parameter, naming the nearest valid one."""
    classes = [_load(part, name) for part in _expand(name)]
    made = [component(own) for component, own in zip(classes, _deal(name, classes, parameters or {}), strict=True)]
    kinds = [component.kind for component in classes]
    if kinds[-1] != "sum" or "sum" in kinds[:-1] or "training" in kinds[1:]:
        raise Refused(f"backend {name!r}: expected [training+][layer+]sum, got {'+'.join(kinds)}")
    backend: Any = made[-1]
    layers: list[Any] = [part for part in made if part.kind == "layer"]
    if layers:
        backend = Layered(layers, backend)
    training: Any = made[0] if kinds[0] == "training" else None
    composition = Composition(name, backend, training)
    _ = composition.guarantees  # a pair that cannot hold is refused here
    return composition


def parameter_names(name: str) -> frozenset[str]:
    """The parameters that `build(name, ...)` takes. Raises `Refused` for an unknown name."""
    return frozenset(field for part in _expand(name) for field in _load(part, name).Parameters.model_fields)


def for_rounds(name: str, parameters: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    """The parameters of `build(name, ...)` for a run of so many rounds: what it is spent over and a key is good for.

    Raises:
        Refused: an unknown name, or another number of `rounds` is given.
    """
    known, filled = parameter_names(name), dict(parameters)
    if "rounds" in known and filled.setdefault("rounds", rounds) != rounds:
        raise Refused(f"rounds is {filled['rounds']}, and the run has {rounds}; leave it out")
    if "query_budget" in known:
        filled.setdefault("query_budget", rounds)
    return filled


def _expand(name: str) -> list[str]:
    """`dp` alone is a layer around `plain`."""
    parts = name.split("+")
    if all(part in available() for part in parts) and _load(parts[-1], name).kind != "sum":
        parts.append("plain")
    return parts


def _load(part: str, name: str) -> Component:
    try:
        entry = available()[part]
    except KeyError:
        where = f" in {name!r}" if part != name else ""
        raise Refused(f"unknown backend {part!r}{where}{did_you_mean(part, available())}") from None
    try:
        component: Component = entry.load()
    except ImportError as error:
        raise Refused(f"backend {part!r} needs a library that is not installed: {error}") from None
    except AttributeError as error:
        raise Refused(f"backend {part!r} cannot be loaded: {error}") from None
    return component


def _deal(name: str, classes: list[Component], parameters: Mapping[str, Any]) -> list[Any]:
    """Give every part the parameters it knows. A parameter that nobody knows is refused."""
    known = parameter_names(name)
    for key in parameters:
        if key not in known:
            hint = did_you_mean(key, known) if known else " (it has no parameters)"
            raise Refused(f"backend {name!r}: unknown parameter {key!r}{hint}")
    return [
        read_settings(
            component.Parameters,
            {key: value for key, value in parameters.items() if key in component.Parameters.model_fields},
            where=f"backend {name!r}",
        )
        for component in classes
    ]
