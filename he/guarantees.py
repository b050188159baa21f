"""What encrypted sums promise, by who has the key and who adds; a backend states its cryptosystem beside it."""

from __future__ import annotations

from typing import Any, Literal

from he.key_setup import HOLDER
from secagg.guarantees import Guarantees

Mode = Literal["holder", "verified", "shared"]

_WITH_HOLDER: dict[str, Any] = {
    "key_holder": "the key holder, a party of its own",
    "dropouts": "a silent client is left out; a silent key holder ends the round with a named abort",
}
_FORGETFUL = (
    "a holder that forgets which rounds it has opened, because it keeps that in no folder and is started again, or in "
    "a folder that is put back, can be made to open two sums of a round: their difference may be one client's update"
)
_SIGNED_SUM: dict[str, Any] = {
    "adversary": "passive",
    "two_specs": "the key refuses contributions whose signed headers name different specs; a server that lies about "
    "what it added is not detected",
}
_MODES: dict[Mode, dict[str, Any]] = {
    "holder": _WITH_HOLDER
    | _SIGNED_SUM
    | {
        "protection": "public key of a key holder",
        "collusion": "clients may collude with the server; the key holder may not",
        "sees": {
            "server": ("one ciphertext of every client", "who contributed", "the sum"),
            "holder": ("the sum", "who contributed"),
            "clients": ("nothing",),
        },
        "limitations": (
            "the server and the key holder together read every update",
            "the holder cannot tell what was added: a server that submits one client's ciphertext as the sum, with "
            "everybody's signed headers, reads that client; one that submits a crafted ciphertext can learn the key",
            _FORGETFUL,
        ),
    },
    "verified": _WITH_HOLDER
    | {
        "protection": "public key of a key holder that adds the ciphertexts itself",
        "adversary": "active",
        "collusion": "clients may collude with the server and send what they like; the key holder must be honest",
        "sees": {
            "server": ("one sealed ciphertext of every client", "who contributed", "the sum"),
            "holder": ("one ciphertext of every client, with the key to it", "who contributed", "the sum"),
            "clients": ("nothing",),
        },
        "two_specs": "the holder takes contributions under one spec; a client that was shown another is left out",
        "uploads_to": HOLDER,
        "limitations": (
            "a curious key holder alone reads every update",
            "the server decides who is declared absent, and colluders subtract their own part: what is left is the "
            "sum of the minimum cohort less the colluders",
            "two rounds whose cohorts differ by one client show it by their difference: nothing compares rounds",
            "a client that crafts its ciphertext can bring out the key in the sum; updates stay hidden by the sealing",
            "one malicious client can set the sum, or end the round; a holder that adds wrongly is not detected",
            _FORGETFUL,
        ),
    },
    "shared": _SIGNED_SUM
    | {
        "protection": "one secret key shared by all clients",
        "collusion": "none: the server and any one client together read every update",
        "sees": {
            "server": ("one ciphertext of every client", "who contributed"),
            "clients": ("the secret key", "the sum", "who contributed"),
        },
        "key_holder": "every client",
        "dropouts": "a silent client is left out; the sum of the others is exact",
        "result_at": "clients",
        "limitations": (
            "one curious client at the server's side ends all secrecy",
            "clients cannot tell what was added: a server that sends one client's ciphertext as the sum shows that "
            "client's update to all the others",
        ),
    },
}


def guarantees(mode: Mode, *, encryption: str, exactness: str, limitations: tuple[str, ...] = ()) -> Guarantees:
    """The record of one mode under `encryption`, whose own `limitations` come last."""
    fields = dict(_MODES[mode])
    protection = f"{encryption}, {fields.pop('protection')}"
    general = fields.pop("limitations")
    return Guarantees(
        **fields, protection=protection, alpha=3, exactness=exactness, limitations=(*general, *limitations)
    )
