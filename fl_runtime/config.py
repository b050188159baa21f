"""Reading an experiment file: TOML, overrides from the command line, and one line for the first mistake."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from fl_runtime.experiment import Experiment
from secagg.errors import Refused, did_you_mean
from secagg.settings import read_files

Model = TypeVar("Model", bound=BaseModel)
_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")


def load(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment in the file `path`; see `load_as`."""
    return load_as(Experiment, path, overrides)


def load_as(model: type[Model], path: Path, overrides: Sequence[str] = ()) -> Model:
    """The settings in the file `path`, with `overrides` such as `"training.lr=0.1"` applied on top, in order.

    The right side of an override is a TOML value; what is none (`privacy.backend=ckks`) is a string.
    Relative paths (`data.path`, `privacy.mask_file`) start at the file's folder.

    Raises:
        Refused: one line naming the file (or the override), the key, and the reason.
    """
    settings = _read(path)
    replaced = [_override(settings, text) for text in overrides]
    try:
        if isinstance(privacy := settings.get("privacy"), dict):
            settings["privacy"] = read_files(privacy, folder=path.parent)
        return model.model_validate(settings, context={"folder": path.parent})
    except ValidationError as error:
        key, reason = _first(error, model)
        overridden = any(f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}.") for name in replaced)
        where = f"--set {key}" if overridden and key else f"{path}: {key}".removesuffix(": ")
        raise Refused(f"{where}: {reason}") from None
    except Refused as error:
        raise Refused(f"{path}: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise Refused(f"{path}: no such file") from None
    except OSError as error:
        raise Refused(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Refused(f"{path}: not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        last = len(path.read_bytes().splitlines())
        raise Refused(f"{path}: not valid TOML: {str(error).replace('end of document', f'end, line {last}')}") from None


def _override(settings: dict[str, Any], text: str) -> str:
    """Apply one `section.key=value` to `settings` in place; returns the dotted key."""
    key, equals, written = text.partition("=")
    key = key.strip()
    if not equals or not _KEY.fullmatch(key):
        raise Refused(f"--set {text}: expected section.key=value")
    try:
        parsed = tomllib.loads(f"value = {written}")
    except tomllib.TOMLDecodeError:
        parsed = {"value": written.strip()}
    if set(parsed) != {"value"}:
        raise Refused(f"--set {key}: expected one value")
    *sections, last = key.split(".")
    place = settings
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise Refused(f"--set {key}: {section!r} is not a section")
    place[last] = parsed["value"]
    return key


def _first(error: ValidationError, root: type[BaseModel]) -> tuple[str, str]:
    """The dotted key and the reason of the mistake most worth telling: a misspelt key before its consequences."""
    details = error.errors(include_url=False)
    item = next((item for item in details if item["type"] == "extra_forbidden"), details[0])
    given, kind = item["input"], item["type"]
    model, path = _locate(item["loc"], root)
    key = ".".join(path)
    if kind == "extra_forbidden":
        return key, f"unknown key{did_you_mean(path[-1], model.model_fields)}"
    if kind == "missing":
        return key, "required, and not given"
    if kind == "union_tag_not_found":
        return f"{key}.name", "required, and not given"
    if kind == "union_tag_invalid":
        names = re.findall(r"'([^']+)'", item["ctx"]["expected_tags"])
        return f"{key}.name", f"unknown name {item['ctx']['tag']!r}{did_you_mean(str(item['ctx']['tag']), names)}"
    reason = item["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return _own_words(key, reason, model)
    reason = reason.removeprefix("Input ")
    reason = reason[:1].lower() + reason[1:]
    return key, f"{reason}, got {given!r}" if isinstance(given, str | int | float | bool) else reason


def _own_words(key: str, reason: str, model: type[BaseModel]) -> tuple[str, str]:
    """Our validators of whole sections start their reason with the key that it is about."""
    about, colon, rest = reason.partition(": ")
    known = about.split(".")[0] in model.model_fields or model.model_config.get("extra") == "allow"
    if colon and known:
        return (f"{key}.{about}" if key else about), rest
    return key, reason


def _locate(location: tuple[int | str, ...], root: type[BaseModel]) -> tuple[type[BaseModel], list[str]]:
    """The model that the last step of a pydantic location stands in, and the location as written in the file.

    Pydantic puts the tag of a chosen variant (`mlp`) into the location; the file has no such level. Where sections have
    names of the file's own (`[models.mine]`), the tag comes behind the name.
    """
    model = root
    path: list[str] = []
    variants: dict[str, type[BaseModel]] = {}
    named = False
    for step in map(str, location):
        if named:
            path.append(step)
            named = False
            continue
        if step in variants:
            model, variants = variants[step], {}
            continue
        path.append(step)
        field = model.model_fields.get(step)
        named = field is not None and get_origin(field.annotation) is dict
        options = _models(field.annotation) if field else []
        variants = {str(option.model_fields["name"].default): option for option in options} if len(options) > 1 else {}
        model = options[0] if len(options) == 1 else model
    return model, path


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Union or get_args(annotation):
        return [model for part in get_args(annotation) for model in _models(part)]
    return []
