"""The guards that `tests.mutants` deletes, each with the cases of the threat list it answers and its tests."""

from __future__ import annotations

from dataclasses import dataclass

WIRE = "tests/adversary/test_wire.py"
COHORT = "tests/adversary/test_cohort.py"
SMPC = "tests/adversary/test_smpc.py"


@dataclass(frozen=True)
class Guard:
    """`code` stands once in `file`; with `instead` in its place one of `tests` must fail."""

    name: str
    cases: tuple[str, ...]
    file: str
    code: str
    instead: str
    tests: tuple[str, ...]


GUARDS = (
    Guard(
        "a frame must carry this round's spec digest",
        ("T3", "T7"),
        "secagg/session.py",
        "if header.spec != self.spec.digest:",
        "if False:",
        (f"{WIRE}::test_t3_messages_of_another_round_are_rejected",),
    ),
    Guard(
        "an identical duplicate is answered from the store",
        ("T4",),
        "secagg/session.py",
        "return tuple(self._replies.get(key, ()))",
        "raise Rejected(sender, 'seen before')",
        (f"{WIRE}::test_t4_identical_duplicates_change_nothing",),
    ),
    Guard(
        "a different duplicate is equivocation",
        ("T5", "S5"),
        "secagg/session.py",
        "if earlier != seen:",
        "if False:",
        (f"{WIRE}::test_t5_conflicting_duplicates_are_equivocation",),
    ),
    Guard(
        "a step that is not open takes nothing",
        ("T6",),
        "secagg/session.py",
        'raise Rejected(sender, f"step {header.step} is out of order")',
        "self.open_step(header.step, self.clients, limit=header.length)",
        (f"{WIRE}::test_t6_steps_out_of_order_are_rejected",),
    ),
    Guard(
        "a sum needs the minimum cohort",
        ("T9",),
        "secagg/session.py",
        "if len(contributors) < self.spec.minimum_cohort:",
        "if False:",
        (f"{COHORT}::test_t9_a_round_under_the_minimum_cohort_reveals_nothing",),
    ),
    Guard(
        "a minimum cohort is never below three",
        ("T9",),
        "secagg/spec.py",
        "if self.minimum_cohort < MIN_COHORT:",
        "if False:",
        (f"{COHORT}::test_t9_a_spec_below_the_minimum_cannot_be_made",),
    ),
    Guard(
        "a body has a limit before it is looked at",
        ("T12",),
        "secagg/frames.py",
        "if header.length > limit:",
        "if False:",
        (f"{WIRE}::test_t12_an_oversized_body_is_rejected_before_it_is_looked_at",),
    ),
    Guard(
        "a frame has exactly the length it states",
        ("T12", "T14"),
        "secagg/frames.py",
        "if len(frame) != HEADER_BYTES + header.length:",
        "if False:",
        (
            f"{WIRE}::test_t12_a_header_that_lies_about_its_length_is_rejected",
            f"{WIRE}::test_t14_truncated_frames_are_rejected",
        ),
    ),
    Guard(
        "a vector has exactly the bytes of the spec",
        ("T13", "T16"),
        "secagg/ringsum.py",
        "if len(body) != self.wire_bytes:",
        "if False:",
        (
            f"{WIRE}::test_t16_a_vector_of_another_length_is_rejected",
            f"{WIRE}::test_t13_a_pickle_is_rejected_and_never_loaded",
        ),
    ),
    Guard(
        "a body must match its tag",
        ("T14",),
        "secagg/session.py",
        "self._channel(sender).check(header.nonce, header.tag, body)",
        "pass",
        (f"{WIRE}::test_t14_a_flipped_bit_anywhere_is_rejected",),
    ),
    Guard(
        "a header must be signed by its sender",
        ("T1", "T14"),
        "secagg/session.py",
        "if not self.peer(sender).verify(header.signature, header.signed_bytes()):",
        "if False:",
        (f"{WIRE}::test_t14_a_flipped_bit_anywhere_is_rejected",),
    ),
    Guard(
        "an update must be finite",
        ("T15",),
        "secagg/vectors.py",
        "if np.isfinite(vector).all():",
        "if True:",
        (f"{COHORT}::test_t15_a_value_that_is_not_finite_stays_at_the_client",),
    ),
    Guard(
        "an update has the layout's shape and dtype",
        ("T16",),
        "secagg/vectors.py",
        "if not isinstance(vector, np.ndarray) or vector.dtype != np.float32 or vector.shape != (self.size,):",
        "if False:",
        (f"{COHORT}::test_t16_a_vector_of_another_shape_stays_at_the_client",),
    ),
    Guard(
        "a weight is a whole number in its range",
        ("T17",),
        "secagg/fixedpoint.py",
        "if whole and lower <= weight <= upper:",
        "if weight == weight and abs(weight) != float('inf'):",
        (f"{COHORT}::test_t17_a_weight_out_of_range_is_a_client_error",),
    ),
    Guard(
        "a total weight of zero has no mean",
        ("T18",),
        "secagg/protocol.py",
        "if self.weight == 0:",
        "if False:",
        (f"{COHORT}::test_t18_a_total_weight_of_zero_is_a_named_abort",),
    ),
    Guard(
        "a key file is its owner's alone",
        ("T21",),
        "secagg/identity.py",
        "if mode & 0o077:",
        "if False:",
        ("tests/secagg/test_identity.py",),
    ),
    Guard(
        "a closed step stays closed",
        ("T22",),
        "secagg/session.py",
        "if header.step in self._closed:",
        "if False:",
        (f"{WIRE}::test_t22_an_upload_after_the_step_closed_is_discarded",),
    ),
    Guard(
        "a frame for somebody else is not taken",
        ("S4",),
        "secagg/session.py",
        "if header.recipient != self.party.identity.public.fingerprint:",
        "if False:",
        (f"{SMPC}::test_s4_a_seed_for_one_aggregator_is_worthless_to_another",),
    ),
    Guard(
        "an envelope opens only for the pair it was sealed for",
        ("S4",),
        "secagg/sealing.py",
        "return AESGCM(key).decrypt(bytes(NONCE_BYTES), ciphertext, context)",
        "return bytes(32)",
        (f"{SMPC}::test_s4_a_client_that_sends_one_aggregator_the_other_seed_is_rejected",),
    ),
    Guard(
        "nothing is expanded before all aggregators agree on the set",
        ("S7",),
        "smpc/additive_sessions.py",
        "if theirs != digest:",
        "if False:",
        (f"{SMPC}::test_s7_aggregators_that_were_shown_different_sets_abort_before_expanding",),
    ),
    Guard(
        "an aggregator checks the minimum cohort itself",
        ("T9",),
        "smpc/additive_sessions.py",
        "self.require_cohort(cohort, where=self.party.name)",
        "pass",
        (f"{SMPC}::test_a_server_that_asks_for_too_small_a_set_gets_nothing",),
    ),
    Guard(
        "who has left a round stays out of it",
        ("T9",),
        "secagg/session.py",
        "if self._left:",
        "if False:",
        (f"{SMPC}::test_an_aggregator_that_aborted_stays_out",),
    ),
    Guard(
        "a site refuses a spec for another model than it received",
        ("T7",),
        "secagg/admission.py",
        "if spec.task != task:",
        "if False:",
        ("tests/secagg/test_admission.py",),
    ),
    Guard(
        "a site refuses swapped keys",
        ("T2",),
        "secagg/admission.py",
        "if directory[name].fingerprint != fingerprint:",
        "if False:",
        ("tests/secagg/test_admission.py",),
    ),
    Guard(
        "a site insists on its own minimum",
        ("T8", "T9"),
        "secagg/admission.py",
        "if spec.minimum_cohort < needed:",
        "if False:",
        ("tests/secagg/test_admission.py",),
    ),
    Guard(
        "a site limits the share of unknown peers",
        ("T11",),
        "secagg/admission.py",
        "if share > policy.max_unknown_share:",
        "if False:",
        ("tests/secagg/test_admission.py",),
    ),
)
