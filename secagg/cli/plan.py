"""`secagg plan`: what a run will cost and show, before it is started."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from secagg.cli.options import backend_option, clients_option, json_option, params_option, set_option

if TYPE_CHECKING:
    from secagg.plan import Plan


@click.command()
@backend_option
@params_option
@clients_option
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True, help="Rounds of the run.")
@click.option("--rows", type=click.IntRange(1), help="Rows of one client, for dp-sgd.")
@click.option("--batch-size", type=click.IntRange(1), help="Rows in a batch on average, for dp-sgd.")
@click.option("--local-steps", type=click.IntRange(1), help="Steps of a client in one round, for dp-sgd.")
@set_option
@json_option
def command(
    backend: str,
    params: int,
    clients: int,
    rounds: int,
    rows: int | None,
    batch_size: int | None,
    local_steps: int | None,
    settings: tuple[str, ...],
    json_file: Path | None,
) -> None:
    """Plan a run: bytes, seconds, epsilon, and what each party sees."""
    from secagg.cli.options import parse_settings, write_json
    from secagg.errors import Refused
    from secagg.plan import LocalWork, make_plan, planned_privacy
    from secagg.registry import build, for_rounds
    from secagg.settings import read_files

    parameters = for_rounds(backend, read_files(parse_settings(settings), folder=Path()), rounds)
    composition = build(backend, parameters)
    work = None
    if rows is not None and batch_size is not None and local_steps is not None:
        work = LocalWork(rows, batch_size, local_steps)
    elif not rows is batch_size is local_steps:
        raise Refused("--rows, --batch-size, --local-steps: expected all three, or none")
    plan = make_plan(composition, params=params, clients=clients, rounds=rounds, work=work)
    _print(plan, planned_privacy(composition, rounds=rounds, clients=clients, work=work) or {})
    if json_file is not None:
        write_json(json_file, plan.model_dump_json(by_alias=True, indent=2))


def _print(plan: Plan, spent: Mapping[str, Any]) -> None:
    from rich.console import Console

    from secagg.cli.options import sees

    console = Console()

    def line(label: str, text: str) -> None:
        console.print(f"  {label:<19} {text}", highlight=False, soft_wrap=True)

    console.print(
        f"[bold]{plan.backend}[/bold]: {plan.params:,} parameters, {plan.clients} clients, "
        f"{plan.rounds} round{'' if plan.rounds == 1 else 's'}",
        highlight=False,
        soft_wrap=True,
    )
    line("each client", f"{_size(plan.client.upload_bytes)} up, {_size(plan.client.download_bytes)} down")
    line("", f"{plan.client.cpu_s:.2f} s of CPU, as measured on this machine")
    line("", "beside the model and the server's proposal, which come down too")
    line("server", f"{plan.server.cpu_s:.2f} s of CPU, {_size(plan.server.memory_bytes)} of memory for the sum")
    if plan.privacy is not None:
        privacy = plan.privacy
        line("privacy", f"epsilon {privacy.epsilon:.3f} at delta {privacy.delta:g} for each {privacy.unit}")
        line("", f"noise multiplier {privacy.noise_multiplier:.4f}, sampling rate {privacy.sampling_rate:g}")
        if "epsilon_roster" in spent:
            line("", "against outsiders only, and only if cohorts are secret Poisson samples;")
            line("", f"to whoever sees the roster, epsilon {spent['epsilon_roster']:.3f}: a round counts in full")
    for warning in spent.get("warnings", ()):
        line("warning", warning)
    for party, things in plan.sees.items():
        line(sees(party), "; ".join(things))


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
