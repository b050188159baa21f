"""Running an experiment: rounds of local training through a backend, and the directory that they leave behind.

experiment.toml    the settings, resolved: `secagg train` takes it again
metrics.jsonl      one line a round: scores over all and for each client, bytes, seconds
datasheet.json/md  the privacy data sheet
model.npz          the final weights
curve.svg          accuracy and loss over the rounds
directory.json, transcript.jsonl    see `secagg.rundir`
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dp.layer import ClientLevel
from fl_runtime.audits import audit_run, check_audit
from fl_runtime.data.catalogue import load as load_dataset
from fl_runtime.data.dataset import Client, Federation
from fl_runtime.data.federation import federate
from fl_runtime.engines.local import LocalEngine
from fl_runtime.experiment import Experiment
from fl_runtime.journal import Journal, NoJournal, Recorder
from fl_runtime.ledgers import Ledgers, open_ledgers
from fl_runtime.metrics import Evaluation, evaluate
from fl_runtime.received_model import Inspector
from fl_runtime.sampling import cohort, vanishing
from fl_runtime.site import Site
from fl_runtime.task import Task
from secagg.admission import Policy
from secagg.driver import Outcome
from secagg.errors import Refused
from secagg.fixedpoint import FixedPoint
from secagg.identity import Identity
from secagg.layered import fit_encoding
from secagg.protocol import Rng, SecureSum
from secagg.registry import Composition, build, for_rounds
from secagg.vectors import Layout

if TYPE_CHECKING:
    from torch import nn

    from fl_runtime.trainer import Trainer


@dataclass(frozen=True)
class RunSummary:
    """What a finished run says of itself.

    Attributes:
        evaluations: before the first round, and after each.
        upload_bytes, download_bytes: of one client in one round (medians); the task, model included, counts.
        protocol_s, seconds: of all rounds together, without and with training and evaluation.
        spent: the privacy spent, or None where none is claimed.
        saturated: values beyond `value_bound`, which were clipped to it.
    """

    backend: str
    evaluations: list[Evaluation]
    upload_bytes: float
    download_bytes: float
    protocol_s: float
    seconds: float
    spent: Mapping[str, Any] | None
    server_saw: tuple[str, ...]
    saturated: int

    @property
    def final(self) -> Evaluation:
        return self.evaluations[-1]


def run_experiment(
    experiment: Experiment,
    *,
    output: Path | None = None,
    server: Identity | None = None,
    progress: Callable[[], object] = lambda: None,
) -> RunSummary:
    """Run all rounds; `progress` is called after each. With `output`, leave a run directory there.

    `server` is the identity that signs the record of the run; a fresh one is drawn by default.

    Raises:
        Refused: the settings do not fit together, or `output` exists. Nothing was written.
        InvalidUpdate: a client's training diverged. Aborted: a round could not be finished. The directory then
            holds the rounds before, sealed, and says why it ends.
    """
    prepared = prepare(experiment, server=server)
    started = time.perf_counter()
    rounds = Rounds(prepared)
    journal: Recorder = NoJournal()
    if output is not None:
        journal = Journal(output, experiment, prepared.composition, prepared.engine, prepared.weights, prepared.ledgers)
    with journal:
        evaluations = [rounds.evaluate()]
        journal.scored(0, evaluations[0])
        for number in range(1, experiment.experiment.rounds + 1):
            outcome = rounds.run_one(number)
            journal.round(outcome, rounds.weights)
            evaluations.append(rounds.evaluate())
            journal.scored(number, evaluations[-1])
            progress()
        summary = _summary(prepared, rounds, evaluations, time.perf_counter() - started)
        if output is not None and experiment.privacy.audit_canaries is not None and summary.spent is not None:
            journal.audited(audit_run(experiment, prepared.composition, summary.spent))
    return summary


def load_federation(experiment: Experiment) -> Federation:
    """The experiment's data, dealt to its clients."""
    data, seed = experiment.data, experiment.experiment.seed
    dataset = load_dataset(data.dataset, experiment.data_path, limit=data.limit, seed=seed)
    return federate(dataset, data.partition, clients=data.count, seed=seed, arguments=data.arguments)


def build_backend(experiment: Experiment) -> Composition:
    """The experiment's backend. It must be able to carry what the algorithm needs."""
    privacy, rounds = experiment.privacy, experiment.experiment.rounds
    parameters = for_rounds(privacy.backend, privacy.parameters, rounds)
    composition = build(privacy.backend, parameters)
    if composition.backend.parameters.get("survivors") is not None and "survivors" not in parameters:
        # No sum of fewer is ever revealed, so no fewer shares of noise need to be enough.
        composition = build(privacy.backend, {**parameters, "survivors": privacy.minimum_cohort})
    if (budget := composition.backend.parameters.get("query_budget", rounds)) < rounds:
        raise Refused(f"privacy.query_budget: got {budget}, the experiment has {rounds} rounds; leave it out")
    if (fraction := composition.backend.parameters.get("fraction", 1)) != 1:
        raise Refused(
            f"privacy.fraction: got {fraction:g}; evenly spread coordinates are for bench and plan, they protect by "
            "chance; say what is encrypted: privacy.layers, privacy.mask or privacy.mask_file"
        )
    # What a training component spends, it says when it has trained.
    spent = composition.spent(rounds) if composition.training is None else None
    if spent is not None and spent["sampling_rate"] != 1:
        raise Refused(
            f"privacy.sampling_rate: got {spent['sampling_rate']:g}, expected 1: cohorts here are no secret Poisson "
            "sample, so a run claims no amplification (other rates are for secagg plan)"
        )
    if composition.guarantees.sum_only and not experiment.algorithm.sum_only:
        raise Refused(
            f"algorithm {experiment.algorithm.name!r} needs single updates, and backend {privacy.backend!r} "
            "reveals sums only"
        )
    return composition


def make_encoding(experiment: Experiment, federation: Federation, composition: Composition, *, size: int) -> FixedPoint:
    """The encoding of every round: secret weights up to the largest client, or uniform ones and a public divisor."""
    privacy = experiment.privacy
    clients = experiment.algorithm.clients_per_round or len(federation.clients)
    bound = privacy.value_bound
    if not composition.guarantees.uniform_weights:
        if privacy.weight_cap is not None:
            raise Refused(f"privacy.weight_cap: {privacy.backend!r} keeps weights secret; max_weight limits them")
        # A power of two: the spec is public, and the size of the largest client is not.
        rows = max(len(client.train) for client in federation.clients)
        largest = privacy.max_weight or 1 << (rows - 1).bit_length()
        if rows > largest:
            raise Refused(f"privacy.max_weight: {largest}, and the largest client has {rows} rows; leave it out")
        return fit_encoding(
            composition.backend,
            clients=clients,
            value_bound=bound,
            size=size,
            max_weight=largest,
            modulus_bits=privacy.modulus_bits,
            rounding=privacy.rounding,
        )
    if privacy.max_weight not in (None, 1):
        raise Refused(f"privacy.max_weight: {privacy.backend!r} weighs all clients alike; weight_cap would cap rows")
    if composition.backend.parameters.get("clipping") == "adaptive" and "value_bound" in privacy.model_fields_set:
        raise Refused("privacy.value_bound: under adaptive clipping it is the clip bound of each round; leave it out")
    if "value_bound" not in privacy.model_fields_set:
        # No coordinate of a clipped update is larger than its norm.
        bound = float(composition.backend.parameters.get("clip_l2", bound))
    return fit_encoding(
        composition.backend,
        clients=clients,
        value_bound=bound,
        size=size,
        modulus_bits=privacy.modulus_bits,
        divisor=clients,
        rounding=privacy.rounding,
    )


def next_encoding(composition: Composition, released: SecureSum) -> FixedPoint:
    """The encoding of the next round, proved anew if adaptive clipping moves the bound."""
    encoding = released.encoding
    clips = [layer.next_clip(released) for layer in composition.layers if isinstance(layer, ClientLevel)]
    if not clips or clips[0] is None:
        return encoding
    return fit_encoding(
        composition.backend,
        clients=encoding.clients,
        value_bound=clips[0],
        size=released.totals.size,
        modulus_bits=encoding.modulus_bits,
        divisor=encoding.divisor,
        rounding=encoding.rounding,
    )


def make_inspector(
    experiment: Experiment, composition: Composition, trainer: Trainer, client: Client
) -> Inspector | None:
    """What looks at the models that `client` receives, if the experiment says so."""
    answer = experiment.privacy.received_model
    if answer == "trust":
        return None
    refuse = answer == "refuse"
    # Under a claim, whether a client leaves must not depend on its rows.
    own_rows = not refuse or composition.spent(1) is None
    return Inspector(client, trainer, refuse=refuse, own_rows=own_rows, seed=experiment.experiment.seed)


@dataclass(frozen=True)
class Prepared:
    """Everything that can be refused has been: what is left is to run the rounds."""

    experiment: Experiment
    federation: Federation
    composition: Composition
    engine: LocalEngine
    trainer: Trainer
    layout: Layout
    encoding: FixedPoint
    sites: Mapping[str, Site]
    ledgers: Ledgers | None
    weights: dict[str, NDArray[np.float32]]


def prepare(
    experiment: Experiment,
    *,
    server: Identity | None = None,
    federation: Federation | None = None,
    change: Callable[[nn.Module], nn.Module] = lambda module: module,
    rng: Rng = secrets.token_bytes,
) -> Prepared:
    """Build the backend, the data, the model, the encoding and the engine. Raises `Refused`.

    `federation` replaces the experiment's own data, `change` is applied to the model before anything is made for it,
    and `rng` is where all parties draw from.
    """
    from fl_runtime.models import build as build_model
    from fl_runtime.models import count_parameters
    from fl_runtime.trainer import Trainer

    seed = experiment.experiment.seed
    composition = build_backend(experiment)
    check_audit(experiment, composition)
    federation = federation or load_federation(experiment)
    shape, classes = federation.shape, len(federation.classes)
    allowed = Policy().max_parameters
    if (parameters := count_parameters(experiment.model, shape=shape, classes=classes)) > allowed:
        raise Refused(f"model: {parameters:,} parameters, a site allows {allowed:,}")
    model = change(build_model(experiment.model, shape=shape, classes=classes, seed=seed))
    trainer = Trainer(model, private=composition.training)
    weights = trainer.weights()
    layout = Layout.of(weights)
    travelling = composition.layout(layout)
    encoding = make_encoding(experiment, federation, composition, size=travelling.size)
    engine = LocalEngine(
        composition.backend,
        [client.name for client in federation.clients],
        minimum_cohort=experiment.privacy.minimum_cohort,
        layout=travelling,
        encoding=encoding,
        server=server,
        rng=rng,
    )
    sites = {
        client.name: Site(
            client, trainer, layout, seed=seed, inspector=make_inspector(experiment, composition, trainer, client)
        )
        for client in federation.clients
    }
    engine.check(cohort(list(sites), experiment.algorithm.clients_per_round, seed=seed, round_number=1))
    ledgers = open_ledgers(
        experiment, composition, engine, {client.name: len(client.train) for client in federation.clients}
    )
    return Prepared(experiment, federation, composition, engine, trainer, layout, encoding, sites, ledgers, weights)


class Rounds:
    """The loop: send the task, train, sum, step. `weights` are those after the last round that was run."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self.weights = prepared.weights
        self.encoding = prepared.encoding
        self.outcomes: list[Outcome] = []
        self.number = 0
        self.vanishing: frozenset[str] = frozenset()
        self.task_bytes = 0
        self.saturated = 0

    def run_one(self, number: int) -> Outcome:
        prepared = self._prepared
        experiment, layout = prepared.experiment, prepared.layout
        task = Task(number, layout.flatten(self.weights), experiment.algorithm, experiment.training).to_bytes()
        chosen = cohort(
            list(prepared.sites),
            experiment.algorithm.clients_per_round,
            seed=experiment.experiment.seed,
            round_number=number,
        )
        self.number = number
        rate = experiment.engine.dropout_rate
        self.vanishing = vanishing(chosen, rate, seed=experiment.experiment.seed, round_number=number)
        outcome = prepared.engine.round(number, task, chosen, self._update, encoding=self.encoding)
        # Behind the model's coordinates stand those of the layers.
        mean = layout.unflatten(outcome.result.mean()[: layout.size])
        self.weights = dict(experiment.algorithm.step(self.weights, mean))
        self.encoding = next_encoding(prepared.composition, outcome.result)
        self.task_bytes = len(task)
        self.outcomes.append(outcome)
        return outcome

    def evaluate(self) -> Evaluation:
        trainer, weights = self._prepared.trainer, self.weights
        return evaluate(self._prepared.federation, lambda features: trainer.predict(weights, features))

    def _update(self, name: str, task: bytes) -> tuple[NDArray[np.float32], int] | None:
        if name in self.vanishing:
            return None
        encoding, ledgers, cap = self.encoding, self._prepared.ledgers, self._prepared.experiment.privacy.weight_cap
        if ledgers is not None:
            # Before anything of this round depends on the site's rows.
            ledgers.spend(name, self.number)
        site = self._prepared.sites[name]
        vector, weight = site.update(task) if encoding.weighted else (site.capped_update(task, cap or 1), 1)
        if "clip_l2" not in self._prepared.composition.backend.parameters:
            self.saturated += int(np.count_nonzero(np.abs(vector) > encoding.value_bound))
        travelling = self._prepared.composition.layout(self._prepared.layout)
        return np.pad(vector, (0, travelling.size - vector.size)), weight


def _summary(prepared: Prepared, rounds: Rounds, evaluations: list[Evaluation], seconds: float) -> RunSummary:
    outcomes, composition = rounds.outcomes, prepared.composition
    meters = [outcome.meters[name] for outcome in outcomes for name in outcome.result.contributors]
    return RunSummary(
        backend=composition.name,
        evaluations=evaluations,
        upload_bytes=statistics.median(meter.sent_bytes for meter in meters),
        download_bytes=statistics.median(meter.received_bytes for meter in meters) + rounds.task_bytes,
        protocol_s=sum(outcome.wall_s for outcome in outcomes),
        seconds=seconds,
        spent=composition.spent(len(outcomes), clients=len(prepared.sites)),
        server_saw=composition.guarantees.sees["server"],
        saturated=rounds.saturated,
    )
