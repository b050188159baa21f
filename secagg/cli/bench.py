"""`secagg bench`: what one round of a backend costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from secagg.cli.options import backend_option, clients_option, json_option, params_option, set_option, workers_option

if TYPE_CHECKING:
    from secagg.bench import BenchReport
    from secagg.guarantees import Guarantees

_ACKNOWLEDGE = "acknowledge_weak_parameters"


@click.command()
@backend_option
@params_option
@clients_option
@click.option("--dropouts", type=click.IntRange(0), default=0, show_default=True, help="Clients that vanish.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Rounds; medians are given.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the inputs.")
@click.option(
    "--modulus-bits", type=int, default=32, show_default=True, help="Ring of the sums: 20 to 24 (packed), 32 or 64."
)
@set_option
@workers_option
@json_option
def command(
    backend: str,
    params: int,
    clients: int,
    dropouts: int,
    repeat: int,
    seed: int,
    modulus_bits: int,
    settings: tuple[str, ...],
    json_file: Path | None,
) -> None:
    """Measure one round: CPU, wall time, bytes, memory and error."""
    from secagg.bench import Workload, run_bench
    from secagg.cli.options import parse_settings, write_json
    from secagg.cli.progress import progress
    from secagg.registry import build, parameter_names
    from secagg.settings import read_files

    workload = Workload(params, clients, dropouts, seed)
    parameters = read_files(parse_settings(settings), folder=Path())
    if _ACKNOWLEDGE in parameter_names(backend):
        # Nobody's data is at stake: weak parameters are obeyed, and what they attain is printed.
        parameters.setdefault(_ACKNOWLEDGE, True)
    composition = build(backend, parameters)
    with progress(f"bench {backend}", total=clients * repeat) as advance:
        report = run_bench(composition, workload, repeat=repeat, modulus_bits=modulus_bits, progress=advance)
    _print(report, composition.guarantees)
    if (attained := getattr(composition.backend, "attained", None)) is not None:
        click.echo(f"attained: {attained(clients)}")
    if json_file is not None:
        write_json(json_file, report.model_dump_json(by_alias=True, indent=2))


def _print(report: BenchReport, guarantees: Guarantees) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        f"[bold]{report.backend}[/bold]: {report.params:,} parameters, {report.clients} clients, "
        f"{report.dropouts} {'dropout' if report.dropouts == 1 else 'dropouts'}",
        highlight=False,
    )
    if guarantees.experimental:
        console.print(f"[yellow]experimental[/yellow]: {guarantees.experimental}", highlight=False, soft_wrap=True)
    table = Table(show_header=True, box=None, pad_edge=False)
    for column in ("", "CPU", "wall", "bytes / parameter"):
        table.add_column(column, justify="left" if not column else "right")
    client, server, helpers = report.client, report.server, report.helpers
    table.add_row(
        "one client protects",
        _ms(client.protect_cpu_s),
        _ms(client.protect_wall_s),
        f"{client.upload_bytes_per_param:.2f} up",
    )
    table.add_row("one client reveals", _ms(client.reveal_cpu_s), "", "")
    table.add_row(
        "server",
        _ms(server.total_cpu_s),
        _ms(server.total_wall_s),
        f"{server.download_bytes_per_param:.2f} down",
    )
    table.add_row("helpers", _ms(helpers.total_cpu_s), "", f"{helpers.bytes_per_param:.2f}")
    table.add_row("round", "", _ms(report.wall_s), "")
    console.print(table)
    console.print(
        f"error of the mean {report.max_abs_error:.2e} (integer sum exact: {'yes' if report.exact else 'no'}), "
        f"peak memory {report.peak_rss_mib:.0f} MiB",
        highlight=False,
    )
    console.print(f"protection: {guarantees.protection}", highlight=False, soft_wrap=True)
    console.print(f"key holder: {guarantees.key_holder}", highlight=False, soft_wrap=True)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms"
