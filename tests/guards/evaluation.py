"""Guards of the evaluation: without them a report would call something safe, or show figures that are not its own."""

from __future__ import annotations

from tests.guards.guard import Guard

ROWS = "tests/fl_runtime/evaluation/test_rows.py"
CACHE = "tests/fl_runtime/evaluation/test_cache.py"
CELLS = "tests/fl_runtime/evaluation/test_cells.py"
REPORT = "tests/fl_runtime/evaluation/test_report.py"
SETTINGS = "tests/fl_runtime/evaluation/test_settings.py"
PAGE = "tests/fl_runtime/evaluation/test_page.py"
PRIVATE = "tests/fl_runtime/evaluation/test_private_step.py"

GUARDS = (
    Guard(
        "where the control failed a row is inconclusive, never safe",
        (),
        "fl_runtime/evaluation/rows.py",
        "if not attack_works or success is None",
        "if success is None",
        (f"{ROWS}::test_where_the_control_fails_the_row_is_inconclusive_and_never_safe",),
    ),
    Guard(
        "a control that does no better than chance has not succeeded",
        (),
        "fl_runtime/evaluation/rows.py",
        "return self.success.value >= enough and self.success.low > self.by_chance",
        "return self.success.value >= enough",
        (f"{ROWS}::test_a_control_that_is_no_better_than_chance_has_not_succeeded",),
    ),
    Guard(
        "a failure on too few images is inconclusive",
        (),
        "fl_runtime/evaluation/rows.py",
        'return "not shown" if success.high < threshold else "inconclusive"',
        'return "not shown"',
        (f"{ROWS}::test_a_failure_is_one_only_where_the_interval_is_narrow_enough",),
    ),
    Guard(
        "an attack that accuses members and others alike has recognised nobody",
        (),
        "fl_runtime/evaluation/rows.py",
        "return least if wrong is None or wrong.high is None else max(least, wrong.high)",
        "return least",
        (f"{ROWS}::test_an_attack_that_accuses_members_and_others_alike_is_no_better_than_chance",),
    ),
    Guard(
        "no axis is printed beside an attack that ignores it",
        (),
        "fl_runtime/evaluation/settings.py",
        "if axis in traits.ignored:",
        "if False:",
        (f"{SETTINGS}::test_a_mistake_in_the_matrix_names_its_table",),
    ),
    Guard(
        "data that changed since the plan are not attacked under the old name",
        (),
        "fl_runtime/evaluation/world.py",
        "if digest(*named) != world.data_digest:",
        "if False:",
        (f"{CELLS}::test_data_that_changed_since_the_plan_are_refused",),
    ),
    Guard(
        "names out of an evaluation file are text in Markdown, not markup",
        (),
        "fl_runtime/evaluation/markdown.py",
        """return re.sub(r"([\\\\`*_\\[\\]<>|#])", r"\\\\\\1", text.replace("\\n", " "))""",
        """return text""",
        (f"{REPORT}::test_text_of_the_evaluation_is_escaped_in_markdown",),
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
