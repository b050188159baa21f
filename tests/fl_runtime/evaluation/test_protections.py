"""Rows by protection: what is held against what, what is called the clearest, and what is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dp.audit.run import CONSISTENT, POWERLESS, VIOLATED
from fl_runtime.evaluation.attempts.measured import Measured
from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.report import words
from fl_runtime.evaluation.report.checklist import Point, checklist
from fl_runtime.evaluation.report.document import to_json
from fl_runtime.evaluation.report.findings import sentences, verdicts
from fl_runtime.evaluation.report.markdown import to_markdown
from fl_runtime.evaluation.report.page import to_html
from fl_runtime.evaluation.report.protections import by_protection
from fl_runtime.evaluation.report.sweeps import BATCH, COHORT, sweep
from fl_runtime.evaluation.report.tables import frontier_points, heat_map
from fl_runtime.evaluation.rows import Figure, Row


def one(finished: Finished, backend: str, attack: str, adversary: str = "server", defence: str = "none") -> Row:
    """The first such row."""
    wanted = (backend, attack, adversary, defence)
    return next(
        row
        for row in finished.rows
        if (row.cell.backend.label, row.cell.attack.label, row.cell.setting.adversary, row.cell.defence.label) == wanted
    )


def of(finished: Finished, *rows: Row) -> Finished:
    return replace(finished, rows=list(rows))


def by(row: Row, *, adversary: str | None = None, **changes: object) -> Row:
    """The row with another adversary, backend or defence."""
    cell = row.cell
    if adversary is not None:
        cell = cell.model_copy(update={"setting": cell.setting.model_copy(update={"adversary": adversary})})
    return replace(row, cell=cell.model_copy(update=changes))


def out_of(row: Row, cohort: int) -> Row:
    """The row with as many updates in what is read."""
    return replace(row, measured=tuple(replace(m, cohort=cohort) for m in row.measured))


def found(row: Row, share: float, psnr_db: float = 10.0) -> Row:
    """The row with another share, and another clearest image."""
    figures = {row.cell.traits.success: Figure(share, share - 0.1, share, 30)}
    return replace(row, verdict="leaks", figures=figures | {"psnr_db_worst": Figure(psnr_db, None, None, 30)})


def unread(row: Row) -> Row:
    """The row where no update is read, so that its figures are of a guess."""
    return replace(row, verdict="nothing", measured=tuple(replace(m, kind="nothing") for m in row.measured))


def blank(row: Row) -> Row:
    """The row where all that is seen is zero: not attacked, and without figures."""
    measured = tuple(replace(m, kind="blank", notes=("all is zero",)) for m in row.measured)
    return replace(row, verdict="inconclusive", figures={}, measured=measured)


@pytest.fixture
def points(finished: Finished) -> Callable[..., dict[str, Point]]:
    return lambda *rows: {point.text: point for point in checklist(of(finished, *rows) if rows else finished)}


def test_protections_are_told_apart_by_what_they_are_and_not_by_their_labels(finished: Finished) -> None:
    bare, pruned = one(finished, "plain", "inverting"), one(finished, "plain", "inverting", defence="pruning")
    masked = one(finished, "secaggplus", "inverting").cell.backend
    posing = by(bare, backend=masked.model_copy(update={"label": "plain"}))
    hidden = by(bare, defence=pruned.cell.defence.model_copy(update={"label": "none"}))
    assert len(by_protection([bare, posing, hidden, bare])) == 3
    stronger = by(pruned, defence=pruned.cell.defence.model_copy(update={"parameters": {"share_pruned": 0.9}}))
    assert len(by_protection([pruned, stronger])) == 2


def test_the_clearest_image_is_of_all_rows_of_one_party_and_not_of_the_one_that_is_shown(finished: Finished) -> None:
    bare = one(finished, "plain", "inverting")
    most, clear = found(bare, 0.9, psnr_db=20.0), found(bare, 0.5, psnr_db=70.0)
    pooled = by(found(bare, 0.6, psnr_db=90.0), adversary="server and a client")
    (tried,) = verdicts(of(finished, most, clear, pooled, unread(found(bare, 0.0, psnr_db=99.0))))
    (group,) = tried.groups
    assert group.alone.clearest is most
    assert group.alone.largest("psnr_db_worst").value == 70.0
    assert group.together.clearest is pooled


def test_what_several_parties_pool_is_no_result_of_the_server_in_any_family(finished: Finished) -> None:
    for attack in ("inverting", "imprint", "labels"):
        row = one(finished, "secaggplus", attack)
        alone = out_of(found(row, 0.2), 4)
        pooled = out_of(by(found(row, 1.0), adversary="server and all clients but one"), 1)
        server, together = sentences(of(finished, alone, pooled))
        assert "100" not in str(server)
        assert "out of sums of 4" in str(server)
        assert "pool what they see" in together.title
        assert str(together).endswith("secaggplus: 100\N{NO-BREAK SPACE}% (90 to 100)")


def test_backends_are_held_against_each_other_out_of_equal_sums(finished: Finished) -> None:
    row = one(finished, "secaggplus", "inverting")
    other = row.cell.backend.model_copy(update={"label": "other", "kind": "smpc"})
    rows = [out_of(found(row, 0.9), 3), out_of(found(row, 0.8), 8), by(out_of(found(row, 0.8), 8), backend=other)]
    (line,) = sentences(of(finished, *rows))
    assert [part.partition(":")[0] for part in line.parts] == ["out of sums of 3", "out of sums of 8"]
    assert "secaggplus, other: 80" in line.parts[1]
    marks = frontier_points(of(finished, *rows)).marks
    assert [(mark.view, mark.protection) for mark in marks] == [
        ("sums of 3", "secaggplus"), ("sums of 8", "secaggplus"), ("sums of 8", "other")
    ]  # fmt: skip
    assert marks[0].colour != marks[1].colour == marks[2].colour
    heat = heat_map(of(finished, *rows))
    assert [cell.note.partition(", ")[2] for _, _, (cell,) in heat.lines] == ["sums of 3", "sums of 8"]


def test_who_reads_nothing_is_named_only_where_nobody_else_does(finished: Finished) -> None:
    row = found(one(finished, "secaggplus", "inverting"), 0.9)
    helper = by(replace(row, verdict="nothing", figures={}, measured=(Measured(),)), adversary="helper")
    (line,) = sentences(of(finished, helper))
    assert (line.counted, line.parts) == ("share of images identified", ("secaggplus: reads no update",))
    (line,) = sentences(of(finished, row, helper))
    assert "no update" not in str(line)


def test_shares_of_different_things_have_lines_of_their_own(finished: Finished) -> None:
    tried = {found.traits.recovered: [group.name for group in found.groups] for found in verdicts(finished)}
    assert tried["of labels read"] == ["plain", "secaggplus"]
    assert tried["of images identified"][0] == "plain"
    assert {counted for _, counted in heat_map(finished).columns} == set(tried)


def test_a_guess_where_nothing_was_read_is_not_printed_as_found(finished: Finished) -> None:
    hidden = unread(found(one(finished, "plain", "inverting", defence="pruning"), 0.9, psnr_db=77.77))
    shown = of(finished, one(finished, "plain", "inverting"), hidden)
    report = to_json(shown, command="secagg evaluate tiny.toml")
    assert [entry["reads"] for entry in report["details"]] == ["measured", "nothing"]
    for text in (to_html(shown, report), to_markdown(shown, report)):
        assert "77.8" not in text
        assert "77.77" not in text
    assert words.shown(hidden) == {}


def test_what_is_all_zero_says_so_and_has_no_mark(finished: Finished) -> None:
    hidden = blank(one(finished, "plain", "inverting", defence="pruning"))
    shown = of(finished, one(finished, "plain", "inverting"), hidden)
    assert "</span> all is zero</td>" in to_html(shown, to_json(shown, command=""))
    points = frontier_points(shown)
    assert ([mark.protection for mark in points.marks], points.left_out) == (["plain"], ["plain + pruning"])


def test_a_search_without_images_had_nothing_to_tune_on(finished: Finished, points) -> None:
    row = one(finished, "plain", "inverting", defence="pruning")
    search = [{"parameters": {"tv": 1e-4}, "identified": 0.0, "correlation": 0.0, "psnr_db": 0.0, "images": 0}]
    untuned = replace(row, measured=tuple(replace(m, search=search) for m in row.measured))
    shown = of(finished, one(finished, "plain", "inverting"), untuned)
    assert "nothing to tune on" in to_html(shown, to_json(shown, command=""))
    text = "The attack tuned per defence, the search logged"
    assert points(row)[text].complete
    assert points(untuned)[text].missing == ("plain + pruning",)


def test_a_point_is_complete_only_with_all_that_it_requires(finished: Finished, points) -> None:
    text = "Labels known, inferred, unknown"
    row = one(finished, "plain", "inverting")
    kinds = [
        by(row, setting=row.cell.setting.model_copy(update={"labels": labels}))
        for labels in ("known", "inferred", "unknown")
    ]
    assert (points(*kinds)[text].complete, points(*kinds)[text].missing) == (True, ())
    assert (points(*kinds[:2])[text].complete, points(*kinds[:2])[text].missing) == (False, ("unknown",))
    assert points(*kinds[:2])[text].in_words == "labels: known, inferred; missing: unknown"
    failed = replace(row, control_succeeded=False, verdict="inconclusive")
    point = points(failed)["The undefended control succeeds, or inconclusive"]
    assert (point.evidence, point.complete) == ("0 of 1 controls succeeded", False)


def test_a_sweep_needs_everything_else_equal(finished: Finished) -> None:
    row = one(finished, "plain", "inverting")

    def at(**setting: object) -> Row:
        return by(row, setting=row.cell.setting.model_copy(update=setting))

    assert [list(series.rows) for series in sweep([row, at(batch=4)], BATCH)] == [[1, 4]]
    assert sweep([row, at(batch=4, model="other")], BATCH) == []
    assert sweep([row, at(batch=4, adversary="server and a client")], BATCH) == []
    assert [list(series.rows) for series in sweep([row, out_of(row, 8)], COHORT)] == [[1, 8]]
    assert sweep([row, out_of(at(adversary="server and a client"), 8)], COHORT) == []


@pytest.mark.parametrize(("delta", "claimed"), [(1.0, False), (1e-5, True)])
def test_a_delta_of_one_is_no_guarantee(finished: Finished, delta: float, claimed: bool) -> None:
    spent = next(iter(result["spent"] for result in finished.results.values() if result.get("spent")))
    results = {
        name: result | {"spent": spent | {"delta": delta}} if result.get("spent") else result
        for name, result in finished.results.items()
    }
    shown = replace(finished, results=results)
    text = to_html(shown, to_json(shown, command=""))
    assert ("no guarantee: delta is 1" in text) != claimed
    assert (f"at delta {delta}" in text) == claimed
    point = next(point for point in checklist(shown) if point.text.startswith("Epsilon"))
    assert ("noisy" in point.evidence) == claimed


def test_an_audit_is_a_bound_that_is_a_number(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    from fl_runtime.evaluation.report import checklist as module

    assert not next(point for point in checklist(finished) if point.text.startswith("Epsilon")).complete
    monkeypatch.setattr(module, "lower_bound", lambda finished, backend: 0.5)
    assert next(point for point in checklist(finished) if point.text.startswith("Epsilon")).complete


@pytest.mark.parametrize("verdict", [VIOLATED, POWERLESS, CONSISTENT])
def test_the_page_says_what_an_audit_came_to(finished: Finished, verdict: str) -> None:
    audit = {"epsilon": 0.9, "confidence": 0.95, "right": 24, "guesses": 24, "canaries": 256, "of": "a run",
             "verdict": verdict}  # fmt: skip
    results = {
        name: result | {"audit": audit} if result.get("spent") else result for name, result in finished.results.items()
    }
    shown = replace(finished, results=results)
    assert verdict[1:] in to_html(shown, to_json(shown, command=""))
    point = next(point for point in checklist(shown) if point.text.startswith("Epsilon"))
    assert ("too few guesses to refute it" in point.evidence) == (verdict == POWERLESS)


def test_verdicts_of_different_models_stand_apart(finished: Finished) -> None:
    row = one(finished, "plain", "inverting")
    other = by(row, setting=row.cell.setting.model_copy(update={"model": "wide"}))
    (tried,) = verdicts(of(finished, row, other))
    assert [group.cell.setting.model for group in tried.groups] == ["mlp", "wide"]


def test_the_clearest_row_is_a_conclusive_one(finished: Finished) -> None:
    row = found(one(finished, "plain", "inverting"), 0.1)
    doubtful = replace(found(row, 0.9), verdict="inconclusive")
    (group,) = by_protection([doubtful, row])
    assert group.clearest is row
    assert np.isclose(group.recovered.value, 0.1)
