"""The example scripts run as they are, and print what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("0*.py"))


def test_there_is_a_script_for_each_level() -> None:
    names = ["01_plain", "02_ckks", "03_smpc", "04_dp", "05_bfv", "06_secaggplus", "07_selective"]
    names += ["08_inside_the_sum", "09_dp_sgd"]
    assert [f"{name}.py" for name in names] == SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_runs_and_prints_its_figures(script: str, tmp_path: Path) -> None:
    path = EXAMPLES / script
    assert len(path.read_text().splitlines()) < 60
    done = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    for label in ("accuracy", "bytes up", "seconds", "server saw"):
        assert label in done.stdout
    assert done.stderr == ""


def test_the_third_run_is_refused_by_the_sites_ledgers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "04_dp.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.stdout.count("accuracy") == 2
    assert "refused     client-0: the privacy budget of 'digits' is exhausted" in done.stdout
    spent = [float(line.split()[4]) for line in done.stdout.splitlines() if line.startswith("ledger")]
    assert 49.9 < spent[0] < spent[1] < spent[2] <= 100


@pytest.mark.parametrize(
    ("script", "tells"),
    [
        ("01_plain.py", True),
        ("02_ckks.py", False),
        ("03_smpc.py", False),
        ("05_bfv.py", False),
        ("06_secaggplus.py", False),
    ],
)
def test_an_upload_tells_the_server_of_the_update_only_where_nothing_protects_it(script: str, tells: bool) -> None:
    backend = script[3:-3]
    code = f"from report import upload_correlation; print(upload_correlation({backend!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLES, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    correlation = float(done.stdout)
    # 20,000 values: an unrelated vector stays below 0.04 except with probability 1e-8.
    assert (correlation > 0.999) if tells else (abs(correlation) < 0.04)


def test_the_example_of_sharing_loses_an_aggregator_and_keeps_the_mean_of_all(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "03_smpc.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("died in mid-round: aggregator-1; the mean of all four hospitals errs")
    assert float(last.rsplit(" ", 1)[1]) < 1e-7


def test_the_example_of_dropouts_ends_with_the_mean_of_those_who_stayed(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "06_secaggplus.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    last = done.stdout.splitlines()[-1]
    assert last.startswith(
        "vanished in mid-round: hospital-h, hospital-i, hospital-j; the mean of the other seven errs"
    )
    assert float(last.rsplit(" ", 1)[1]) < 1e-7
