"""`secagg train`: an experiment from a TOML file to a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from secagg.cli.options import workers_option

if TYPE_CHECKING:
    from fl_runtime.run import RunSummary


@click.command()
@click.argument("experiment", type=click.Path(path_type=Path))
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, such as training.lr=0.1."
)
@click.option("--output", type=click.Path(path_type=Path), help="The run directory (default: runs/NAME-BACKEND-DATE).")
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    help="The server's key file (secagg keygen), to sign the record of the run with; a fresh key by default.",
)
@workers_option
def train(experiment: Path, overrides: tuple[str, ...], output: Path | None, key_file: Path | None) -> None:
    """Train the model of EXPERIMENT.toml and leave a run directory with metrics, data sheet and transcript."""
    from fl_runtime.config import load
    from fl_runtime.run import run_experiment
    from secagg.cli.progress import progress
    from secagg.identity import Identity

    settings = load(experiment, overrides)
    server = None if key_file is None else Identity.load(key_file)
    path = output or default_output(settings.experiment.name, settings.privacy.backend)
    with progress(f"train {settings.privacy.backend}", total=settings.experiment.rounds) as advance:
        summary = run_experiment(settings, output=path, server=server, progress=advance)
    _print(summary, path)


def default_output(name: str, backend: str) -> Path:
    """A run directory under `runs/` that nobody has used yet."""
    import datetime

    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{name}-{backend.replace('+', '-')}-{stamp}"


def _print(summary: RunSummary, path: Path) -> None:
    from importlib.util import find_spec

    from rich.console import Console

    console = Console()
    scores = summary.final.overall

    def line(label: str, text: str) -> None:
        console.print(f"  {label:<12} {text}", highlight=False, soft_wrap=True)

    console.print(f"[bold]{summary.backend}[/bold]: {len(summary.evaluations) - 1} rounds", highlight=False)
    line(
        "accuracy", _figure(scores.accuracy) + f" (mean over clients {_figure(summary.final.client_mean('accuracy'))})"
    )
    line("AUC", _figure(scores.auc))
    line("loss", _figure(scores.loss))
    line("a client", f"{summary.upload_bytes / 1024:.1f} KiB up, {summary.download_bytes / 1024:.1f} KiB down a round")
    line("seconds", f"{summary.seconds:.1f}, of which the protocol {summary.protocol_s:.1f}")
    if summary.spent is not None:
        spent = summary.spent
        line("epsilon", f"{spent['epsilon']:.3f} at delta {spent['delta']:g} for each {spent['unit']}")
        for warning in spent["warnings"]:
            line("warning", warning)
    line("server saw", "; ".join(summary.server_saw))
    if summary.saturated:
        line("clipped", f"{summary.saturated} values were beyond value_bound and clipped; raise privacy.value_bound")
    if find_spec("matplotlib") is None:
        line("no curve", "install secagg[report] to have one drawn")
    line("run", f"{path} (check it with: secagg verify {path})")


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
