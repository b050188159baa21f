"""Guards of audits, and the bugs that are planted for them."""

from __future__ import annotations

from tests.guards.guard import Guard
from tests.guards.planted import PLANTED

ONE_RUN = "tests/dp/audit/test_one_run.py"
COMMAND = "tests/dp/audit/test_command.py"

GUARDS = (
    *(bug.guard for bug in PLANTED),
    Guard(
        "delta counts for every canary",
        ("D9",),
        "dp/audit/one_run.py",
        "guesses, chance)) + 2 * canaries * delta * most)",
        "guesses, chance)))",
        (f"{ONE_RUN}::test_d9_a_mechanism_that_tells_all_with_chance_delta_is_not_accused",),
    ),
    Guard(
        "as many right guesses as were made count, and no more",
        ("D9",),
        "dp/audit/one_run.py",
        "binom.sf(right - 1, guesses, chance)",
        "binom.sf(right, guesses, chance)",
        (f"{ONE_RUN}::test_the_p_value_is_that_of_the_theorem",),
    ),
    Guard(
        "an epsilon is ruled out only with the confidence asked for",
        ("D9",),
        "dp/audit/one_run.py",
        "return found <= 1 - confidence",
        "return found <= 0.5",
        (f"{ONE_RUN}::test_the_bound_of_randomised_response_holds_and_is_near",),
    ),
    Guard(
        "a bound over the claim is called a violation",
        ("D9",),
        "dp/audit/run.py",
        "violated=bound > claim.epsilon,",
        "violated=False,",
        (f"{COMMAND}::test_d9_a_violated_claim_is_said_to_be_and_exits_with_1",),
    ),
    Guard(
        "a canary is longer than the clip",
        ("D9",),
        "dp/audit/canaries.py",
        "LENGTH = 4.0",
        "LENGTH = 1.0",
        (f"{COMMAND}::test_d9_a_canary_is_longer_than_the_clip",),
    ),
    Guard(
        "a canary changes its sign from step to step",
        ("D9",),
        "dp/audit/canaries.py",
        "return -1 if step % 2 else 1",
        "return 1",
        (f"{COMMAND}::test_d9_noise_that_comes_back_cancels_and_canaries_do_not",),
    ),
    Guard(
        "a sum of canaries has no more noise than is claimed",
        ("D7", "D9"),
        "dp/audit/client.py",
        'self.cohort = parameters.get("survivors") or self.cohort',
        "pass",
        (f"{COMMAND}::test_d9_a_cohort_has_no_more_clients_than_the_noise_is_calibrated_to",),
    ),
)
