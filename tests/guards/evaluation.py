"""Guards of the evaluation: without them a report would call something safe, or show figures that are not its own."""

from __future__ import annotations

from tests.guards.guard import Guard

ROWS = "tests/fl_runtime/evaluation/test_rows.py"
CACHE = "tests/fl_runtime/evaluation/test_cache.py"
PAGE = "tests/fl_runtime/evaluation/test_page.py"
PRIVATE = "tests/fl_runtime/evaluation/test_private_step.py"

GUARDS = (
    Guard(
        "where the control failed a row is inconclusive, never safe",
        (),
        "fl_runtime/evaluation/rows.py",
        "inconclusive=not (control or works[key(row)]) or any(m.problem for m in cells),",
        "inconclusive=any(m.problem for m in cells),",
        (f"{ROWS}::test_where_the_control_fails_the_row_is_inconclusive_and_never_safe",),
    ),
    Guard(
        "a control that does no better than chance has not succeeded",
        (),
        "fl_runtime/evaluation/rows.py",
        "return share.value >= enough and share.low > cells[0].blind.get(cells[0].success, 0.0)",
        "return share.value >= enough",
        (f"{ROWS}::test_a_control_that_is_no_better_than_chance_has_not_succeeded",),
    ),
    Guard(
        "a damaged cache entry is never taken for a result",
        (),
        "fl_runtime/evaluation/cache.py",
        "if hashlib.sha256(content[DIGEST_BYTES:]).digest() != content[:DIGEST_BYTES]:",
        "if False:",
        (f"{CACHE}::test_one_changed_byte_is_noticed_and_the_file_named",),
    ),
    Guard(
        "a worker with other sources stores nothing under this evaluation's names",
        (),
        "fl_runtime/evaluation/jobs.py",
        "if cache.path(job) != path:",
        "if False:",
        (f"{CACHE}::test_a_worker_with_other_sources_than_the_evaluation_is_refused",),
    ),
    Guard(
        "names out of an evaluation file are text in the page, not markup",
        (),
        "fl_runtime/evaluation/page.py",
        "Environment(autoescape=True,",
        "Environment(autoescape=False,",
        (f"{PAGE}::test_text_of_the_evaluation_is_escaped",),
    ),
    Guard(
        "an attacked step of dp-sgd has the noise that its training solved for",
        (),
        "fl_runtime/evaluation/private_step.py",
        '{"noise_multiplier": spent["noise_multiplier"]}',
        '{"noise_multiplier": 1e-3}',
        (f"{PRIVATE}::test_the_noise_is_that_of_the_training_and_other_backends_are_left_alone",),
    ),
)
