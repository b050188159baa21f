"""Settings from outside, checked once: a pydantic model or one line that names the field and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from secagg.errors import Refused, did_you_mean

Model = TypeVar("Model", bound=BaseModel)
FILES = frozenset({"mask_file"})  # settings that are too long for a line, by the name under which a file gives them
MAX_FILE_BYTES = 48 << 20  # what is read goes into specs, which hold 64 MiB


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


def read_files(fields: Mapping[str, Any], *, folder: Path) -> dict[str, Any]:
    """The settings with those of `FILES` read: for `mask_file = "x"`, `mask` is the text in the file x.

    A relative path starts at `folder`. What goes into specs and records is the text: a path would mean another file
    elsewhere.

    Raises:
        Refused: the file cannot be read as text, is over `MAX_FILE_BYTES`, or both forms are given.
    """
    read = dict(fields)
    for name in FILES & read.keys():
        path, short = folder / str(read.pop(name)), name.removesuffix("_file")
        if short in read:
            raise Refused(f"{name}: {short} is given as well, expected one of them")
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
            read[short] = content.decode().strip()
        except OSError as error:
            raise Refused(f"{name}: {path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise Refused(f"{name}: {path}: not UTF-8 text") from None
        if len(content) > MAX_FILE_BYTES:
            raise Refused(f"{name}: {path}: over {MAX_FILE_BYTES} bytes")
    return read


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
