"""How sensitive each coordinate of a model is to the data, and the mask of the most sensitive ones.

The sensitivity of coordinate m is its mean absolute gradient over examples, at the weights w:

    S_m = 1/K * sum_k |d loss(x_k, y_k; w) / d w_m|

FedML-HE (Jin et al. 2023, arXiv 2303.10837) takes the derivative of that gradient by the label. For cross-entropy that
is one gradient for each class, -d log p_c / d w_m, of which ours is the one of the true class. It costs one backward
pass instead of one a class, and asks of the loss nothing but a gradient. Gu et al. 2025 (arXiv 2508.04155) compare such
measures: the magnitude of gradients is good against most attacks, and none is best against all.

The mean over all clients' rows is the row-weighted mean of the clients' own: `private_sensitivity` sums them as any
update is summed, so that nobody sees the map of one client. Or measure on public data.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl_runtime.data.dataset import Rows
from fl_runtime.experiment import Experiment
from fl_runtime.models import build as build_model
from fl_runtime.run import prepare
from fl_runtime.sampling import cohort
from fl_runtime.trainer import Loss, classification_loss
from fl_runtime.update import Tensors
from secagg import record
from secagg.errors import Refused


def sensitivity(
    module: nn.Module, weights: Tensors, batches: Iterable[Rows], *, loss: Loss = classification_loss
) -> dict[str, NDArray[np.float32]]:
    """The sensitivity of every coordinate of `weights`, in their names and shapes; see the module's text.

    Memory: a gradient for each row of a batch, so that batches may be small; how rows are cut changes nothing.
    `module` gives the function only, and is left in evaluation mode.

    Raises:
        Refused: no rows.
    """
    module.eval()
    at = {name: torch.from_numpy(np.array(array, np.float32)) for name, array in weights.items()}

    def loss_of_one(parameters: dict[str, torch.Tensor], features: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return loss(torch.func.functional_call(module, parameters, (features[None],)), label[None])

    gradients = torch.func.vmap(torch.func.grad(loss_of_one), in_dims=(None, 0, 0))
    sums, count = {name: torch.zeros_like(tensor) for name, tensor in at.items()}, 0
    for rows in batches:
        each = gradients(at, torch.from_numpy(rows.features), torch.from_numpy(rows.labels))
        for name, gradient in each.items():
            sums[name] += gradient.abs().sum(dim=0)
        count += len(rows)
    if count == 0:
        raise Refused("sensitivity: no rows to measure on")
    return {name: (total / count).numpy() for name, total in sums.items()}


def private_sensitivity(experiment: Experiment, *, batch_size: int = 64) -> NDArray[np.float32]:
    """The sensitivity of the experiment's first model over its clients' training rows, float32 of shape `(size,)`.

    One round of the experiment's backend sums the clients' own maps, weighted by rows. Values over
    `privacy.value_bound` count as that. What the server learns is the mean, as of any round.

    Raises:
        Refused: the backend shows the server single maps. Otherwise as `fl_runtime.run.prepare`.
    """
    prepared = prepare(experiment)
    if not prepared.composition.guarantees.sum_only:
        raise Refused(
            f"privacy.backend: {experiment.privacy.backend!r} shows the server the map of a single client; "
            "sum them with one that does not, such as ckks or smpc"
        )
    federation, seed = prepared.federation, experiment.experiment.seed
    module = build_model(experiment.model, shape=federation.shape, classes=len(federation.classes), seed=seed)
    rows = {client.name: client.train for client in federation.clients}

    def measure(name: str, task: bytes) -> tuple[NDArray[np.float32], int]:
        own = rows[name]
        batches = (own.take(part) for part in np.split(np.arange(len(own)), range(batch_size, len(own), batch_size)))
        weights = prepared.sites[name].receive(record.decode(task)["weights"], 1)
        vector = prepared.layout.flatten(sensitivity(module, weights, batches))
        return vector, len(own) if prepared.encoding.weighted else 1

    task = record.encode({"measure": "sensitivity", "weights": prepared.layout.flatten(prepared.weights)})
    chosen = cohort(list(rows), experiment.algorithm.clients_per_round, seed=seed, round_number=1)
    return prepared.engine.round(1, task, chosen, measure).result.mean()


def most_sensitive(scores: NDArray[np.float32], fraction: float) -> NDArray[np.bool_]:
    """The mask of the `fraction` of coordinates with the highest scores, one at least; of equal ones the first.

    Raises:
        Refused: a fraction outside (0, 1], or scores that are not finite.
    """
    if not 0 < fraction <= 1:
        raise Refused(f"fraction is {fraction:g}, expected over 0, to 1")
    if not np.isfinite(scores).all():
        raise Refused("scores: a value is not finite")
    mask = np.zeros(scores.size, np.bool_)
    mask[np.argsort(-scores, kind="stable")[: max(1, round(fraction * scores.size))]] = True
    return mask
