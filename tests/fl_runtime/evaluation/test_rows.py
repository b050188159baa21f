"""What a row says: intervals, and never "safe" where the control failed."""

from __future__ import annotations

import pytest

from fl_runtime.evaluation.attempts.measured import Attempt, Measured
from fl_runtime.evaluation.matrix.cells import expand, key, repeats
from fl_runtime.evaluation.matrix.families import FAMILIES
from fl_runtime.evaluation.report import words
from fl_runtime.evaluation.rows import Figure, judge, pool


def measured(hits: int, of: int = 20, *, kind: str = "measured", by_chance: float = 0.02) -> Measured:
    shares = {"identified": [int(place < hits) for place in range(of)]}
    means = {"psnr_db": [10.0 + place for place in range(of)]}
    return Measured.of([Attempt("single updates", kind, 1, means, shares)], by_chance=by_chance)


@pytest.fixture
def outcome(settings):
    """The verdict on `secaggplus` and its row, for given results of the control and of the row."""

    def judge(control: Measured, *defended: Measured):
        whole = 'defence = ["none", "pruning"]\nattack = ["inverting"]\nadversary = ["server", "everybody"]'
        evaluation = settings(**{whole: 'attack = ["inverting"]'})
        results = {}
        for row in expand(evaluation):
            ours = defended if row.backend.label == "secaggplus" else (control,)
            for cell in repeats(row, evaluation):
                results[key(cell)] = ours[cell.repeat % len(ours)].to_record()
                results[key(cell.training())] = {"accuracy": 0.9 + 0.01 * cell.repeat}
        row = next(r for r in pool(evaluation, results) if r.cell.backend.label == "secaggplus")
        return row, row.verdict

    return judge


def test_where_the_control_fails_the_row_is_inconclusive_and_never_safe(outcome) -> None:
    row, verdict = outcome(measured(5), measured(0))
    assert (row.control_succeeded, row.inconclusive, verdict) == (False, True, "inconclusive")
    assert words.VERDICTS[verdict] == "inconclusive"


def test_what_leaks_leaks_whatever_became_of_the_control(outcome) -> None:
    row, verdict = outcome(measured(5), measured(8))
    assert (row.control_succeeded, row.inconclusive, verdict) == (False, False, "partly")


def test_a_failure_is_one_only_where_the_interval_is_narrow_enough(outcome) -> None:
    row, verdict = outcome(measured(20), measured(0, of=1), measured(0, of=1))
    assert (row.control_succeeded, verdict) == (True, "inconclusive")


def test_where_the_control_succeeds_a_failure_counts(outcome) -> None:
    row, verdict = outcome(measured(20), measured(0))
    assert (row.control_succeeded, row.inconclusive, verdict) == (True, False, "not shown")


def test_a_control_that_could_not_be_run_is_one_that_failed(outcome) -> None:
    row, verdict = outcome(Measured(problem="layer 'x' is not supported"), measured(0))
    assert row.inconclusive
    assert verdict == "inconclusive"


def test_a_leak_is_a_leak_even_where_the_control_failed(outcome) -> None:
    row, verdict = outcome(measured(5), measured(18))
    assert (row.control_succeeded, row.inconclusive, verdict) == (False, False, "leaks")


def test_a_control_that_is_no_better_than_chance_has_not_succeeded(outcome) -> None:
    # 3 of 4 are many, and yet their interval reaches down to what guessing finds.
    row, _ = outcome(measured(3, of=4, by_chance=0.4), measured(0))
    assert not row.control_succeeded


@pytest.mark.parametrize(("hits", "verdict"), [(20, "leaks"), (10, "leaks"), (4, "partly"), (0, "not shown")])
def test_verdicts_follow_the_interval(outcome, hits: int, verdict: str) -> None:
    assert outcome(measured(20), measured(hits))[1] == verdict


def test_a_row_that_could_not_be_run_says_why(outcome) -> None:
    row, verdict = outcome(measured(20), Measured(problem="layer 'x' is not supported"))
    assert (verdict, row.problem, row.inconclusive) == ("unsupported", "layer 'x' is not supported", True)


def test_shares_have_exact_intervals_and_means_those_of_runs(outcome) -> None:
    row, _ = outcome(measured(20), measured(0))
    share, mean = row.figures["identified"], row.figures["psnr_db"]
    assert (share.value, share.low, share.n) == (0.0, 0.0, 40)
    assert share.high == pytest.approx(1 - 0.025 ** (1 / 40))
    # Two repeats with equal images: the runs do not differ, whatever the spread within them.
    assert (mean.value, mean.low, mean.high) == (19.5, 19.5, 19.5)
    assert (row.figures["psnr_db_worst"].value, row.figures["psnr_db_worst"].low) == (29.0, None)
    assert row.utility is not None
    assert row.utility.value == pytest.approx(0.905)


def test_one_repeat_gives_no_interval_for_a_mean(settings) -> None:
    evaluation = settings("evaluation.repeats=1")
    results = {}
    for row in expand(evaluation):
        results[key(row)] = measured(3).to_record()
        results[key(row.training())] = {"accuracy": None}
    row = pool(evaluation, results)[0]
    assert (row.figures["psnr_db"].low, row.figures["psnr_db"].high) == (None, None)
    assert row.utility is None


def test_a_row_whose_repeats_all_see_nothing_has_nothing_to_attack(outcome) -> None:
    _, verdict = outcome(measured(20), measured(0, kind="nothing"))
    assert verdict == "nothing"


@pytest.mark.parametrize("first", ["nothing", "blank"])
def test_one_repeat_that_sees_nothing_does_not_speak_for_the_others(outcome, first: str) -> None:
    assert outcome(measured(20), measured(0, kind=first), measured(20))[1] in ("leaks", "inconclusive")
    expected = {"nothing": "not shown", "blank": "inconclusive"}
    assert outcome(measured(20), measured(0, kind=first), measured(0))[1] == expected[first]


def test_updates_of_which_all_that_is_seen_is_zero_are_inconclusive(outcome) -> None:
    """Which coordinates are hidden may draw the image."""
    row, verdict = outcome(measured(20), measured(0, kind="blank"))
    assert (row.inconclusive, verdict) == (True, "inconclusive")


def test_what_was_not_attacked_does_not_count_as_an_attack_that_failed() -> None:
    attempts = [Attempt("single updates", "blank", 1, {"psnr_db": [13.0]}, {"identified": [0]})] * 9
    found = Measured.of([*attempts, Attempt("single updates", "measured", 1, {"psnr_db": [60.0]}, {"identified": [1]})])
    assert found.shares["identified"].tolist() == [1]
    assert found.means["psnr_db"].tolist() == [60.0]
    assert found.kind == "blank"


def test_one_repeat_shows_a_leak_and_never_a_failure(settings) -> None:
    evaluation = settings("evaluation.repeats=1")
    for hits, verdict in ((20, "leaks"), (0, "inconclusive")):
        results = {}
        for row in expand(evaluation):
            is_control = row == row.control()
            results[key(row)] = measured(20 if is_control else hits).to_record()
            results[key(row.training())] = {"accuracy": None}
        judged = [row for row in pool(evaluation, results) if row.cell.backend.label == "secaggplus"]
        assert judged[0].verdict == verdict


def test_a_membership_attack_that_finds_many_at_few_false_alarms_has_not_failed() -> None:
    wide = Figure(0.15, 0.02, 0.40, 60)
    found = judge(wide, by_chance=0.03, cells=[measured(3), measured(3)], attack_works=True,
                  threshold=FAMILIES["membership"].enough)  # fmt: skip
    assert found == "inconclusive"


def test_repeats_that_differ_widen_what_is_said_of_all(outcome) -> None:
    row, _ = outcome(measured(20), measured(20), measured(0))
    share, mean = row.figures["identified"], row.figures["psnr_db"]
    assert (share.value, share.n) == (0.5, 40)
    assert share.low < 0.1
    assert share.high > 0.9
    assert (mean.low, mean.high) == (19.5, 19.5)


def test_no_utility_is_beyond_what_a_share_can_be(outcome) -> None:
    row, _ = outcome(measured(20), measured(0))
    assert row.utility.low >= 0.0
    assert row.utility.high <= 1.0


@pytest.mark.parametrize(("accused", "verdict"), [(1, "leaks"), (18, "inconclusive")])
def test_an_attack_that_accuses_members_and_others_alike_is_no_better_than_chance(
    settings, accused: int, verdict: str
) -> None:
    """However few the false alarms were meant to be, those that were counted are what chance is."""
    evaluation = settings(**{'attack = ["deep-leakage"]\nlocal_epochs = [2]': 'attack = ["membership"]'})
    row = expand(evaluation)[-1]
    shares = {"found": [1] * 18 + [0] * 2, "false_alarms": [1] * accused + [0] * (20 - accused)}
    found = Measured.of([Attempt("the finished model", shares=shares)], by_chance=0.01)
    results = {}
    for other in expand(evaluation):
        for cell in repeats(other, evaluation):
            results |= {key(cell): found.to_record(), key(cell.training()): {"accuracy": 0.9}}
    judged = pool(evaluation, results)[-1]
    assert judged.cell == row
    assert judged.verdict == verdict
