"""Parameters of attacks and defences, checked in one place: what a field may hold stands in its annotation.

    @dataclass(frozen=True)
    class Mine:
        iterations: Count = 100
        tv: Weight = 1e-3

        name: ClassVar[str] = "mine"

        def __post_init__(self) -> None:
            check(self)

Whole numbers are accepted where numbers are expected; truth values never are, and text is never read as a number.
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, Protocol, get_args, get_origin, get_type_hints

import numpy as np

from secagg.errors import Refused

LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Rule:
    """`expected` in words, and whether a number is that. NaN must not hold."""

    expected: str
    holds: Callable[[float], bool]


Count = Annotated[int, Rule("a whole number from 1 to 1000000", lambda count: 1 <= count <= 1_000_000)]
Weight = Annotated[float, Rule("a finite number from 0", lambda value: 0 <= value <= LARGEST)]
Positive = Annotated[float, Rule("a finite number above 0", lambda value: 0 < value <= LARGEST)]
Share = Annotated[float, Rule("a number above 0 and below 1", lambda value: 0 < value < 1)]
ShareOrAll = Annotated[float, Rule("a number above 0 and up to 1", lambda value: 0 < value <= 1)]


class Parameters(Protocol):
    """A dataclass with a name, as attacks and defences are."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str:
        """As reports print it."""


def check(parameters: Parameters) -> None:
    """Hold every field to its annotation: text, a type with a `Rule`, a `Literal` of texts, or a tuple of those.

    Raises:
        Refused: `name: field is value, expected ...`, for the first field that does not hold.
        TypeError: an annotation is of no such kind: a mistake in the class, not in what was given.
    """
    annotations = get_type_hints(type(parameters), include_extras=True)
    for field in fields(parameters):
        value, annotation = getattr(parameters, field.name), annotations[field.name]
        if not _holds(value, annotation):
            given, expected = reprlib.repr(value), _expected(annotation)
            raise Refused(f"{parameters.name}: {field.name} is {given}, expected {expected}")


def _holds(value: object, annotation: Any) -> bool:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is str:
        return isinstance(value, str)
    if origin is Annotated:
        number, rule = arguments
        value = value.item() if isinstance(value, np.generic) else value
        kinds = int if number is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and bool(rule.holds(value))
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and len(value) > 0 and all(_holds(item, arguments[0]) for item in value)
    raise TypeError(f"no rule for a parameter of type {annotation}")


def _expected(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is str:
        return "text"
    if origin is Annotated:
        return str(arguments[1].expected)
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    return f"a tuple (a list in a file) that is not empty, each {_expected(arguments[0])}"
