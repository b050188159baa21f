"""Guards of the leakage harness: without them a report would say more, or less, than was seen."""

from __future__ import annotations

from tests.guards.guard import Guard

VIEWS = "tests/secagg/leakage/test_views.py"
DETECTION = "tests/secagg/leakage/test_detection.py"
MEMBERSHIP = "tests/secagg/leakage/test_membership.py"
LPIPS = "tests/secagg/leakage/test_lpips.py"
PARAMETERS = "tests/secagg/leakage/test_parameters.py"
RECEIVED = "tests/fl_runtime/test_received_model.py"
MATCHED = "tests/secagg/leakage/attacks/test_matched_filter.py"

GUARDS = (
    Guard(
        "where gradients say nothing, no candidate is found by its place",
        (),
        "secagg/leakage/attacks/matched_filter.py",
        "torch.randperm(len(seen.candidates), generator=generator(seed, self.name))",
        "torch.arange(len(seen.candidates))",
        (f"{MATCHED}::test_where_all_scores_are_equal_no_place_is_favoured",),
    ),
    Guard(
        "what a session ends with counts only if it is the sum that it claims to be",
        (),
        "secagg/leakage/views.py",
        "if (np.abs(totals - self._total(result.contributors)) <= len(result.contributors)).all():",
        "if True:",
        (f"{VIEWS}::test_a_session_that_ends_with_another_sum_than_it_claims_taught_nobody_anything",),
    ),
    Guard(
        "what others said of the whole set of clients is no answer about a smaller one",
        (),
        "secagg/leakage/replay.py",
        "        if without:\n",
        "        if False:\n",
        (f"{VIEWS}::test_smpc_with_a_threshold_shows_that_many_everything",),
    ),
    Guard(
        "a cohort under the minimum is refused to curious parties in a replay only",
        ("T9",),
        "secagg/leakage/replay.py",
        'update={"minimum_cohort": 1}',
        "update={}",
        (f"{VIEWS}::test_a_vanished_client_is_in_nobody_s_view",),
    ),
    Guard(
        "too few non-members make a low rate inconclusive",
        (),
        "secagg/leakage/membership/roc.py",
        "if wrong * fpr < FALSE_ALARMS_NEEDED * (1 - 1e-9):",
        "if False:",
        (f"{MEMBERSHIP}::test_a_rate_without_enough_non_members_is_inconclusive",),
    ),
    Guard(
        "a file of weights runs no code",
        (),
        "secagg/leakage/lpips.py",
        "weights_only=True",
        "weights_only=False",
        (f"{LPIPS}::test_code_in_a_file_of_weights_is_not_run",),
    ),
    Guard(
        "NaN is no value of a parameter",
        (),
        "secagg/leakage/parameters.py",
        'Rule("a finite number from 0", lambda value: 0 <= value <= LARGEST)',
        'Rule("a finite number from 0", lambda value: not value < 0)',
        (f"{PARAMETERS}::test_no_parameter_takes_what_is_no_value_of_it",),
    ),
    Guard(
        "a layer of parallel rows is an imprint",
        (),
        "secagg/leakage/detection.py",
        "if not output and (share := _parallel(rows, limits)) > limits.parallel:",
        "if False and (share := _parallel(rows, limits)) > limits.parallel:",
        (f"{DETECTION}::test_an_imprint_block_shows_by_its_parallel_rows",),
    ),
    Guard(
        "a layer of mirrored rows is a trap",
        (),
        "secagg/leakage/detection.py",
        "if (share := _mirrored(rows, limits)) > limits.mirrored:",
        "if (share := _mirrored(rows, limits)) > 1:",
        (f"{DETECTION}::test_trap_weights_show_by_their_mirrored_rows",),
    ),
    Guard(
        "kernels that copy keep clients apart",
        ("T7",),
        "secagg/leakage/detection.py",
        "if (share := float(alone.float().mean())) > limits.copying:",
        "if (share := float(alone.float().mean())) > 1:",
        (f"{DETECTION}::test_copying_kernels_show",),
    ),
    Guard(
        "a dead layer is model inconsistency",
        ("T7",),
        "secagg/leakage/detection.py",
        "if (share := float((rates == 0).float().mean())) > limits.dead:",
        "if (share := float((rates == 0).float().mean())) > 1:",
        (f"{DETECTION}::test_a_dead_layer_shows_by_its_units_wherever_the_relu_is_called",),
    ),
    Guard(
        "units that hardly ever answer are traps of some making",
        (),
        "secagg/leakage/detection.py",
        "elif (share := float((rates < limits.rate).float().mean())) > limits.rare:",
        "elif (share := float((rates < limits.rate).float().mean())) > 1:",
        (f"{DETECTION}::test_units_that_hardly_ever_answer_show_however_they_were_made",),
    ),
    Guard(
        "kernels of which nothing is left after a round were replaced",
        ("T7",),
        "secagg/leakage/detection.py",
        "if len(cosines) and cosines.median() < limits.kept:",
        "if False:",
        (f"{DETECTION}::test_kernels_that_are_replaced_between_rounds_show",),
    ),
    Guard(
        "weights that are not finite are found before anything is computed from them",
        (),
        "secagg/leakage/detection.py",
        "    if broken := tuple(_not_finite(model)):\n",
        "    if broken := ():\n",
        (f"{DETECTION}::test_weights_that_are_not_finite_show",),
    ),
    Guard(
        "a model of weights that are not finite compares with none",
        (),
        "secagg/leakage/detection.py",
        "    if broken := (*_not_finite(before), *_not_finite(after)):\n",
        "    if broken := ():\n",
        (f"{DETECTION}::test_weights_that_are_not_finite_show",),
    ),
    Guard(
        "a saturated layer is dead behind any activation function",
        ("T7",),
        "secagg/leakage/detection.py",
        "answers = (slopes.abs() > self._limits.slope).float()",
        "answers = (values > 0).float()",
        (f"{DETECTION}::test_a_dead_layer_shows_behind_any_activation_function",),
    ),
    Guard(
        "no scale hides a row",
        (),
        "secagg/leakage/detection.py",
        "rows / rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)",
        "rows",
        (f"{DETECTION}::test_no_scale_hides_a_row",),
    ),
    Guard(
        "a client that refuses models computes nothing from a malicious one",
        ("T7",),
        "fl_runtime/received_model.py",
        "if findings and self._refuse:",
        "if False:",
        (f"{RECEIVED}::test_a_client_that_refuses_computes_nothing_from_a_malicious_model",),
    ),
    Guard(
        "a model that was refused does not vouch for the next",
        (),
        "fl_runtime/received_model.py",
        "        if findings and self._refuse:\n",
        "        if findings and self._refuse:\n            self._passed = weights\n",
        (f"{RECEIVED}::test_a_model_that_was_refused_does_not_vouch_for_the_next",),
    ),
    Guard(
        "under differential privacy no client leaves because of its rows",
        (),
        "fl_runtime/run.py",
        "own_rows = not refuse or composition.spent(1) is None",
        "own_rows = True",
        (f"{RECEIVED}::test_under_differential_privacy_no_client_leaves_because_of_its_rows",),
    ),
)
