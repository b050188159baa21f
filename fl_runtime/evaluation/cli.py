"""`secagg evaluate`: an evaluation from a TOML file to a report."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from secagg.errors import Refused


@click.command()
@click.argument("evaluation", type=click.Path(path_type=Path))
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, such as evaluation.images=20."
)
@click.option("--output", type=click.Path(path_type=Path), help="The report's folder (default: reports/NAME).")
@click.option(
    "--processes",
    type=click.IntRange(1, 1024),
    default=os.cpu_count() or 1,
    show_default="one a core",
    help="How many cells are computed at a time.",
)
def evaluate(evaluation: Path, overrides: tuple[str, ...], output: Path | None, processes: int) -> None:
    """Attack every protection in EVALUATION.toml and leave report.html, report.json and report.md.

    What has been computed is kept under OUTPUT/cache: a run that was stopped goes on where it stood.
    """
    from fl_runtime.config import load_as
    from fl_runtime.evaluation.evaluate import evaluate as run
    from fl_runtime.evaluation.evaluate import plan
    from fl_runtime.evaluation.matrix.settings import Evaluation
    from fl_runtime.evaluation.report.document import to_json
    from fl_runtime.evaluation.report.markdown import to_markdown
    from fl_runtime.evaluation.report.page import to_html
    from secagg.cli.progress import progress

    settings = load_as(Evaluation, evaluation, overrides)
    folder = output or Path("reports") / settings.evaluation.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{folder}: cannot write: {error.strerror}") from None

    def damaged(path: Path, reason: str) -> None:
        click.echo(f"secagg: {path}: {reason}; it is computed again", err=True)

    with progress(f"evaluate {settings.evaluation.name}", total=len(plan(settings))) as advance:
        finished = run(settings, folder=folder / "cache", processes=processes, done=advance, damaged=damaged)
    report = to_json(finished, command=_command(evaluation, overrides))
    texts = {
        "report.html": to_html(finished, report),
        "report.json": _text(report),
        "report.md": to_markdown(finished, report),
    }
    for name, text in texts.items():
        try:
            (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise Refused(f"{folder / name}: cannot write: {error.strerror}") from None
        click.echo(folder / name)


def _command(evaluation: Path, overrides: tuple[str, ...]) -> str:
    return shlex.join(
        ["secagg", "evaluate", str(evaluation), *(part for text in overrides for part in ("--set", text))]
    )


def _text(report: object) -> str:
    import json

    return json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
