"""The command line as a user meets it: a mistake is one line on stderr and exit code 2, never a traceback."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dp.accountant import epsilon
from he.selective.mask import to_text
from secagg.cli.options import parse_settings
from secagg.errors import Refused
from secagg.identity import SERVER, Identity
from tests.secagg.runs import make_run

SECAGG = Path(sys.executable).with_name("secagg")


def secagg(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SECAGG, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )


def mistake(*arguments: str | Path) -> str:
    """Run, and return the one line on stderr."""
    done = secagg(*arguments)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 2, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("secagg: ")
    assert done.stdout == ""
    return lines[0]


def test_it_runs_as_a_module_too() -> None:
    done = subprocess.run([sys.executable, "-m", "secagg.cli", "nonsense"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("secagg: unknown command 'nonsense'")


SMALL = ("--params", "10", "--clients", "3")
MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "command": (("benhc",), r"unknown command 'benhc' \(did you mean 'bench'\?\)"),
    "backend": (("bench", "--backend", "plian"), r"unknown backend 'plian' \(did you mean 'plain'\?\)"),
    "backend in plan": (("plan", "--backend", "smcp"), r"unknown backend 'smcp' \(did you mean 'smpc'\?\)"),
    "no backend": (("bench",), r"--backend"),
    "parameter": (
        ("bench", "--backend", "smpc", "--set", "agregators=2"),
        r"unknown parameter 'agregators' \(did you mean 'aggregators'\?\)",
    ),
    "parameter of none": (("bench", "--backend", "plain", "--set", "x=1"), r"unknown parameter 'x' \(it has no"),
    "parameter out of range": (
        ("bench", "--backend", "smpc", "--set", "aggregators=99"),
        r"aggregators: .*less than or equal to 16, got 99",
    ),
    "--set without =": (("bench", "--backend", "smpc", "--set", "suite"), r"--set 'suite': expected KEY=VALUE"),
    "--set without a key": (("bench", "--backend", "smpc", "--set", "=3"), r"--set '=3': expected KEY=VALUE"),
    "--set twice": (
        ("bench", "--backend", "smpc", "--set", "suite=chacha20", "--set", "suite=aes128ctr"),
        r"--set suite: given twice",
    ),
    "too few clients": (("bench", "--backend", "plain", "--clients", "2"), r"--clients is 2, the minimum cohort is 3"),
    "too few clients in plan": (("plan", "--backend", "plain", "--clients", "2"), r"the minimum cohort is 3"),
    "no clients": (("bench", "--backend", "plain", "--clients", "0"), r"--clients"),
    "too many dropouts": (
        ("bench", "--backend", "plain", "--clients", "5", "--dropouts", "3"),
        r"--dropouts is 3, expected 0 to 2: 3 of the 5 clients must stay",
    ),
    "no params": (("bench", "--backend", "plain", "--params", "0"), r"--params"),
    "too many params": (("plan", "--backend", "plain", "--params", "5000000000"), r"5000000000|5,000,000,000"),
    "option": (("bench", "--backend", "plain", "--nope"), r"--nope"),
    "verify nothing": (("verify",), r"RUN_DIR"),
    "verify a folder that is none": (("verify", "/"), r"not a run directory"),
    "keygen with a path": (("keygen", "../x"), r"party name '\.\./x'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(name: str) -> None:
    arguments, says = MISTAKES[name]
    assert re.search(says, mistake(*arguments))


@pytest.mark.parametrize("command", ["bench", "plan"])
def test_json_into_a_missing_folder_is_refused_before_anything_is_measured(command: str, tmp_path: Path) -> None:
    """Else the work of a long benchmark is done, and lost."""
    line = mistake(command, "--backend", "plain", *SMALL, "--json", tmp_path / "none" / "x.json")
    assert "x.json: cannot write: No such file or directory" in line


def test_no_command_shows_the_help_in_lines() -> None:
    done = secagg()
    assert "Traceback" not in done.stderr
    text = (done.stdout + done.stderr).splitlines()
    assert len(text) > 5
    assert max(map(len, text)) <= 120
    assert any(line.split()[:1] == ["bench"] for line in text)


def test_help_lists_every_command_and_loads_no_heavy_library() -> None:
    """In under 0.3 s, which follows from what it does not import."""
    code = (
        "import sys; sys.argv = ['secagg', '--help']\n"
        "from secagg.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as leaving:\n    assert not leaving.code, leaving.code\n"
        "heavy = {'numpy', 'torch', 'pydantic', 'cryptography', 'rich', 'tenseal', 'sklearn', 'dp_accounting'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"
    for command in ("backends", "bench", "plan", "keygen", "verify", "train"):
        assert re.search(rf"^  {command} +\w", done.stdout, re.MULTILINE), done.stdout


def test_help_survives_a_command_whose_library_is_missing() -> None:
    """One broken package of somebody else's must not take the help of all commands away."""
    code = (
        "import sys; from importlib.metadata import EntryPoint; import secagg.cli as cli\n"
        "real = cli.entry_points\n"
        "cli.entry_points = lambda group: "
        "[*real(group=group), EntryPoint('broken', 'no_such_library:command', group)]\n"
        "sys.argv = ['secagg', *sys.argv[1:]]\ncli.main()"
    )

    def with_broken(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)

    done = with_broken("broken")
    assert done.returncode == 2
    assert "the command 'broken' needs a library" in done.stderr
    done = with_broken("--help")
    assert done.returncode == 0, done.stderr
    assert "bench" in done.stdout


def test_version() -> None:
    done = secagg("--version")
    assert done.returncode == 0
    assert re.search(r"\d+\.\d+\.\d+", done.stdout)


def test_backends_as_json_has_every_guarantee() -> None:
    done = secagg("backends", "--json")
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert {"plain", "smpc"} <= set(listed)
    for record in listed.values():
        assert {"parameters", "protection", "adversary", "sees", "key_holder", "limitations"} <= set(record)
    assert listed["smpc"]["parameters"] == {"aggregators": 3, "threshold": 3, "suite": "chacha20"}


def test_backends_in_words() -> None:
    done = secagg("backends")
    assert done.returncode == 0, done.stderr
    assert "none: the unprotected control" in done.stdout
    assert "any 2 of the 3 aggregators learn no single update" in done.stdout


def test_bench_writes_what_it_prints(tmp_path: Path) -> None:
    done = secagg("bench", "--backend", "smpc", "--set", "aggregators=2", *SMALL, "--json", tmp_path / "bench.json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report = json.loads((tmp_path / "bench.json").read_text())
    assert (report["schema"], report["backend"], report["exact"]) == ("secagg.bench/1", "smpc", True)
    assert report["parameters"] == {"aggregators": 2, "threshold": 2, "suite": "chacha20"}
    assert f"{report['client']['upload_bytes_per_param']:.2f} up" in done.stdout
    assert "integer sum exact: yes" in done.stdout


def test_plan_explains_a_delta_that_is_too_large_for_so_many_clients() -> None:
    plan = ("plan", "--backend", "dp", *SMALL, "--rounds", "2", "--set", "noise_multiplier=2.0", "--set")
    assert "warning             delta = 0.5 is larger than 1/" in secagg(*plan, "target_delta=0.5").stdout
    assert "warning" not in secagg(*plan, "target_delta=1e-5").stdout


def test_bench_obeys_a_weak_degree_and_says_what_it_attains() -> None:
    done = secagg("bench", "--backend", "secaggplus", "--set", "degree=10", "--params", "10", "--clients", "24")
    assert done.returncode == 0, done.stderr
    attained = done.stdout.splitlines()[-1]
    assert attained.startswith("attained: degree 10, threshold ")
    assert "an active server with 2 of 24 clients never singles one out" in attained


def test_a_mask_of_selective_encryption_comes_from_a_file(tmp_path: Path) -> None:
    """Ten coordinates, three of them encrypted: what travels in the spec is the text, not the path."""
    text = to_text(np.arange(10) % 4 == 0)
    (tmp_path / "mask.txt").write_text(text + "\n")
    given = ("--backend", "selective", "--set", f"mask_file={tmp_path / 'mask.txt'}")
    done = secagg("bench", *given, *SMALL, "--json", tmp_path / "bench.json")
    assert done.returncode == 0, done.stderr
    assert "protection: a defence, not secure aggregation: the coordinates of a mask encrypted" in done.stdout
    parameters = json.loads((tmp_path / "bench.json").read_text())["parameters"]
    assert parameters["mask"] == text
    assert "mask_file" not in parameters
    planned = secagg("plan", *given, *SMALL)
    assert planned.returncode == 0, planned.stderr
    assert "the coordinates outside the mask of every single update, in the clear" in planned.stdout
    assert "not the mask of 11 coordinates" in mistake("bench", *given, "--params", "11")


def test_plan_says_what_it_measures_where_that_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mask.txt").write_text(to_text(np.arange(50_000) % 4 == 0))
    told = mistake("plan", "--backend", "selective", "--params", "50000", "--set", f"mask_file={tmp_path / 'mask.txt'}")
    assert "seconds are measured on 40000 parameters, which are refused: mask: not the mask of 40000" in told


def test_plan_with_sampling_says_what_holds_for_whoever_sees_the_roster() -> None:
    settings = ("--set", "noise_multiplier=2.0", "--set", "sampling_rate=0.1")
    told = secagg("plan", "--backend", "dp", *SMALL, "--rounds", "4", *settings).stdout
    assert "against outsiders only" in told
    assert f"to whoever sees the roster, epsilon {epsilon(2.0, 4, delta=1e-5):.3f}: a round counts in full" in told


def test_plan_writes_what_it_prints(tmp_path: Path) -> None:
    done = secagg("plan", "--backend", "plain", *SMALL, "--rounds", "2", "--json", tmp_path / "plan.json")
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert (plan["schema"], plan["rounds"], plan["privacy"]) == ("secagg.plan/1", 2, None)
    assert plan["client"]["upload_bytes"] == 2 * (204 + 11 * 4)
    assert "every single update and weight" in done.stdout


def test_keygen_makes_a_private_key_and_never_twice(tmp_path: Path) -> None:
    done = secagg("keygen", "site-1", "--output", tmp_path / "keys")
    assert done.returncode == 0, done.stderr
    key, public = tmp_path / "keys" / "site-1.key", tmp_path / "keys" / "site-1.pub"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    identity = Identity.load(key)
    assert json.loads(public.read_text()) == {"name": "site-1", **identity.public.to_json()}
    assert f"fingerprint {identity.public.fingerprint.hex()}" in done.stdout
    before = key.read_bytes()
    assert "not overwritten" in mistake("keygen", "site-1", "--output", tmp_path / "keys")
    public.unlink()
    assert "not overwritten" in mistake("keygen", "site-1", "--output", tmp_path / "keys")
    assert key.read_bytes() == before


def test_verify_tells_intact_from_changed_from_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run")
    mark = run.directory[SERVER].fingerprint.hex()
    done = secagg("verify", run.path)
    assert done.returncode == 0, done.stderr
    assert "intact" in done.stdout
    assert "2 rounds, 4 signed entries" in done.stdout
    assert f"server key {mark} is the known one" in done.stdout

    assert secagg("verify", run.path, "--fingerprint", mark).returncode == 0
    done = secagg("verify", run.path, "--fingerprint", "0" * 64)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1

    monkeypatch.setenv("SECAGG_HOME", str(tmp_path / "another account"))
    done = secagg("verify", run.path)
    assert done.returncode == 1
    assert "does not know its server key" in done.stderr
    monkeypatch.undo()

    (run.path / "config.toml").write_text("changed")
    done = secagg("verify", run.path)
    assert done.returncode == 1
    assert done.stderr == "secagg: config.toml was changed after the run\n"
    assert done.stdout == ""


def test_a_fingerprint_that_is_none_is_a_mistake_and_accuses_nobody(tmp_path: Path) -> None:
    assert "fingerprint" in mistake("verify", make_run(tmp_path / "run").path, "--fingerprint", "not-one")


@pytest.mark.parametrize("body", [b'{"x":1e999}', b'{"x":' + b"9" * 5000 + b"}"], ids=["1e999", "5000 digits"])
def test_verify_of_a_hostile_transcript_is_one_line_and_exit_code_1(tmp_path: Path, body: bytes) -> None:
    run = make_run(tmp_path / "run")
    lines = run.lines()
    run.write(
        [lines[0], re.sub(rb'"body":.*,"index"', lambda _: b'"body":' + body + b',"index"', lines[1]), *lines[2:]]
    )
    done = secagg("verify", run.path)
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert "entry 1" in done.stderr


def test_settings_are_toml_values_or_bare_words() -> None:
    settings = ("degree=10", "suite=aes128ctr", "noise=1.5", "flag=true", 'name="a b"', "empty=", "equation=a=b")
    assert parse_settings(settings) == {
        "degree": 10, "suite": "aes128ctr", "noise": 1.5, "flag": True, "name": "a b", "empty": "", "equation": "a=b",
    }  # fmt: skip


@pytest.mark.parametrize("setting", ["a=1\nb = 2", "a=1\n[table]"])
def test_no_part_of_a_setting_is_dropped_in_silence(setting: str) -> None:
    try:
        parsed = parse_settings((setting,))
    except Refused:
        return
    assert parsed == {"a": setting[2:]}
