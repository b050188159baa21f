"""Delete every guard in turn, and see its named test go red: `make mutants`.

A guard whose test stays green protects nothing that anybody checks. Each mutant is one exact replacement in
one file, applied to a copy of the tree; the originals are never touched. A guard that is no longer found, or a
test that passes without it, fails the run; so does a test that is red before anything is deleted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.guards import GUARDS, Guard

ROOT = Path(__file__).parent.parent
TREES = ("secagg", "he", "smpc", "dp", "fl_runtime", "tests", "examples")


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant: `killed`, or why it was not."""

    guard: Guard
    problem: str = ""


def copy_tree(to: Path) -> None:
    for tree in TREES:
        shutil.copytree(ROOT / tree, to / tree, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", to)


def run_tests(tree: Path, tests: Iterable[str]) -> tuple[int, str]:
    """Exit code and output of pytest on `tests`, importing everything from `tree`."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout + done.stderr


def run_mutant(guard: Guard) -> Verdict:
    """Apply one mutant to a copy of the tree and run its tests there."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_tree(copy)
        source = copy / guard.file
        text = source.read_text(encoding="utf-8")
        if text.count(guard.code) != 1:
            return Verdict(guard, f"the guard stands {text.count(guard.code)} times in {guard.file}, expected once")
        source.write_text(text.replace(guard.code, guard.instead), encoding="utf-8")
        code, output = run_tests(copy, guard.tests)
        if code == 0:
            return Verdict(guard, "its test stays green without it")
        if code != 1:
            return Verdict(guard, f"pytest ended with {code}: {output[-300:]}")
        return Verdict(guard)


def check_unharmed(guards: Iterable[Guard]) -> None:
    """All tests must be green before anything is deleted, or red would mean nothing."""
    with tempfile.TemporaryDirectory() as folder:
        copy_tree(Path(folder))
        code, output = run_tests(Path(folder), sorted({test for guard in guards for test in guard.tests}))
    if code != 0:
        sys.exit(f"the tests are not green to begin with:\n{output[-2000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="*", help="only the guards of these cases, such as T5")
    wanted = set(parser.parse_args().case)
    guards = [guard for guard in GUARDS if not wanted or wanted & set(guard.cases)]
    check_unharmed(guards)
    survived = 0
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for verdict in pool.map(run_mutant, guards):
            survived += bool(verdict.problem)
            outcome = verdict.problem or "red, as it must be"
            print(f"{' '.join(verdict.guard.cases):12} {verdict.guard.name:58} {outcome}", flush=True)
    print(f"{len(guards) - survived} of {len(guards)} guards have a test that goes red without them")
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
