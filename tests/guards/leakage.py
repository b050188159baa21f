"""Guards of the leakage harness: without them a report would say more, or less, than was seen."""

from __future__ import annotations

from tests.guards.guard import Guard

VIEWS = "tests/secagg/leakage/test_views.py"

GUARDS = (
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
        "secagg/leakage/recording.py",
        "        if without:\n",
        "        if False:\n",
        (f"{VIEWS}::test_smpc_with_a_threshold_shows_that_many_everything",),
    ),
    Guard(
        "a cohort under the minimum is refused to curious parties in a replay only",
        ("T9",),
        "secagg/leakage/recording.py",
        'update={"minimum_cohort": 1}',
        "update={}",
        (f"{VIEWS}::test_a_vanished_client_is_in_nobody_s_view",),
    ),
)
