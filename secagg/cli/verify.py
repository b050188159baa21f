"""`secagg verify`: whether a run directory is what the run left behind."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--fingerprint", metavar="HEX", help="The server's fingerprint, known from elsewhere.")
def command(run_dir: Path, fingerprint: str | None) -> None:
    """Check RUN_DIR: the signed chain, every contribution's signature, every file's hash."""
    from secagg.rundir import verify_run

    verified = verify_run(run_dir, fingerprint=fingerprint)
    rounds = f"{verified.rounds}" if verified.planned is None else f"{verified.rounds} of {verified.planned}"
    click.echo(f"{run_dir}: intact. run {verified.run}, {rounds} rounds, {verified.entries} signed entries")
    if verified.aborted:
        click.echo(f"the run ended early: {verified.aborted}")
    click.echo(f"server key {verified.server_fingerprint} is the known one")
