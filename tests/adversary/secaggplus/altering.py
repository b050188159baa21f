"""A server of `secaggplus` that departs from the protocol: altered messages, signed again, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from secagg.driver import Letter
from secagg.errors import Aborted, Rejected
from secagg.frames import HEADER_BYTES
from secagg.identity import SERVER, PartyId
from secagg.spec import RoundSpec
from smpc.cohort import encode_set
from tests.adversary.federation import Federation, step_of

VICTIM = "site-2"
SPARSE: dict[str, Any] = {"clients": 21, "degree": 8, "acknowledge_weak_parameters": True}
Edit = Callable[[bytes], bytes]


def body_of(letter: Letter) -> bytes:
    return bytes(letter.frame[HEADER_BYTES:])


class Altering:
    """The server's messages of one step to some clients, altered and signed again by the server; keeps all letters."""

    def __init__(
        self, federation: Federation, spec: RoundSpec, step: int, edit: Edit, *, to: Iterable[PartyId]
    ) -> None:
        self._federation, self._spec, self._step, self._edit, self._to = federation, spec, step, edit, set(to)
        self.letters: list[Letter] = []

    def __call__(self, letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.to in self._to and step_of(letter) == self._step:
            body = self._edit(body_of(letter))
            letter = replace(letter, frame=self._federation.forge(SERVER, letter.to, self._spec, self._step, body))
        if letter.kind == "frame":
            self.letters.append(letter)
        return (letter,)

    def sent(self, step: int) -> set[PartyId]:
        """Who sent a message of this step."""
        return {letter.sender for letter in self.letters if step_of(letter) == step}


def attack(
    step: int, edit: Edit, *, to: Iterable[PartyId] = (VICTIM,), name: str = "secaggplus", **options: Any
) -> tuple[Federation, RoundSpec, Altering]:
    """A federation whose server alters its messages of `step` to `to`."""
    federation = Federation(name, **options)
    spec = federation.spec()
    federation.wire = Altering(federation, spec, step, edit, to=to)
    return federation, spec, federation.wire


def sets(shared: Iterable[PartyId], alive: Iterable[PartyId], names: Iterable[PartyId]) -> bytes:
    """The body of an ALIVE."""
    ordered = sorted(names)
    return encode_set(list(shared), ordered) + encode_set(list(alive), ordered)


def refusal(federation: Federation, spec: RoundSpec, client: PartyId = VICTIM) -> str:
    """Run a round; why `client` left it."""
    reasons: list[str] = []
    make = federation.backend.session

    def watching(*arguments: Any, **options: Any) -> Any:
        session = make(*arguments, **options)
        if session.party.name == client:  # type: ignore[attr-defined]
            receive = session.receive

            def noted(sender: PartyId, frame: bytes) -> Any:
                try:
                    return receive(sender, frame)
                except (Aborted, Rejected) as error:
                    reasons.append(str(error))
                    raise

            session.receive = noted  # type: ignore[method-assign]
        return session

    federation.backend.session = watching  # type: ignore[method-assign]
    try:
        federation.round(spec=spec)
    except Aborted as error:
        reasons.append(f"round: {error}")
    return reasons[0] if reasons else "nothing"


def counted_as(shared: Iterable[int], alive: Iterable[int], *, clients: int = 5) -> Edit:
    names = [f"site-{number}" for number in range(clients)]
    return lambda _: sets([names[one] for one in shared], [names[one] for one in alive], names)


def assert_uniform(data: np.ndarray) -> None:
    counts = np.bincount(data, minlength=256)
    expected = counts.sum() / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 400  # 255 degrees of freedom: 1e-8
