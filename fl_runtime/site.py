"""A site: one client's rows and trainer. It reads its work from the task's bytes and gives back one vector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fl_runtime.data.dataset import Client
from fl_runtime.received_model import Inspector
from fl_runtime.seeds import derive
from fl_runtime.task import Task
from fl_runtime.trainer import Trainer
from fl_runtime.update import Tensors
from secagg.errors import InvalidUpdate
from secagg.vectors import Layout


class Site:
    """Trains on its own rows when a round asks for its update.

    Args:
        client: its name and rows, which never leave.
        trainer: may be shared by sites that train one after the other; it holds nothing between calls.
        layout: the order of the model's tensors in a vector.
        seed: of the experiment; batches follow from it, the round and the name.
        inspector: looks at each model before it is trained on; without one every model is.
    """

    def __init__(
        self, client: Client, trainer: Trainer, layout: Layout, *, seed: int, inspector: Inspector | None = None
    ) -> None:
        self.name = client.name
        self._rows = client.train
        self._trainer = trainer
        self._layout = layout
        self._seed = seed
        self._inspector = inspector

    def receive(self, weights: NDArray[np.float32], round_number: int) -> Tensors:
        """The received model's tensors, once the site has looked at them: of flat weights, float32.

        Raises:
            InvalidUpdate: not the model's size, or not finite. Aborted: the site refuses the model.
        """
        try:
            tensors = self._layout.unflatten(weights)
        except InvalidUpdate as error:
            raise InvalidUpdate(f"the received model: {error}") from None
        if self._inspector is not None:
            self._inspector.inspect(tensors, round_number)
        return tensors

    def capped_update(self, body: bytes, cap: int) -> NDArray[np.float32]:
        """The update times its capped weight, min(rows, cap) / cap: what is clipped as a whole where weights must be 1.

        With a cap of 1 all clients weigh alike. Raises as `update` does.
        """
        vector, rows = self.update(body)
        return vector * np.float32(min(rows, cap) / cap)

    def update(self, body: bytes) -> tuple[NDArray[np.float32], int]:
        """The update for a task, flat float32, and its weight, the rows.

        Raises:
            InvalidUpdate: training diverged; the tensor that is not finite is named.
            Aborted: the site refuses the model, and has computed nothing from it that leaves.
        """
        task = Task.from_bytes(body)
        local = self._trainer.train(
            self.receive(task.weights, task.round),
            self._rows,
            training=task.training,
            algorithm=task.algorithm,
            seed=derive(self._seed, "train", task.round, self.name),
            owner=self.name,
        )
        try:
            vector = self._layout.flatten(dict(task.algorithm.message(local)))
        except InvalidUpdate as error:
            raise InvalidUpdate(f"{error}; training diverged, try a lower training.lr") from None
        return vector, local.rows
