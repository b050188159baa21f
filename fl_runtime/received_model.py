"""What a client does about a model that looks made to spy on its rows: it warns, or leaves the round.

The look is `secagg.leakage.detection`: at the weights, at how units answer to rows of the client's own, and at what is
left of the last model that the client trained on. It sees known attacks and is no guarantee.

A server sees who leaves. Where that depends on rows it learns one bit of them a round, which no epsilon covers: an
`Inspector` that refuses under differential privacy is given no rows (`own_rows=False`) and goes by the weights alone.
"""

from __future__ import annotations

import warnings

import torch

from fl_runtime.data.dataset import Client
from fl_runtime.seeds import generator
from fl_runtime.trainer import Trainer
from fl_runtime.update import Tensors
from secagg.errors import Aborted

INSPECTED_ROWS = 64


class SuspiciousModel(UserWarning):
    """A client was sent a model that looks made to spy on its rows."""


class Inspector:
    """Looks at each model that one client receives, before it trains. Holds the last model that was let pass.

    Args:
        client: whose name and rows these are.
        trainer: of the model; may be shared.
        refuse: leave the round, instead of a warning.
        own_rows: look at how units answer to rows of the client, as far as it has enough.
        seed: of the experiment; which rows follows from it, the round and the name.
    """

    def __init__(self, client: Client, trainer: Trainer, *, refuse: bool, own_rows: bool, seed: int) -> None:
        self._client, self._trainer, self._seed = client, trainer, seed
        self._refuse, self._own_rows = refuse, own_rows
        self._passed: Tensors | None = None
        self._said: set[tuple[str, str]] = set()

    def inspect(self, weights: Tensors, round_number: int) -> None:
        """Look at the model of a round. Warns of `SuspiciousModel`, once for each layer and kind of finding.

        Raises:
            Aborted: something was noticed, and this client refuses. The layers and what they show are named.
        """
        from secagg.leakage.detection import compare, inspect

        model = self._trainer.model(weights)
        findings = inspect(model, self._sample(round_number))
        if self._passed is not None:
            findings += compare(self._trainer.model(self._passed), model)
        noticed = f"the model of round {round_number} looks made to spy on this client's rows: "
        if findings and self._refuse:
            raise Aborted(noticed + ", ".join(f"layer {finding}" for finding in findings))
        # Not before here: a model that was refused must not vouch for the next one.
        self._passed = weights
        new = [finding for finding in findings if (finding.layer, finding.kind) not in self._said]
        if new:
            self._said |= {(finding.layer, finding.kind) for finding in new}
            text = ", ".join(f"layer {finding}" for finding in new)
            warnings.warn(f"{self._client.name}: {noticed}{text}", SuspiciousModel, stacklevel=2)

    def _sample(self, round_number: int) -> torch.Tensor | None:
        from secagg.leakage.detection import MIN_INPUTS

        rows = self._client.train
        if not self._own_rows or len(rows) < MIN_INPUTS:
            return None
        chance = generator(self._seed, "inspect", round_number, self._client.name)
        return torch.from_numpy(rows.features[chance.permutation(len(rows))[:INSPECTED_ROWS]])
