"""The model in the state in which a cell attacks it: stage of training, and mode of its BatchNorm layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fl_runtime.evaluation.attempts.training import attacked_model, load_weights
from fl_runtime.evaluation.matrix.cells import Cell
from fl_runtime.evaluation.matrix.world import dataset

PUBLIC_ROWS = 256


def checkpoint(cell: Cell, trained: dict[str, Any]) -> nn.Module:
    """The attacked model of a cell, given the result of its training job.

    With `statistics = "running"` the BatchNorm layers use statistics of public rows, in eval mode; otherwise those of
    the batch at hand, in train mode.
    """
    data = dataset(cell.world)
    module = attacked_model(cell.world, cell.defence, repeat=cell.repeat, shape=data.shape, classes=len(data.classes))
    load_weights(module, trained["weights"][cell.setting.stage])
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    if cell.setting.statistics != "running":
        return module.train()
    with torch.no_grad():
        for layer in norms:
            layer.track_running_stats, layer.momentum = True, None
            layer.register_buffer("running_mean", torch.zeros(layer.num_features))
            layer.register_buffer("running_var", torch.ones(layer.num_features))
            layer.register_buffer("num_batches_tracked", torch.tensor(0))
        module.train()(torch.from_numpy(data.test.features[:PUBLIC_ROWS]))
    return module.eval()
