"""Settings from outside, checked once: a pydantic model or one line that names the field and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from secagg.errors import Refused, did_you_mean

Model = TypeVar("Model", bound=BaseModel)


class Settings(BaseModel):
    """Base of every settings model: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def read_settings(model: type[Model], fields: Mapping[str, Any], *, where: str) -> Model:
    """Validate `fields` as `model`. Raises `Refused`: one line, `where: field: reason`.

    Every place that reads settings (backend parameters, specs from a server, policies) comes through here,
    so that a mistake is reported in the same words everywhere.
    """
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        raise Refused(f"{where}: {_first_line(error, model)}") from None


def _first_line(error: ValidationError, model: type[BaseModel]) -> str:
    details = error.errors(include_url=False)
    first = next((item for item in details if item["type"] == "extra_forbidden"), details[0])
    path = ".".join(_short(str(part), quoted=False) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        valid = model.model_fields if len(first["loc"]) == 1 else ()
        return f"unknown key {path!r}" + (did_you_mean(path, valid) if valid else "")
    if first["type"] == "missing":
        return f"{path}: required, and not given"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    given = first["input"]
    shown = f", got {_short(given)}" if isinstance(given, str | int | float | bool | None) else ""
    return f"{path}: {message}{shown}" if path else message


def _short(value: object, *, quoted: bool = True) -> str:
    """The value as text, cut where a hostile one would fill the screen."""
    text = repr(value) if quoted else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
