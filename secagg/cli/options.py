"""Options that several commands share."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import click

from secagg.cores import MAX_WORKERS, VARIABLE, use_workers
from secagg.errors import Refused

backend_option = click.option(
    "--backend", required=True, metavar="NAME", help="Backend by name, such as ckks, smpc, dp or dp+plain."
)
params_option = click.option(
    "--params", type=click.IntRange(1), default=1_000_000, show_default=True, help="Parameters of the model."
)
clients_option = click.option("--clients", type=int, default=10, show_default=True, help="Clients in the cohort.")
set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A parameter of the backend; may be repeated."
)


def _use_workers(context: click.Context, parameter: click.Parameter, count: int | None) -> None:
    # All parties of a simulation are in this one process: nobody is protected from what a crash would take along.
    use_workers(0 if count is None and VARIABLE not in os.environ else count)


workers_option = click.option(
    "--workers",
    type=click.IntRange(0, MAX_WORKERS),
    callback=_use_workers,
    expose_value=False,
    help=f"Worker processes for homomorphic encryption. Default: what {VARIABLE} says, or else 0: none.",
)


def _in_a_folder(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Seen before anything is measured."""
    if path is not None and not path.absolute().parent.is_dir():
        raise Refused(f"{path}: cannot write: No such file or directory")
    return path


json_option = click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_in_a_folder,
    help="Also write the figures as JSON.",
)


def sees(party: str) -> str:
    """`server sees`, `clients see`."""
    return f"{party} see" if party.endswith("s") else f"{party} sees"


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """`("degree=10", "suite=aes128ctr")` as `{"degree": 10, "suite": "aes128ctr"}`: TOML values, or bare words."""
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not (key and equals):
            raise Refused(f"--set {setting!r}: expected KEY=VALUE")
        if key in parsed:
            raise Refused(f"--set {key}: given twice")
        if "\n" in value:
            raise Refused(f"--set {key}: expected one value on one line")
        try:
            parsed[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed[key] = value
    return parsed


def write_json(path: Path, text: str) -> None:
    """Write a JSON file, or raise `Refused` with the reason."""
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise Refused(f"{path}: cannot write: {error.strerror}") from None
