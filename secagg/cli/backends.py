"""`secagg backends`: every registered backend and what it promises."""

from __future__ import annotations

from typing import Any

import click

from secagg.cli.options import sees


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def command(as_json: bool) -> None:
    """List the backends with their guarantees."""
    import json

    from rich.console import Console

    from secagg.registry import available, build

    console = Console()
    guarantees = {}
    for name in available():
        composition = build(name)
        guarantees[name] = {
            "parameters": dict(composition.backend.parameters),
            **composition.guarantees.to_json(),
        }
    if as_json:
        click.echo(json.dumps(guarantees, indent=2))
        return
    for name, record in guarantees.items():
        console.print(f"[bold]{name}[/bold]  {record['protection']}", highlight=False, soft_wrap=True)
        if record["experimental"]:
            console.print(f"  [yellow]experimental[/yellow]: {record['experimental']}", highlight=False, soft_wrap=True)
        for label, text in _lines(record):
            console.print(f"  {label:<19} {text}", highlight=False, soft_wrap=True)
        console.print()


def _lines(record: dict[str, Any]) -> list[tuple[str, str]]:
    privacy = record["privacy"]
    return [
        ("adversary", record["adversary"]),
        ("collusion", record["collusion"]),
        ("key holder", record["key_holder"]),
        *((sees(party), "; ".join(things)) for party, things in record["sees"].items()),
        ("dropouts", record["dropouts"]),
        ("exactness", record["exactness"]),
        ("two specs", record["two_specs"]),
        *([("privacy", ", ".join(f"{key} {value}" for key, value in privacy.items()))] if privacy else []),
        *(("limitation", text) for text in record["limitations"]),
        ("parameters", ", ".join(f"{key}={value}" for key, value in record["parameters"].items()) or "none"),
    ]
