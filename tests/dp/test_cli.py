"""`secagg ledger`: what it prints, and what it fails on."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dp.accountant import Charge, epsilon
from dp.book import Budget
from dp.cli import ledger
from dp.ledger import Ledger
from dp.witness import Witness
from secagg.errors import Refused, VerificationFailed
from secagg.identity import Identity

BUDGET = Budget(population="heart", epsilon=8.0, delta=1e-5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "site-0.ledger"
    mine, witness = Ledger(path, "site-0"), Witness(tmp_path / "heads.json", Identity.generate())
    for number in (1, 2):
        head = mine.spend(Charge(5.0), budget=BUDGET, run="ab" * 16, round_number=number)
        witness.note("site-0", head)
    return path


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(ledger, list(map(str, arguments)))
    if done.exception is not None:
        raise done.exception
    return done.output


def test_show_prints_what_is_spent_of_each_budget(path: Path) -> None:
    before = path.read_bytes()
    assert run("show", path) == (
        f"{path}: ledger of site-0, 4 entries\n"
        f"  heart: epsilon {epsilon(5.0, 2, delta=1e-5):.3f} of 8 at delta 1e-05 for each client, in 2 charges\n"
    )
    path.write_bytes(before + b'{"body":')
    output = run("show", path)
    assert f"epsilon {epsilon(5.0, 3, delta=1e-5):.3f} of 8" in output
    assert "torn by a crash: 1, each counted as one of the costliest charges" in output
    assert path.read_bytes() == before + b'{"body":'


def test_verify_checks_the_chain_and_the_witness(path: Path, tmp_path: Path) -> None:
    alone = run("verify", path)
    assert "intact. ledger of site-0, 4 entries, head" in alone
    assert "an older copy of the ledger would look the same" in alone
    assert "it holds the head that the witness has seen, entry 3" in run(
        "verify", path, "--witness", tmp_path / "heads.json"
    )


def test_verify_fails_on_an_edit_and_on_a_rollback(path: Path, tmp_path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert "intact" in run("verify", path)
    with pytest.raises(VerificationFailed, match="rolled back or replaced: the witness has seen entry 3"):
        run("verify", path, "--witness", tmp_path / "heads.json")
    path.write_bytes(b"".join([lines[0], *lines[2:]]))
    with pytest.raises(VerificationFailed, match="entry 1: the chain is broken"):
        run("verify", path)
    path.write_bytes(b"".join(lines))
    with pytest.raises(Refused, match="no ledger of 'site-0' was ever witnessed there"):
        run("verify", path, "--witness", tmp_path / "none.json")
