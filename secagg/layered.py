"""Layers around a sum backend: `dp+secaggplus` is the same backend, with noise where the layer puts it.

The client halves run in the order of the name, the server halves in reverse.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from secagg import record
from secagg.errors import Refused
from secagg.fixedpoint import FixedPoint, Integers
from secagg.guarantees import Guarantees
from secagg.identity import PartyId
from secagg.protocol import Backend, Layer, Party, SecureSum, Send, Session, Traffic
from secagg.spec import RoundSpec


class Layered:
    """`layers` (the outermost first) around `inner`; itself a `Backend`."""

    kind: ClassVar[Literal["sum"]] = "sum"

    def __init__(self, layers: Sequence[Layer], inner: Backend) -> None:
        self.inner = inner
        self.name = "+".join([*(layer.name for layer in layers), inner.name])
        self.has_setup = inner.has_setup
        self.sum_bits = inner.sum_bits
        self.parameters: Mapping[str, Any] = dict(inner.parameters)
        # Composed at once: a pair that cannot hold is refused before anything is started.
        self._guarantees = inner.guarantees
        settled: list[Layer] = []
        for given in reversed(layers):
            layer = given.around(self._guarantees)
            self.parameters = {**self.parameters, **layer.parameters}
            self._guarantees = layer.compose(self._guarantees)
            settled.insert(0, layer)
        self.layers = tuple(settled)

    @property
    def guarantees(self) -> Guarantees:
        return self._guarantees

    def helpers(self) -> Sequence[PartyId]:
        return self.inner.helpers()

    def check(self, spec: RoundSpec) -> None:
        self.inner.check(spec)
        for layer in self.layers:
            layer.check(spec)

    def traffic(self, spec: RoundSpec) -> Traffic:
        return self.inner.traffic(spec)

    def session(self, spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        if spec.phase == "setup":
            return self.inner.session(spec, party, state=state)
        try:
            stored: dict[str, Any] = record.decode(state) if state else {"inner": b"", "released": None}
            if set(stored) != {"inner", "released"}:
                raise record.Malformed("not the state of a layered session")
        except record.Malformed as error:
            raise Refused(f"stored session: {error}") from None
        session = LayeredSession(
            self.layers, self.inner.session(spec, party, setup=setup, state=stored["inner"]), party
        )
        session.take_released(stored["released"])
        return session


def fit_encoding(backend: Backend, *, clients: int, value_bound: float, size: int, **fields: Any) -> FixedPoint:
    """The finest encoding of `size` coordinates for `backend`: within its sums, and as its layers ask for.

    `fields` are further arguments of `FixedPoint.fit`. Raises `Refused` as that does.
    """
    asked: dict[str, Any] = {"value_bound": value_bound}
    for layer in backend.layers if isinstance(backend, Layered) else ():
        asked |= layer.encoding(asked["value_bound"], clients=clients, size=size)
    return FixedPoint.fit(clients=clients, sum_bits=backend.sum_bits, **fields, **asked)


class LayeredSession:
    """The inner session, with the layers' client halves before `contribute` and their server halves on `result`.

    The server halves act once: the outcome is part of the stored state, so that a session restored after the
    release gives the same sum again. (One restored from before it draws fresh noise: the server is trusted here.)
    """

    def __init__(self, layers: Sequence[Layer], inner: Session, party: Party) -> None:
        self.spec = inner.spec
        self.result: SecureSum | None = None
        self._layers = layers
        self._inner = inner
        self._rng = party.rng

    @property
    def ready(self) -> bool:
        return self._inner.ready

    @property
    def waiting(self) -> frozenset[PartyId]:
        return self._inner.waiting

    @property
    def agreed(self) -> bytes:
        return self._inner.agreed

    @property
    def evidence(self) -> Mapping[PartyId, bytes]:
        return self._inner.evidence

    def start(self) -> Iterable[Send]:
        return self._release(self._inner.start())

    def receive(self, sender: PartyId, frame: bytes | memoryview) -> Iterable[Send]:
        return self._release(self._inner.receive(sender, frame))

    def close(self, absent: Collection[PartyId]) -> Iterable[Send]:
        return self._release(self._inner.close(absent))

    def contribute(self, vector: NDArray[np.float32], weight: int = 1) -> Iterable[Send]:
        encoding = self.spec.encoding
        self.spec.layout.check(vector)
        encoding.check_weight(weight)
        for layer in self._layers:
            vector = layer.before(vector, encoding)
        return self.contribute_integers(encoding.encode(vector, weight, rng=self._rng).integers)

    def contribute_integers(self, integers: Integers) -> Iterable[Send]:
        for layer in self._layers:
            integers = layer.onto(integers, self.spec.encoding, self._rng)
        return self._inner.contribute_integers(integers)

    def flushed(self) -> None:
        self._inner.flushed()

    def dump(self) -> bytes:
        released = None if self.result is None else self.result.to_fields()
        return record.encode({"inner": self._inner.dump(), "released": released})

    def take_released(self, released: list[Any] | None) -> None:
        """The sum as it was released before a restart, if it was."""
        if released is not None:
            self.result = SecureSum.from_fields(released, self.spec.encoding)

    def _release(self, sends: Iterable[Send]) -> Iterable[Send]:
        if self.result is None and self._inner.result is not None:
            total = self._inner.result
            for layer in reversed(self._layers):
                total = layer.after(total, self._rng)
            self.result = total
        return sends
