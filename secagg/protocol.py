"""The one interface: backends, sessions, layers. Cryptographic protocol code is written against this, without I/O.

Every role of a protocol - client, server, key holder, aggregator - is a `Session`: a state machine, bytes in,
bytes out. The same objects run in the in-memory driver, under tests that drop, replay or corrupt messages,
and on a distributed engine. Clocks, sockets and retries belong to the engine; a session is *told* who stayed
silent.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from secagg.errors import Aborted
from secagg.fixedpoint import FixedPoint, Integers
from secagg.guarantees import Guarantees
from secagg.identity import SERVER, Directory, Identity, PartyId
from secagg.sealing import Rng
from secagg.settings import Settings
from secagg.spec import RoundSpec
from secagg.vectors import Layout

__all__ = [
    "SERVER", "Backend", "Layer", "Party", "PartyId", "Rng", "SecureSum", "Send", "Session", "Traffic", "Training"
]  # fmt: skip


@dataclass(frozen=True)
class Send:
    """A frame for somebody. The engine carries it there, through the server where it must."""

    to: PartyId
    frame: bytes = field(repr=False)


@dataclass(frozen=True)
class Party:
    """The party a session acts for: its name, its keys, whom it knows, and its source of randomness."""

    name: PartyId
    identity: Identity
    directory: Directory
    rng: Rng = secrets.token_bytes


@dataclass(frozen=True)
class SecureSum:
    """The result of a round: the integer sum over the clients that contributed.

    Attributes:
        totals: shape `(size,)`, signed, exactly the sum of the encodings unless the backend says otherwise.
        weight: the sum of the weights, or the public divisor.
        contributors: whose updates are in the sum.
    """

    totals: Integers = field(repr=False)
    weight: int
    contributors: tuple[PartyId, ...]
    encoding: FixedPoint

    @classmethod
    def of(cls, integers: Integers, contributors: Iterable[PartyId], encoding: FixedPoint) -> SecureSum:
        """Split a revealed vector of `encoding.length(size)` coordinates into totals and weight."""
        if encoding.divisor is not None:
            return cls(integers, encoding.divisor, tuple(contributors), encoding)
        return cls(integers[:-1], int(integers[-1]), tuple(contributors), encoding)

    def mean(self) -> NDArray[np.float32]:
        """The weighted mean, float32 of shape `(size,)`. Raises `Aborted` when the total weight is zero (T18)."""
        if self.weight == 0:
            raise Aborted("the total weight of all contributions is zero: there is no mean")
        if not 0 < self.weight <= self.encoding.clients * self.encoding.max_weight:
            raise Aborted(f"the total weight is {self.weight}: some client sent no weight that it may have")
        return (self.encoding.to_floats(self.totals) / self.weight).astype(np.float32)

    def with_totals(self, totals: Integers) -> SecureSum:
        """The same sum after a layer has changed its totals."""
        return replace(self, totals=totals)

    def to_fields(self) -> list[Any]:
        """Record fields, for a session's `dump`."""
        return [self.totals, self.weight, list(self.contributors)]

    @classmethod
    def from_fields(cls, fields: list[Any], encoding: FixedPoint) -> SecureSum:
        totals, weight, contributors = fields
        return cls(totals, weight, tuple(contributors), encoding)


@dataclass(frozen=True)
class Traffic:
    """Body and header bytes of one round, for `secagg plan`; `secagg bench` measures the same figures."""

    client_upload: int
    client_download: int
    holder_download: int = 0
    helpers: int = 0
    server_memory: int = 0


class Session(Protocol):
    """One party's part in one round (or set-up). `Rejected` names a bad sender and leaves the session as it was."""

    spec: RoundSpec

    @property
    def ready(self) -> bool:
        """A client: whether the protocol has come to the point where `contribute` is due."""

    @property
    def waiting(self) -> frozenset[PartyId]:
        """Whose messages this party still expects in the present step."""

    @property
    def result(self) -> SecureSum | None:
        """The sum, at the parties that learn it."""

    @property
    def agreed(self) -> bytes:
        """After set-up: 32 bytes that all parties must hold alike, bound into every later round's spec."""

    @property
    def evidence(self) -> Mapping[PartyId, bytes]:
        """At the server: the signed header of each contribution, for the transcript."""

    def start(self) -> Iterable[Send]:
        """The first messages of this party."""

    def receive(self, sender: PartyId, frame: bytes | memoryview) -> Iterable[Send]:
        """Take a message. Work is done before this returns; iterating yields the answers one by one.

        Raises:
            Rejected: the message is not acceptable; nothing changed, the round goes on.
            Aborted: this party leaves the round.
        """

    def contribute(self, vector: NDArray[np.float32], weight: int = 1) -> Iterable[Send]:
        """A client's update: float32 `(size,)`. Raises `InvalidUpdate` before anything is sent."""

    def contribute_integers(self, integers: Integers) -> Iterable[Send]:
        """The same, already encoded under `spec.encoding`: what a `Layer` calls after adding its noise.

        The array is taken over: it may be overwritten.
        """

    def close(self, absent: Collection[PartyId]) -> Iterable[Send]:
        """The present step is over; `absent` are all those whom this party still waits for."""

    def flushed(self) -> None:
        """Everything that this session has sent so far has left: it need not be kept for a restart any more."""

    def dump(self) -> bytes:
        """The whole state, to be stored *before* the sends of the last call leave.

        After a restart, `start` sends again whatever was not `flushed`. A state is restored once: two sessions from
        one state could protect two vectors with one mask.
        """


@runtime_checkable
class Backend(Protocol):
    """A way to compute a sum of bounded integers. `session` also restores one from `Session.dump`.

    `sum_bits` is how many bits a sum may have with its sign, None where it may fill the ring of the encoding.
    """

    kind: ClassVar[Literal["sum"]]
    name: str
    parameters: Mapping[str, Any]
    has_setup: bool
    sum_bits: int | None

    @property
    def guarantees(self) -> Guarantees: ...

    def helpers(self) -> Sequence[PartyId]:
        """The parties this backend needs beside the server and the clients."""

    def check(self, spec: RoundSpec) -> None:
        """Raise `Refused` if this backend cannot carry `spec` (ring too wide, too few clients, ...)."""

    def traffic(self, spec: RoundSpec) -> Traffic:
        """What a round of `spec` costs on the wire, all clients present."""

    def session(self, spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
        """Start `party`'s session, or restore it from the `state` that `dump` gave. `setup` is its set-up dump."""


class Layer(Protocol):
    """Something wrapped around a sum (clipping, noise). It knows no cryptosystem."""

    kind: ClassVar[Literal["layer"]]
    name: str
    parameters: Mapping[str, Any]

    def around(self, inner: Guarantees) -> Layer:
        """This layer as it is around `inner`: with what a parameter means there that was left out. It may be `self`."""

    def check(self, spec: RoundSpec) -> None:
        """Raise `Refused` if the layer cannot keep its promise under `spec`."""

    def encoding(self, value_bound: float, *, clients: int, size: int) -> Mapping[str, Any]:
        """What the layer asks of the encoding of `size` coordinates, as arguments of `FixedPoint.fit`; may be empty.

        `value_bound` is the bound that the update itself asks for.
        """

    def extend(self, layout: Layout) -> Layout:
        """What travels for a model of this layout: the same, or with tensors of the layer's own behind the model's.

        A client's vector has zeros in their place, and the layer fills them in.
        """

    def before(self, vector: NDArray[np.float32], encoding: FixedPoint) -> NDArray[np.float32]:
        """At the client, on the floats, before encoding."""

    def onto(self, integers: Integers, encoding: FixedPoint, rng: Rng) -> Integers:
        """At the client, on the encoded integers, before protection."""

    def after(self, total: SecureSum, rng: Rng) -> SecureSum:
        """Where the sum is revealed, before anybody else sees it."""

    def compose(self, inner: Guarantees) -> Guarantees:
        """The guarantees of this layer around `inner`. Raises `Refused` for a pair that cannot hold."""

    def spent(self, rounds: int, *, clients: int | None = None) -> Mapping[str, Any] | None:
        """The privacy spent after so many rounds (unit, epsilon, delta, warnings, ...), or None where none is claimed.

        `clients` is the population that delta is held against, if known.
        """


class Steps(Protocol):
    """Private local training under way: iterate for batches, give each to `step`; a context that cleans up."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Batches of inputs and targets, drawn as the accountant assumes; some may be empty."""

    def step(self, inputs: Any, targets: Any, *, correct: Callable[[], None] = ...) -> Any:
        """One optimiser step. `correct` may add to each `.grad`, from weights alone. Returns each sample's loss."""


class Training(Protocol):
    """Something that acts where the client trains (DP-SGD)."""

    kind: ClassVar[Literal["training"]]
    name: str
    parameters: Mapping[str, Any]

    def prepare(self, model: Any) -> Any:
        """The model to train: itself, or a converted copy. Raises `Refused` for one that cannot be trained so."""

    def loader(self, dataset: Any, *, batch_size: int, steps: int) -> Any:
        """The loader that `wrap` takes: `steps` batches of `batch_size` samples on average."""

    def charge(self, *, rows: int, batch_size: int, steps: int, owner: str = "") -> Mapping[str, Any]:
        """What so many steps will cost each of `owner`'s samples: `noise_multiplier`, `steps` and `sampling_rate`.

        For ledgers, which are paid before anything depends on the samples.
        """

    def planned(self, *, rows: int, batch_size: int, steps: int) -> Mapping[str, Any]:
        """What `spent` will say of a client with so many rows after all rounds, of so many steps each."""

    def wrap(self, model: Any, optimizer: Any, loader: Any, criterion: Any, *, owner: str = "") -> Steps:
        """Train `model` on the samples of `owner`; `criterion` gives one loss a sample."""

    def spent(self) -> Mapping[str, Any]:
        """The privacy spent so far: unit, adjacency, epsilon, delta, ..."""

    def compose(self, inner: Guarantees) -> Guarantees: ...


class Component(Protocol):
    """What an entry point in the group `secagg.backends` names: a class that is made from its parameters."""

    kind: ClassVar[str]
    Parameters: ClassVar[type[Settings]]

    def __call__(self, parameters: Settings) -> Backend | Layer | Training: ...
