"""A layer around a sum backend: `dp+secaggplus` is the same backend, with noise where the layer puts it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from secagg import record
from secagg.fixedpoint import Integers
from secagg.guarantees import Guarantees
from secagg.identity import PartyId
from secagg.protocol import Backend, Layer, Party, SecureSum, Send, Session, Traffic
from secagg.spec import RoundSpec


class Layered:
    """`layer` around `inner`; itself a `Backend`."""

    kind: ClassVar[Literal["sum"]] = "sum"

    def __init__(self, layer: Layer, inner: Backend) -> None:
        self.layer = layer
        self.inner = inner
        self.name = f"{layer.name}+{inner.name}"
        self.parameters: Mapping[str, Any] = {**inner.parameters, **layer.parameters}
        self.has_setup = inner.has_setup
        # Refuses a pair that cannot hold, before anything is started.
        self._guarantees = layer.compose(inner.guarantees)

    @property
    def guarantees(self) -> Guarantees:
        return self._guarantees

    def helpers(self) -> Sequence[PartyId]:
        return self.inner.helpers()

    def check(self, spec: RoundSpec) -> None:
        self.inner.check(spec)
        self.layer.check(spec)

    def traffic(self, spec: RoundSpec) -> Traffic:
        return self.inner.traffic(spec)

    def session(self, spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        if spec.phase == "setup":
            return self.inner.session(spec, party, state=state)
        stored: dict[str, Any] = record.decode(state) if state else {"inner": b"", "released": None}
        session = LayeredSession(self.layer, self.inner.session(spec, party, setup=setup, state=stored["inner"]), party)
        session.restore(stored["released"])
        return session


class LayeredSession:
    """The inner session, with the layer's client half before `contribute` and its server half on `result`.

    The server half acts once: its outcome is stored, so that a restored session releases the same sum and
    nobody can average fresh noise away.
    """

    def __init__(self, layer: Layer, inner: Session, party: Party) -> None:
        self.spec = inner.spec
        self.result: SecureSum | None = None
        self._layer = layer
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
        shaped = self._layer.before(vector, encoding)
        return self.contribute_integers(encoding.encode(shaped, weight).integers)

    def contribute_integers(self, integers: Integers) -> Iterable[Send]:
        return self._inner.contribute_integers(self._layer.onto(integers, self.spec.encoding, self._rng))

    def dump(self) -> bytes:
        released = None if self.result is None else self.result.to_fields()
        return record.encode({"inner": self._inner.dump(), "released": released})

    def restore(self, released: list[Any] | None) -> None:
        if released is not None:
            self.result = SecureSum.from_fields(released, self.spec.encoding)

    def _release(self, sends: Iterable[Send]) -> Iterable[Send]:
        if self.result is None and self._inner.result is not None:
            self.result = self._layer.after(self._inner.result, self._rng)
        return sends
