"""Guards of the evaluation: without them a report would call something safe, or show figures that are not its own."""

from __future__ import annotations

from tests.guards.guard import Guard

ROWS = "tests/fl_runtime/evaluation/test_rows.py"
CACHE = "tests/fl_runtime/evaluation/test_cache.py"
CELLS = "tests/fl_runtime/evaluation/test_cells.py"
REPORT = "tests/fl_runtime/evaluation/test_report.py"
SETTINGS = "tests/fl_runtime/evaluation/test_settings.py"
PAGE = "tests/fl_runtime/evaluation/test_page.py"
PROTECTIONS = "tests/fl_runtime/evaluation/test_protections.py"
VICTIMS = "tests/fl_runtime/evaluation/test_victims.py"
INVERSION = "tests/fl_runtime/evaluation/test_inversion.py"
PRIVATE = "tests/fl_runtime/evaluation/test_private_step.py"

GUARDS = (
    Guard(
        "where the control failed a row is inconclusive, never safe",
        (),
        "fl_runtime/evaluation/rows.py",
        "surely = attack_works and success.high",
        "surely = success.high",
        (f"{ROWS}::test_where_the_control_fails_the_row_is_inconclusive_and_never_safe",),
    ),
    Guard(
        "a control that does no better than chance has not succeeded",
        (),
        "fl_runtime/evaluation/rows.py",
        "return self.success.value >= self.threshold(control) and self.success.low > self.by_chance",
        "return self.success.value >= self.threshold(control)",
        (f"{ROWS}::test_a_control_that_is_no_better_than_chance_has_not_succeeded",),
    ),
    Guard(
        "a failure on too few images is inconclusive",
        (),
        "fl_runtime/evaluation/rows.py",
        'return "not shown" if surely else "inconclusive"',
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
        "what was not attacked is not counted as an attack that failed",
        (),
        "fl_runtime/evaluation/attempts/measured.py",
        "shares=_joined([attempt.shares for attempt in attacked], np.uint8),",
        "shares=_joined([attempt.shares for attempt in tried], np.uint8),",
        (f"{ROWS}::test_what_was_not_attacked_does_not_count_as_an_attack_that_failed",),
    ),
    Guard(
        "one repeat is never enough for a failure",
        (),
        "fl_runtime/evaluation/rows.py",
        "len(cells) > 1 and ",
        "",
        (f"{ROWS}::test_one_repeat_shows_a_leak_and_never_a_failure",),
    ),
    Guard(
        "the control's name is nothing else's",
        (),
        "fl_runtime/evaluation/matrix/settings.py",
        "if name == reserved:",
        "if False:",
        (f"{SETTINGS}::test_a_mistake_is_named",),
    ),
    Guard(
        "an adversary is told the noise on what it sees",
        (),
        "fl_runtime/evaluation/attempts/victims.py",
        "return seen if cell.setting.adaptive else seen.oblivious()",
        "return seen.oblivious()",
        (
            f"{VICTIMS}::test_the_adversary_knows_how_much_noise_is_on_a_noisy_sum",
            f"{VICTIMS}::test_an_adversary_who_is_unaware_gets_neither_noise_nor_masks",
        ),
    ),
    Guard(
        "data that changed are never a result",
        (),
        "fl_runtime/evaluation/attempts/jobs.py",
        "except Changed:",
        "except ZeroDivisionError:",
        (f"{CACHE}::test_data_that_changed_are_no_result",),
    ),
    Guard(
        "what several parties pool is not said of one",
        (),
        "fl_runtime/evaluation/report/protections.py",
        "return self.where(lambda row: not row.collusion)",
        "return self",
        (f"{PROTECTIONS}::test_the_clearest_image_is_of_all_rows_of_one_party_and_not_of_the_one_that_is_shown",),
    ),
    Guard(
        "nor in the summary, in any family",
        (),
        "fl_runtime/evaluation/report/findings.py",
        "[row for row in rows if row.collusion == many]",
        "list(rows)",
        (f"{PROTECTIONS}::test_what_several_parties_pool_is_no_result_of_the_server_in_any_family",),
    ),
    Guard(
        "protections are told apart by what they are",
        (),
        "fl_runtime/evaluation/report/protections.py",
        "return key(row.cell.backend), key(row.cell.defence)",
        "return row.cell.backend.label, row.cell.defence.label",
        (f"{PROTECTIONS}::test_protections_are_told_apart_by_what_they_are_and_not_by_their_labels",),
    ),
    Guard(
        "a delta of 1 is no guarantee",
        (),
        "fl_runtime/evaluation/report/audit.py",
        'return claim is not None and claim["delta"] < 1',
        "return claim is not None",
        (f"{PROTECTIONS}::test_a_delta_of_one_is_no_guarantee",),
    ),
    Guard(
        "a point of the checklist is complete only with all that it requires",
        (),
        "fl_runtime/evaluation/report/checklist.py",
        "return bool(self.evidence) and not self.missing",
        "return bool(self.evidence)",
        (f"{PROTECTIONS}::test_a_point_is_complete_only_with_all_that_it_requires",),
    ),
    Guard(
        "no axis is printed beside an attack that ignores it",
        (),
        "fl_runtime/evaluation/matrix/settings.py",
        "if axis in (*traits.ignored, *BLIND_TO.get(kind, ())):",
        "if False:",
        (f"{SETTINGS}::test_a_mistake_in_the_matrix_names_its_table",),
    ),
    Guard(
        "data that changed since the plan are not attacked under the old name",
        (),
        "fl_runtime/evaluation/matrix/world.py",
        "if digest(*named) != world.data_digest:",
        "if False:",
        (f"{CELLS}::test_data_that_changed_since_the_plan_are_refused",),
    ),
    Guard(
        "names out of an evaluation file are text in Markdown, not markup",
        (),
        "fl_runtime/evaluation/report/markdown.py",
        """return re.sub(r"([\\\\`*_\\[\\]<>|#])", r"\\\\\\1", text.replace("\\n", " "))""",
        """return text""",
        (f"{REPORT}::test_text_of_the_evaluation_is_escaped_in_markdown",),
    ),
    Guard(
        "a damaged cache entry is never taken for a result",
        (),
        "fl_runtime/evaluation/attempts/cache.py",
        "if hashlib.sha256(content[DIGEST_BYTES:]).digest() != content[:DIGEST_BYTES]:",
        "if False:",
        (f"{CACHE}::test_one_changed_byte_is_noticed_and_the_file_named",),
    ),
    Guard(
        "a worker with other sources stores nothing under this evaluation's names",
        (),
        "fl_runtime/evaluation/attempts/jobs.py",
        "if cache.path(job) != path:",
        "if False:",
        (f"{CACHE}::test_a_worker_with_other_sources_than_the_evaluation_is_refused",),
    ),
    Guard(
        "names out of an evaluation file are text in the page, not markup",
        (),
        "fl_runtime/evaluation/report/page.py",
        "Environment(autoescape=True,",
        "Environment(autoescape=False,",
        (f"{PAGE}::test_text_of_the_evaluation_is_escaped",),
    ),
    Guard(
        "an attacked step of dp-sgd has the noise that its training solved for",
        (),
        "fl_runtime/evaluation/attempts/private_step.py",
        '{"noise_multiplier": spent["noise_multiplier"]}',
        '{"noise_multiplier": 1e-3}',
        (f"{PRIVATE}::test_the_noise_is_that_of_the_training_and_other_backends_are_left_alone",),
    ),
    Guard(
        "results are those of these sources, and never of none",
        (),
        "fl_runtime/evaluation/attempts/cache.py",
        "if not paths:",
        "if False:",
        (f"{CACHE}::test_one_changed_source_is_other_sources_and_none_at_all_is_an_error",),
    ),
    Guard(
        "the page says that an audit refuted a claim, or could not have",
        (),
        "fl_runtime/evaluation/report/page_files/report.html.j2",
        "{{ a.verdict|sentence }}. ",
        "",
        (f"{PROTECTIONS}::test_the_page_says_what_an_audit_came_to",),
    ),
    Guard(
        "chance pairs as many guesses as reconstructions are paired",
        (),
        "fl_runtime/evaluation/attempts/scoring.py",
        "victims = torch.randperm(len(images), generator=chance)[:together]",
        "victims = torch.randperm(len(images), generator=chance)[:1]",
        (f"{INVERSION}::test_chance_knows_how_many_guesses_are_paired_and_of_an_attack_that_chooses",),
    ),
)
