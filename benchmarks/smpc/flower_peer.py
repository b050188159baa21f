"""The peer: Flower's own SecAgg+ workflow and client mod, driven in one process on the same vectors as ours.

Its functions run as they are; in place of its network stands a grid that hands each message to the client's mod and the
answer back. Clients that vanish answer the request for the masked vector with an error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.compat.common import recorddict_compat as compat
from flwr.server import LegacyContext, ServerConfig, SimpleClientManager
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from secagg.bench import MAX_WEIGHT, Workload


@dataclass
class FlowerFigures:
    """CPU seconds of each client and of the server, wall seconds of the round, bytes up, the error of the mean."""

    clients: dict[int, float] = field(default_factory=dict)
    server: float = 0.0
    wall: float = 0.0
    upload: int = 0
    error: float = 0.0


@dataclass
class _Proxy:
    """A client as Flower's strategy and workflow know it."""

    node_id: int

    @property
    def cid(self) -> str:
        return str(self.node_id)


class FlowerGrid:
    """Takes the server's messages to the clients' mods and their answers back; a subclass may meddle with both."""

    def __init__(self, workload: Workload, numbers: list[int]) -> None:
        names = workload.names()
        self._workload = workload
        self._names = dict(zip(numbers, names, strict=True))
        self._vanished = set(numbers[len(numbers) - workload.dropouts :])
        self._contexts = {n: Context(0, n, {}, RecordDict(), {}) for n in numbers}
        self.figures = FlowerFigures(clients=dict.fromkeys(numbers, 0.0))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return [answer for message in messages if (answer := self._answer(message)) is not None]

    def vanishes(self, number: int, stage: str) -> bool:
        """Whether a client leaves the request of a stage unanswered."""
        return stage == Stage.COLLECT_MASKED_VECTORS and number in self._vanished

    def alter(self, number: int, configs: ConfigRecord) -> None:
        """What happens to a request on its way to a client."""

    def seen(self, number: int, stage: str, answer: ConfigRecord) -> None:
        """What a client answered."""

    def _answer(self, message: Message) -> Message:
        number = message.metadata.dst_node_id
        # As after its network: a message of one's own.
        own = Message(
            RecordDict(dict(message.content.items())), dst_node_id=number, message_type=message.metadata.message_type
        )
        own.content.config_records[RECORD_KEY_CONFIGS] = ConfigRecord(
            dict(message.content.config_records[RECORD_KEY_CONFIGS])
        )
        stage = str(own.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE])
        self.alter(number, own.content.config_records[RECORD_KEY_CONFIGS])
        if self.vanishes(number, stage):
            return Message(Error(code=1, reason="vanished"), reply_to=own)
        vector, weight = self._workload.contribution(self._names[number], uniform_weights=False)

        def train(_: Message, __: Context) -> Message:
            result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([vector]), weight, {})
            return Message(compat.fitres_to_recorddict(result, keep_input=False), reply_to=own)

        started = time.process_time()
        answer = secaggplus_mod(own, self._contexts[number], train)
        self.figures.clients[number] += time.process_time() - started
        self.seen(number, stage, answer.content.config_records[RECORD_KEY_CONFIGS])
        if stage == Stage.COLLECT_MASKED_VECTORS:
            masked = answer.content.config_records[RECORD_KEY_CONFIGS][Key.MASKED_PARAMETERS]
            self.figures.upload = sum(map(len, masked))
        return answer


def run_flower(
    workload: Workload, *, degree: int, threshold: int, grid_type: type[FlowerGrid] = FlowerGrid
) -> tuple[FlowerFigures, NDArray[np.float64] | None]:
    """One round of SecAgg+ with `degree` neighbours, of which `threshold` shares, one's own included, reconstruct.

    The figures, and the mean; None where the workflow gave up.
    """
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    numbers = list(range(1, workload.clients + 1))
    grid = grid_type(workload, numbers)
    manager = SimpleClientManager()
    for number in numbers:
        manager.register(_Proxy(number))
    start = ndarrays_to_parameters([np.zeros(workload.params, np.float32)])
    strategy = FedAvg(
        fraction_fit=1.0, min_fit_clients=workload.clients, min_available_clients=workload.clients, accept_failures=True
    )
    context = LegacyContext(
        Context(0, 0, {}, RecordDict(), {}), config=ServerConfig(), strategy=strategy, client_manager=manager
    )
    context.state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(start, True)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    workflow = SecAggPlusWorkflow(degree + 1, threshold, max_weight=float(MAX_WEIGHT), clipping_range=1.0)
    wall, cpu = time.perf_counter(), time.process_time()
    workflow(grid, context)  # type: ignore[arg-type]
    figures = grid.figures
    figures.wall = time.perf_counter() - wall
    figures.server = time.process_time() - cpu - sum(figures.clients.values())
    result = context.state.array_records[MAIN_PARAMS_RECORD]
    mean = parameters_to_ndarrays(compat.arrayrecord_to_parameters(result, True))[0]
    if not mean.any():
        return figures, None
    figures.error = float(np.abs(mean - _mean(workload)).max())
    return figures, mean


def _mean(workload: Workload) -> Any:
    total, weights = np.zeros(workload.params), 0
    for name in workload.names()[: workload.clients - workload.dropouts]:
        vector, weight = workload.contribution(name, uniform_weights=False)
        total += vector.astype(np.float64) * weight
        weights += weight
    return total / weights
