"""`local`: all parties in this process, each with its own keys, over the in-memory driver and real frames."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fl_runtime.task import digest_of, model_digest
from secagg.driver import Driver, Outcome
from secagg.fixedpoint import FixedPoint
from secagg.identity import SERVER, Directory, Identity, PartyId
from secagg.participation import Participation
from secagg.protocol import Backend, Rng
from secagg.vectors import Layout

Update = Callable[[PartyId, bytes], tuple[NDArray[np.float32], int] | None]


class LocalEngine:
    """Carries tasks to sites and their updates through a backend.

    Args:
        backend: what protects the sum.
        sites: names of all clients.
        minimum_cohort: fewest clients in a sum.
        layout, encoding: of every round.
        server: the server's identity, to sign the record of the run with; a fresh one by default.
        rng: where all parties draw their randomness; anything but the default is for simulations.
    """

    def __init__(
        self,
        backend: Backend,
        sites: Sequence[PartyId],
        *,
        minimum_cohort: int,
        layout: Layout,
        encoding: FixedPoint,
        server: Identity | None = None,
        rng: Rng = secrets.token_bytes,
    ) -> None:
        known = {} if server is None else {SERVER: server}
        self._driver = Driver(
            backend,
            sites,
            minimum_cohort=minimum_cohort,
            identities=known,
            rng=rng,
            participation={name: Participation() for name in sites},
        )
        self._layout = layout
        self._encoding = encoding
        self._driver.set_up(layout=layout, encoding=encoding)

    @property
    def run(self) -> str:
        """The run's identifier, hex."""
        return self._driver.run

    @property
    def directory(self) -> Directory:
        """Everybody's public identity."""
        return self._driver.directory

    @property
    def server(self) -> Identity:
        """The server's identity, to sign the transcript."""
        return self._driver.identities[SERVER]

    def check(self, cohort: Sequence[PartyId]) -> None:
        """Raise `Refused` if the backend cannot carry a round among `cohort`."""
        self._driver.spec(1, layout=self._layout, encoding=self._encoding, task=digest_of(b""), clients=cohort)

    def round(
        self, number: int, task: bytes, cohort: Sequence[PartyId], update: Update, *, encoding: FixedPoint | None = None
    ) -> Outcome:
        """Run one round among `cohort`: `update(site, task)` trains when the protocol wants that site's vector.

        A site whose `update` gives None vanishes there, without a word.

        `encoding` is that of this round, where it is not the engine's.
        """
        spec = self._driver.spec(
            number, layout=self._layout, encoding=encoding or self._encoding, task=digest_of(task), clients=cohort
        )
        # Every site digests the bytes that it was given, and admits the spec only if it names the same.
        received = {name: digest_of(task) for name in cohort}
        models = {name: model_digest(task) for name in cohort}
        return self._driver.round(spec, lambda name: update(name, task), tasks=received, models=models)
