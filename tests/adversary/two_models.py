"""A malicious server that shows one client another model than all the others, and adds up what it can (T7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from he.rounds import EncryptedServer
from secagg.admission import propose
from secagg.driver import Letter
from secagg.frames import HEADER_BYTES
from secagg.identity import SERVER
from secagg.plain import PlainServer
from secagg.spec import task_digest
from tests.adversary.federation import Federation, is_vector

OTHER = task_digest(b"the model with a dead layer", b"settings")


class TwoModels:
    """One round of a backend of `tests.adversary.federation` with the updates of clients that were shown two models.

    The `victim` is proposed the round under another model's digest, which is what it received. Where the server's own
    part is to add what clients send, this one adds the victim's message although it belongs to another spec, and
    leaves its header out of the evidence. `noticed` says what became of it.
    """

    def __init__(self, name: str, updates: Mapping[str, NDArray[np.float32]], *, victim: str) -> None:
        size = len(next(iter(updates.values())))
        self._federation = Federation(name, clients=len(updates), size=size)
        self._federation.vectors = dict(updates)
        self._federation.weights = dict.fromkeys(updates, 1)
        self._victim = victim
        self.noticed = "nobody refused anything"

    def run(self) -> NDArray[np.float64]:
        """What the server has in the end: float64, the sum of all that it could add.

        Raises:
            Aborted: no sum came of the round.
        """
        federation, victim = self._federation, self._victim
        spec, other = federation.spec(), federation.spec(task=OTHER)
        sessions = federation.keep_sessions()

        def wire(letter: Letter) -> Iterable[Letter]:
            if letter.kind == "proposal" and letter.to == victim:
                return (replace(letter, frame=propose(other, federation.driver.identities[SERVER])),)
            server = sessions.get(SERVER)
            if isinstance(server, PlainServer | EncryptedServer) and letter.sender == victim and is_vector(letter):
                server._sum.fold(letter.frame[HEADER_BYTES:])
                return ()
            return (letter,)

        federation.wire = wire
        outcome = federation.driver.round(spec, federation.contribution, tasks={victim: OTHER})
        reasons = [error.why for error in outcome.rejected] + [outcome.dropped[victim]]
        if not isinstance(sessions[SERVER], PlainServer | EncryptedServer):
            self.noticed = f"the victim is left out: {reasons[0]}"
        return federation.encoding.to_floats(outcome.result.totals)
