"""All audits that were registered, and all planted bugs: `tests.dp.audit.family`, `tests.guards.planted`.

    python -m benchmarks.dp.audits [--only claims|bugs] [--json FILE]

Every claim must be at least its lower bound. Every bug, planted in a copy of the tree, must be caught: by its audit,
which calls the claim violated, or where an audit cannot see it, by its test, which is green without it. Prints the
tables of docs/explanation/differential-privacy.md. Exits with 1 if a claim is violated or a bug is not caught.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.dp.audit.family import FAMILY
from tests.guards.planted import PLANTED, Planted
from tests.mutants import ROOT, check_unharmed, copy_tree, run_mutant


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("claims", "bugs"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    claims = {} if options.only == "bugs" else {name: run_audit(name, ROOT) for name in FAMILY}
    if claims:
        show_claims(claims)
    bugs = {}
    if options.only != "claims":
        check_unharmed(bug.guard for bug in PLANTED)
        bugs = {bug.name: plant(bug) for bug in PLANTED}
        show_bugs(bugs)
    if options.json:
        options.json.write_text(json.dumps({"claims": claims, "bugs": bugs}, indent=1) + "\n")
    sys.exit(any(audit["violated"] for audit in claims.values()) or not all(bug["caught"] for bug in bugs.values()))


def run_audit(name: str, tree: Path) -> dict[str, Any]:
    """One audit of the family on the code in `tree`: `secagg.audit/1`, and its `seconds`."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "tests.dp.audit.family", name],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"the audit {name} did not run:\n{done.stderr[-1000:]}")
    return {**json.loads(done.stdout), "seconds": time.perf_counter() - started}


def plant(bug: Planted) -> dict[str, Any]:
    """Plant a bug: whether its test goes red, and what its audit finds."""
    problem = run_mutant(bug.guard).problem
    if problem or not bug.audit:
        return {"caught": not problem, "by": "a test", "problem": problem}
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        source = tree / bug.file
        source.write_text(source.read_text(encoding="utf-8").replace(bug.code, bug.instead), encoding="utf-8")
        found = run_audit(bug.audit, tree)
    return {"caught": found["violated"], "by": "its audit", "audit": bug.audit, "found": found}


def show_claims(claims: dict[str, dict[str, Any]]) -> None:
    table = Table("audit", "backend", "claim", "delta", "guesses right", "lower bound", "verdict", "s")
    for name, found in claims.items():
        table.add_row(name, *figures(found), found["verdict"], f"{found['seconds']:.0f}")
    Console(width=160).print(table)


def show_bugs(bugs: dict[str, dict[str, Any]]) -> None:
    table = Table("planted bug", "caught by", "backend", "claim", "delta", "guesses right", "lower bound")
    for name, outcome in bugs.items():
        seen = figures(outcome["found"]) if "found" in outcome else [outcome["problem"]]
        table.add_row(name, outcome["by"] if outcome["caught"] else "NOTHING", *seen)
    Console(width=160).print(table)
    print(f"planted bugs caught: {sum(outcome['caught'] for outcome in bugs.values())} of {len(bugs)}")


def figures(found: dict[str, Any]) -> list[str]:
    claim = found["claim"]
    return [
        found["backend"],
        f"{claim['epsilon']:.2f}",
        f"{claim['delta']:g}",
        f"{found['right']:,} of {found['guesses']:,}",
        f"{found['lower_bound']:.2f}",
    ]


if __name__ == "__main__":
    main()
