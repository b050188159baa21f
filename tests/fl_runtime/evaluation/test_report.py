"""`report.json` and `report.md`: the schema that scripts rely on, and every figure of the page."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click.testing
import jsonschema
import pytest

from fl_runtime.evaluation.cli import evaluate as command
from fl_runtime.evaluation.evaluate import Finished, evaluate
from fl_runtime.evaluation.report.audit import refuted_epsilon
from fl_runtime.evaluation.report.document import config_digest, to_json
from fl_runtime.evaluation.report.markdown import _plain, to_markdown
from fl_runtime.evaluation.report.page import to_html
from secagg.errors import Refused

COMMAND = "secagg evaluate tiny.toml"
NUMBER, MAYBE = {"type": "number"}, {"type": ["number", "null"]}
SCHEMA = {
    "type": "object",
    "required": ["schema", "config_digest", "versions", "command", "rows"],
    "properties": {
        "schema": {"const": "secagg.report/1"},
        "config_digest": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "versions": {"type": "object", "additionalProperties": {"type": "string"}},
        "command": {"type": "string"},
        "rows": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["backend", "defence", "attack", "setting", "metric", "value", "low", "high", "n",
                             "control_succeeded", "inconclusive", "utility", "upload_bytes", "seconds"],
                "properties": {
                    "backend": {"type": "string"}, "defence": {"type": "string"}, "attack": {"type": "string"},
                    "setting": {"type": "object"}, "metric": {"type": "string"}, "value": MAYBE, "low": MAYBE,
                    "high": MAYBE, "n": {"type": "integer"}, "control_succeeded": {"type": "boolean"},
                    "inconclusive": {"type": "boolean"}, "utility": MAYBE, "upload_bytes": MAYBE, "seconds": NUMBER,
                },
            },
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def report(finished: Finished) -> dict:
    return json.loads(json.dumps(to_json(finished, command=COMMAND), allow_nan=False))


def test_the_report_is_of_its_schema(report: dict) -> None:
    jsonschema.validate(report, SCHEMA)
    assert report["command"] == COMMAND
    assert {"secagg", "torch", "numpy", "python", "sources"} <= report["versions"].keys()


def value(report: dict, metric: str, **wanted: object) -> dict:
    found = [
        row
        for row in report["rows"]
        if row["metric"] == metric
        and all((row | row["setting"])[name] == expected for name, expected in wanted.items())
    ]
    assert len(found) == 1
    return found[0]


def test_a_metric_has_all_its_figures(report: dict) -> None:
    row = value(report, "psnr_db", backend="plain", defence="none", attack="analytic-linear", stage="trained")
    assert row["value"] > 100
    assert row["low"] <= row["value"] <= row["high"]
    assert row["n"] == 6
    assert row["control_succeeded"]
    assert not row["inconclusive"]
    assert 0 < row["utility"] < 1
    assert row["upload_bytes"] > 4 * 64 * 24
    found = {r["metric"] for r in report["rows"] if r["setting"] == row["setting"] and r["attack"] == row["attack"]}
    assert found >= {"psnr_db", "psnr_db_worst", "psnr_db_median", "psnr_db_p90", "ssim", "mse", "rdlv", "identified",
                     "matching_loss", "reconstructed", "same_diagnosis", "converged"}  # fmt: skip


def test_an_exact_attack_on_single_updates_and_noise_on_the_sum(report: dict) -> None:
    bare = value(report, "identified", backend="plain", defence="none", attack="inverting", adversary="server")
    assert bare["value"] == 1
    # Without noise the images of a sum of three have 14.4 dB, under it 5.2 with a standard deviation of 0.2. Of six, it
    # happens that three are "identified" by chance: in one of 400 runs.
    noisy = value(report, "psnr_db", backend="noisy", defence="none", attack="inverting", adversary="everybody")
    assert noisy["value"] < 10
    assert noisy["control_succeeded"]


def test_a_server_sees_single_updates_in_the_clear_and_sums_under_a_secure_one(report: dict) -> None:
    models = {
        (entry["backend"], entry["setting"]["adversary"]): entry["threat_model"]
        for entry in report["details"]
        if entry["attack"] == "inverting" and entry["defence"] == "none"
    }
    assert "reads single updates" in models["plain", "server"]
    assert "reads the sum of 3;" in models["secaggplus", "server"]
    assert "reads the sum of 3, with noise" in models["noisy", "everybody"]
    table = {entry["party"]: entry["sees"] for entry in report["sees"]["secaggplus"]["coalitions"]
             if len(entry["colluders"]) == 3}  # fmt: skip
    assert table["server"] == ["the update of client-0"]


def test_two_models_isolate_an_update_without_a_secure_sum_only(report: dict) -> None:
    labels = ("naive masking, simulated", "secaggplus")
    plain, masked = (value(report, "isolated", backend=name, clients=4) for name in labels)
    assert (plain["value"], masked["value"]) == (1, 0)
    notes = next(e["notes"] for e in report["details"]
                 if e["backend"] == "secaggplus" and e["attack"] == "model-inconsistency")  # fmt: skip
    assert any("the victim" in note or "no sum" in note for note in notes)
    assert any("dead units" in note for note in notes)


def test_imprints_come_out_of_sums_and_a_client_could_notice(report: dict) -> None:
    hit = value(report, "hit", backend="secaggplus")
    expected = value(report, "expected_hit", backend="secaggplus")
    assert expected["value"] == pytest.approx((1 - 1 / 64) ** 3)
    assert hit["high"] >= expected["value"] >= hit["low"]
    notes = [e["notes"] for e in report["details"] if e["attack"] == "imprint"]
    assert all("parallel rows" in note[0] for note in notes)


def test_an_attack_that_cannot_be_run_is_inconclusive_and_says_why(report: dict) -> None:
    (row,) = (row for row in report["rows"] if row["attack"] == "deep-leakage")
    assert (row["metric"], row["value"], row["n"], row["inconclusive"]) == ("none", None, 0, True)
    (entry,) = (entry for entry in report["details"] if entry["attack"] == "deep-leakage")
    assert entry["verdict"] == "unsupported"
    assert entry["problem"].startswith("deep-leakage: the update is of 2 local steps")


def test_the_search_is_logged_for_every_repeat(report: dict) -> None:
    entry = next(e for e in report["details"] if e["attack"] == "inverting")
    assert [(tried["repeat"], tried["parameters"]["tv"]) for tried in entry["search"]] == [
        (0, 1e-4), (0, 1e-2), (1, 1e-4), (1, 1e-2)
    ]  # fmt: skip


def test_data_sheets_carry_what_differential_privacy_claims(report: dict) -> None:
    sheets = report["datasheets"]
    assert sheets["plain"]["differential_privacy"] is None
    claim = sheets["noisy"]["differential_privacy"]
    assert claim["unit"] == "client"
    assert {"epsilon", "delta", "accountant", "noise_multiplier", "rounds"} <= claim.keys()
    assert sheets["noisy"]["empirical_lower_bound"] == "no audit was run"


def test_the_digest_is_of_the_settings_and_of_nothing_else(settings) -> None:
    first = config_digest(settings())
    assert first == config_digest(settings())
    assert first != config_digest(settings("evaluation.seed=4"))
    assert first != config_digest(settings("evaluation.title=other"))


def test_an_evaluation_repeats_to_the_last_digit(settings, tmp_path: Path) -> None:
    evaluation = settings(**{'defence = ["none", "pruning"]\nattack = ["inverting"]': 'attack = ["inverting"]'})
    reports = [
        to_json(evaluate(evaluation, folder=tmp_path / name), command=COMMAND)["rows"] for name in ("one", "two")
    ]
    for row in (row for rows in reports for row in rows):
        del row["seconds"]
    exact, noisy = ([[row for row in rows if (row["backend"] == "noisy") == wanted] for rows in reports]
                    for wanted in (False, True))  # fmt: skip
    assert exact[0] == exact[1]
    # A client mixes the system's randomness into its noise (D2), and an evaluation gets no other noise than a run.
    assert noisy[0] != noisy[1]


def test_the_command_writes_three_files_and_can_be_repeated(tiny_file: Path, finished, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "cache").symlink_to(tiny_file.parent / "cache")
    arguments = [str(tiny_file), "--output", str(folder), "--processes", "1"]
    done = click.testing.CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert [Path(line).name for line in done.output.split()] == ["report.html", "report.json", "report.md"]
    report = json.loads((folder / "report.json").read_text())
    assert report["command"] == f"secagg evaluate {tiny_file}"
    assert "## In short" in (folder / "report.md").read_text()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_computed(tiny_file: Path, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    arguments = [str(tiny_file), "--output", str(tmp_path / "file" / "out")]
    with pytest.raises(Refused, match="cannot write"):
        click.testing.CliRunner().invoke(command, arguments, catch_exceptions=False)


@pytest.mark.parametrize("delta", [0.0, 1e-3])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
def test_d9_a_replaced_row_refutes_half_of_what_a_removed_one_would(epsilon: float, delta: float) -> None:
    """A mechanism that just keeps its claim for add/remove is never accused by rows that were replaced."""
    false_alarms = 0.01
    hits = math.exp(2 * epsilon) * false_alarms + (1 + math.exp(epsilon)) * delta
    assert refuted_epsilon(hits, false_alarms, delta=delta) == pytest.approx(epsilon)
    assert refuted_epsilon(false_alarms, false_alarms, delta=delta) == 0.0


def test_text_of_the_evaluation_is_escaped_in_markdown(finished: Finished) -> None:
    text = to_markdown(finished, to_json(finished, command=COMMAND))
    assert text.startswith("# A tiny look & a \\<careful\\> one\n")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) > 20
    for line in tables:
        assert line.endswith("|")
    assert _plain("a|b\nc*") == "a\\|b c\\*"


def test_the_checklist_is_of_the_rows_and_admits_what_is_missing(report: dict) -> None:
    points = report["checklist"]
    assert len(points) == 22
    found = {point["text"].split()[0]: point for point in points}
    assert found["Untrained,"]["evidence"] == "stages: untrained, half, trained"
    assert found["Untrained,"]["complete"]
    for first, evidence, missing in (
        ("Labels", "labels: known", ["inferred", "unknown"]),
        ("BatchNorm", "", ["known", "running", "withheld"]),
        ("Sweeps", "updates in the sum: 1, 3", ["images", "local epochs"]),
        ("Three", "2 repeats of 3 images", ["3 repeats", "10 images in each"]),
        ("Membership", "", ["1 %", "0.1 %"]),
        ("Epsilon,", "noisy: epsilon 1.06 at delta 1e-05", ["an audited lower bound under noisy"]),
    ):
        assert (found[first]["evidence"], found[first]["missing"]) == (evidence, missing)
        assert not found[first]["complete"]


def test_a_report_that_cannot_be_written_is_named(tiny_file: Path, finished, tmp_path: Path) -> None:
    (tmp_path / "report.md").mkdir()
    (tmp_path / "cache").symlink_to(tiny_file.parent / "cache")
    arguments = [str(tiny_file), "--output", str(tmp_path), "--processes", "1"]
    with pytest.raises(Refused, match=r"report\.md: cannot write: Is a directory"):
        click.testing.CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_claims_are_audited_on_canaries_where_that_is_asked_for(settings, tmp_path: Path) -> None:
    evaluation = settings(
        "evaluation.audit_canaries=40",
        **{'defence = ["none", "pruning"]\nattack = ["inverting"]': 'attack = ["inverting"]'},
    )
    done = evaluate(evaluation, folder=tmp_path)
    sheets = to_json(done, command=COMMAND)["datasheets"]
    assert sheets["plain"]["canary_audit"] is None
    audit = sheets["noisy"]["canary_audit"]
    assert (audit["canaries"], audit["claim"]) == (40, sheets["noisy"]["differential_privacy"]["epsilon"])
    assert 0 <= audit["epsilon"] <= audit["claim"]
    assert "guesses about 40 canaries right" in to_html(done, to_json(done, command=COMMAND))
    jobs_with_audits = [result for result in done.results.values() if result.get("audit") is not None]
    assert len(jobs_with_audits) == 1, "one repeat is enough"
