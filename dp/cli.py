"""`secagg ledger`: what a site's ledger says, and whether it holds together."""

from __future__ import annotations

from pathlib import Path

import click


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
