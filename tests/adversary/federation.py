"""A small federation of one backend under attack: real sessions and keys, and a wire that a test controls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he.key_setup import HOLDER
from he.rounds import UPLOAD
from secagg.driver import Driver, Letter, Outcome, deliver
from secagg.fixedpoint import FixedPoint
from secagg.frames import HEADER_BYTES, Header, split
from secagg.identity import SERVER, PartyId
from secagg.protocol import Party, Session
from secagg.registry import build
from secagg.sealing import NONCE_BYTES, Channel, seal, unseal
from secagg.spec import RoundSpec, task_digest
from secagg.vectors import Layout

BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("plain", {}),
    "smpc": ("smpc", {}),
    "smpc of two": ("smpc", {"aggregators": 2}),
    "smpc 2 of 3": ("smpc", {"aggregators": 3, "threshold": 2}),
    "smpc 3 of 5": ("smpc", {"aggregators": 5, "threshold": 3}),
    "secaggplus": ("secaggplus", {}),
    "secaggplus passive": ("secaggplus", {"threat": "passive"}),
    "ckks": ("ckks", {}),
    "ckks verified": ("ckks", {"verified": True}),
    "ckks shared key": ("ckks", {"key_mode": "shared", "acknowledge_shared_key": True}),
    "bfv": ("bfv", {}),
    "bfv verified": ("bfv", {"verified": True}),
    "bfv shared key": ("bfv", {"key_mode": "shared", "acknowledge_shared_key": True}),
    "selective": ("selective", {"fraction": 0.1}),
    "selective shared key": (
        "selective",
        {"scheme": "bfv", "fraction": 0.5, "key_mode": "shared", "acknowledge_shared_key": True},
    ),
    "dp": ("dp", {"noise_multiplier": 2.0**-38}),
}
TASK = task_digest(b"model", b"settings")


class Federation:
    """Five clients, an uneven vector length, distinct vectors and weights."""

    def __init__(self, name: str, *, clients: int = 5, size: int = 257, **parameters: Any) -> None:
        backend, given = BACKENDS[name]
        self.backend = build(backend, given | parameters).backend
        self.uniform = self.backend.guarantees.uniform_weights
        self.names = [f"site-{number}" for number in range(clients)]
        generator = np.random.default_rng(7)
        # Small enough that no client is clipped under `dp` (L2 norm below 1).
        self.vectors = {n: generator.uniform(-0.05, 0.05, size).astype(np.float32) for n in self.names}
        self.weights = {n: 1 if self.uniform else place % 20 + 1 for place, n in enumerate(self.names)}
        self.layout = Layout.flat(size)
        self.encoding = FixedPoint.fit(
            clients=clients,
            value_bound=1.0,
            max_weight=1 if self.uniform else 20,
            divisor=clients if self.uniform else None,
            # The noise of `dp` has at least 1024 steps: in this ring they are too fine to be seen.
            modulus_bits=64 if self.uniform else 32,
            sum_bits=self.backend.sum_bits,
        )
        self.wire: Callable[[Letter], Iterable[Letter]] = deliver
        self.driver = Driver(self.backend, self.names, intercept=self._on_the_wire)
        self.driver.set_up(layout=self.layout, encoding=self.encoding)
        self.absent: set[PartyId] = set()

    def _on_the_wire(self, letter: Letter) -> Iterable[Letter]:
        return self.wire(letter)

    def spec(self, number: int = 1, **changes: Any) -> RoundSpec:
        fields = {"layout": self.layout, "encoding": self.encoding, "task": TASK} | changes
        return self.driver.spec(number, **fields)

    def round(self, number: int = 1, spec: RoundSpec | None = None) -> Outcome:
        return self.driver.round(spec or self.spec(number), self.contribution)

    def contribution(self, name: PartyId) -> tuple[NDArray[np.float32], int] | None:
        return None if name in self.absent else (self.vectors[name], self.weights[name])

    def mean(self, names: Iterable[PartyId]) -> NDArray[np.float64]:
        """What the round must reveal for these contributors, by float64 NumPy."""
        names = list(names)
        total = sum(self.vectors[name].astype(np.float64) * self.weights[name] for name in names)
        return total / (self.encoding.divisor or sum(self.weights[name] for name in names))

    def check(self, outcome: Outcome, names: Iterable[PartyId] | None = None) -> None:
        """The outcome must be the exact sum of exactly these clients."""
        names = sorted(self.names if names is None else names)
        assert list(outcome.result.contributors) == names
        # Half a step of the grid per client, and the rounding of the mean to float32.
        weight = self.encoding.divisor or sum(self.weights[name] for name in names)
        step = len(names) / (2 * weight * self.encoding.scale)
        np.testing.assert_allclose(outcome.result.mean(), self.mean(names), rtol=1e-6, atol=step + 2e-8 * len(names))

    def keep_sessions(self) -> Mapping[PartyId, Session]:
        """The sessions of the rounds to come, by party, for a test to talk to after the round."""
        kept: dict[PartyId, Session] = {}
        make = self.backend.session

        def keep(spec: RoundSpec, party: Party, *, setup: bytes = b"", state: bytes = b"") -> Session:
            kept[party.name] = make(spec, party, setup=setup, state=state)
            return kept[party.name]

        self.backend.session = keep  # type: ignore[method-assign]
        return kept

    def forge(self, sender: PartyId, to: PartyId, spec: RoundSpec, step: int, body: bytes) -> bytes:
        """A frame with any body, properly tagged and signed by `sender`: what a malicious insider can send."""
        identity, peer = self.driver.identities[sender], self.driver.identities[to].public
        nonce = bytes(range(NONCE_BYTES))
        tag = Channel(identity, peer, spec.digest).tag(nonce, body)
        header = Header(
            step=step, part=0, length=len(body), spec=spec.digest, nonce=nonce, tag=tag,
            sender=identity.public.fingerprint, recipient=peer.fingerprint,
        )  # fmt: skip
        return header.sign_with(identity.sign(header.signed_bytes())).to_bytes() + body

    def seal_upload(self, sender: PartyId, spec: RoundSpec, ciphertexts: bytes) -> bytes:
        """For a holder that adds: a frame with any ciphertexts, as `sender` itself would seal and sign it."""
        sealed = seal(ciphertexts, self.driver.identities[HOLDER].public.agreement, context=self._bound(sender, spec))
        return self.forge(sender, HOLDER, spec, UPLOAD, sealed)

    def open_upload(self, sender: PartyId, spec: RoundSpec, frame: bytes | memoryview) -> bytes:
        """The ciphertexts in such a frame, with the holder's own key."""
        key = self.driver.identities[HOLDER].agreement_key
        return unseal(frame[HEADER_BYTES:], key, context=self._bound(sender, spec))

    def _bound(self, sender: PartyId, spec: RoundSpec) -> bytes:
        return spec.digest + self.driver.identities[sender].public.fingerprint


def is_vector(letter: Letter) -> bool:
    """Whether a letter carries a client's protected vector to whoever adds: the server, or in `verified` the holder."""
    return letter.kind == "frame" and letter.to in (SERVER, HOLDER) and letter.sender.startswith("site-")


def step_of(letter: Letter) -> int:
    return split(letter.frame)[0].step
