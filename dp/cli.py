"""`secagg ledger`: what a site's ledger says, and whether it holds together. `secagg audit`: claims put to the test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from secagg.cli.options import backend_option, json_option, set_option

if TYPE_CHECKING:
    from dp.audit.run import Audit


@click.group()
def ledger() -> None:
    """Look at a site's privacy ledger, without changing it."""


@ledger.command()
@click.argument("path", type=click.Path(path_type=Path))
def show(path: Path) -> None:
    """Print what each population was granted and has spent, by the ledger in PATH."""
    from dp.ledger import read_book

    book = read_book(path)
    click.echo(f"{path}: ledger of {book.site}, {book.head.entries} entries")
    for account in book.accounts.values():
        budget = account.budget
        spent = book.epsilon(budget)
        click.echo(
            f"  {budget.population}: epsilon {spent:.3f} of {budget.epsilon:g} at delta {budget.delta:g} "
            f"for each {budget.unit}, in {len(account.charges)} charges"
        )
    if book.torn:
        click.echo(f"  torn by a crash: {book.torn}, each counted as one of the costliest charges")


@ledger.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--witness",
    "witness_file",
    type=click.Path(path_type=Path),
    help="The file in which a witness remembers heads, to find a rollback.",
)
def verify(path: Path, witness_file: Path | None) -> None:
    """Check the chain of the ledger in PATH, and its head against a witness."""
    from dp.ledger import read_book
    from dp.witness import read_heads
    from secagg.errors import Refused, VerificationFailed

    book = read_book(path)
    compared = "not compared with a witness: an older copy of the ledger would look the same"
    if witness_file is not None:
        known = read_heads(witness_file).get(book.site)
        if known is None:
            raise Refused(f"{witness_file}: no ledger of {book.site!r} was ever witnessed there")
        if not book.holds(known):
            raise VerificationFailed(
                f"{path}: rolled back or replaced: the witness has seen entry {known.entries - 1} with hash "
                f"{known.hash[:16]}, the ledger ends with entry {book.head.entries - 1}, hash {book.head.hash[:16]}"
            )
        compared = f"it holds the head that the witness has seen, entry {known.entries - 1}"
    click.echo(f"{path}: intact. ledger of {book.site}, {book.head.entries} entries, head {book.head.hash}")
    if book.torn:
        click.echo(f"{book.torn} lines were torn by a crash and count as spent")
    click.echo(compared)


@click.command()
@backend_option
@set_option
@click.option("--canaries", type=int, help="Units that are in or out by a coin (default: 8192 samples, 1024 clients).")
@click.option("--rounds", "--steps", "rounds", type=int, default=4, show_default=True, help="Rounds; steps of dp-sgd.")
@click.option(
    "--sampling-rate", type=float, default=1.0, show_default=True, help="Chance of a sample to be in a step of dp-sgd."
)
@click.option("--guesses", type=int, help="How many coins are guessed; an even number (default: a tenth).")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="That the lower bound is one.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of coins and directions, not of the noise.")
@json_option
@click.pass_context
def audit(
    context: click.Context,
    backend: str,
    settings: tuple[str, ...],
    canaries: int | None,
    rounds: int,
    sampling_rate: float,
    guesses: int | None,
    confidence: float,
    seed: int,
    json_file: Path | None,
) -> None:
    """Try to refute a claim of differential privacy: a lower bound of epsilon from one run on canaries.

    Exits with 1 where the claim is violated.
    """
    from dp.audit.run import Auditor, Design
    from secagg.cli.options import parse_settings, write_json
    from secagg.cli.progress import progress
    from secagg.settings import read_files

    design = Design(
        canaries=canaries,
        rounds=rounds,
        sampling_rate=sampling_rate,
        guesses=guesses,
        confidence=confidence,
        seed=seed,
    )
    auditor = Auditor(backend, read_files(parse_settings(settings), folder=Path()), design)
    with progress(f"audit {backend}", total=auditor.releases) as advance:
        found = auditor.run(advance)
    _print(found)
    if json_file is not None:
        write_json(json_file, found.model_dump_json(by_alias=True, indent=2))
    if found.violated:
        context.exit(1)


def _print(found: Audit) -> None:
    from rich.console import Console

    console = Console()

    def line(label: str, text: str) -> None:
        console.print(f"  {label:<12} {text}", highlight=False, soft_wrap=True)

    claim = found.claim
    console.print(
        f"[bold]{found.backend}[/bold]: {found.canaries:,} canaries, each a {claim.unit}, in runs of {found.cohort:,}, "
        f"{found.rounds} releases each",
        highlight=False,
        soft_wrap=True,
    )
    line("claim", f"epsilon {claim.epsilon:.3f} at delta {claim.delta:g} for one {claim.unit} ({claim.adjacency})")
    line("", f"noise multiplier {claim.noise_multiplier:.4f}, by {claim.accountant}")
    line("guesses", f"{found.right:,} of {found.guesses:,} right; no guess about the others")
    line("lower bound", f"epsilon {found.lower_bound:.3f} with confidence {found.confidence:g}")
    line("seed", f"{found.seed}, of coins and directions; noise follows from no seed")
    line("verdict", found.verdict)
