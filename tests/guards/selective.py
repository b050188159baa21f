"""Guards of selective encryption."""

from __future__ import annotations

from tests.guards.guard import Guard

SELECTIVE = "tests/adversary/test_selective.py"
ENGINE = "tests/he/test_selective.py"
SENSITIVITY = "tests/fl_runtime/test_sensitivity.py"

GUARDS = (
    Guard(
        "a message has exactly the bytes of its two halves",
        ("C4",),
        "he/selective/scheme.py",
        "if len(body) != whole:",
        "if False:",
        (f"{SELECTIVE}::test_c4_a_message_of_another_length_costs_one_client",),
    ),
    Guard(
        "both halves of a message are added or neither",
        ("C5",),
        "he/selective/scheme.py",
        "self._encrypted.fold(encrypted)\n        self._clear.fold(clear)",
        "self._clear.fold(clear)\n        self._encrypted.fold(encrypted)",
        (f"{SELECTIVE}::test_a_signed_message_with_a_malformed_ciphertext_adds_neither_half",),
    ),
    Guard(
        "the weight is encrypted whatever the mask",
        ("T23",),
        "he/selective/scheme.py",
        "np.append(mask, True) if encoding.weighted",
        "np.append(mask, False) if encoding.weighted",
        (f"{ENGINE}::test_the_server_reads_exactly_the_coordinates_outside_the_mask",),
    ),
    Guard(
        "a mask never expands beyond the size of the model",
        ("T12",),
        "he/selective/mask.py",
        "base64.b64decode(text, validate=True), expected + 1)",
        "base64.b64decode(text, validate=True))",
        (f"{ENGINE}::test_t12_a_mask_never_expands_beyond_the_size_of_the_model",),
    ),
    Guard(
        "a mask is for a model of its own size",
        ("C3",),
        "he/selective/mask.py",
        " or not bits[size] or bits[size + 1 :].any()",
        "",
        (f"{ENGINE}::test_a_mask_comes_back_from_its_text_and_is_taken_for_no_other_length",),
    ),
    Guard(
        "a mask encrypts something",
        (),
        "he/selective/mask.py",
        "if not mask.any():",
        "if False:",
        (f"{ENGINE}::test_a_mask_that_encrypts_nothing_is_refused",),
    ),
    Guard(
        "a layer that the model does not have is no slip to pass over",
        (),
        "he/selective/mask.py",
        "if not any(fnmatchcase(name, pattern) for name in names):",
        "if False:",
        (f"{ENGINE}::test_a_layer_that_the_model_does_not_have_is_refused",),
    ),
    Guard(
        "a mask that chance made is not for training",
        (),
        "fl_runtime/run.py",
        'if (fraction := composition.backend.parameters.get("fraction", 1)) != 1:',
        "if (fraction := 1) != 1:",
        (f"{SENSITIVITY}::test_evenly_spread_coordinates_are_refused_in_training",),
    ),
    Guard(
        "nobody's own map of sensitivity is seen",
        ("T23",),
        "fl_runtime/sensitivity.py",
        "if not prepared.composition.guarantees.sum_only:",
        "if False:",
        (f"{SENSITIVITY}::test_a_backend_that_shows_single_maps_is_refused",),
    ),
)
