"""What the key of an envelope is bound to."""

from __future__ import annotations

import pytest

from smpc.secaggplus.keys import envelope_key

SECRET = bytes(range(32))
BOUND = {"spec": b"a" * 32, "sender": b"b" * 32, "recipient": b"c" * 32}


@pytest.mark.parametrize("field", BOUND)
def test_t7_an_envelope_key_is_of_one_spec_one_sender_and_one_recipient(field: str) -> None:
    assert envelope_key(SECRET, **BOUND) == envelope_key(SECRET, **BOUND)
    assert envelope_key(SECRET, **BOUND) != envelope_key(SECRET, **BOUND | {field: b"d" * 32})


def test_the_two_directions_of_a_pair_have_two_keys() -> None:
    back = {"spec": BOUND["spec"], "sender": BOUND["recipient"], "recipient": BOUND["sender"]}
    assert envelope_key(SECRET, **BOUND) != envelope_key(SECRET, **back)
