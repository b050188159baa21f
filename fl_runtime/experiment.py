"""One experiment, one TOML file: frozen sections, unknown keys refused, one line for every mistake.

    [experiment] name, rounds, seed
    [data]       dataset, path, limit, partition, clients, and what the partition takes (alpha, majority, ...)
    [model]      name and its arguments
    [algorithm]  name and its hyper-parameters, clients_per_round, server_lr
    [training]   local_epochs or local_steps, batch_size, optimizer, lr, momentum
    [privacy]    backend and its parameters, flat; value_bound, max_weight, modulus_bits, minimum_cohort
    [engine]     name, dropout_rate

Importing this module loads no torch and no scikit-learn.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from fl_runtime import partitions
from fl_runtime.algorithms import AnyAlgorithm
from fl_runtime.data.catalogue import SOURCES
from fl_runtime.models import AnyModel
from fl_runtime.section import Section
from fl_runtime.training import Training
from secagg.errors import Refused, did_you_mean
from secagg.fixedpoint import MAX_WEIGHT, ModulusBits
from secagg.rounding import Rounding
from secagg.spec import MIN_COHORT

DATA_VARIABLE = "SECAGG_DATA"
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class Run(Section):
    """`name` of the run, how many `rounds`, and the `seed` from which all its chance comes."""

    name: Name
    rounds: Annotated[int, Field(ge=1, le=1_000_000)]
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0


class Data(Section):
    """Which data, and how it is dealt. `clients` may be left out with `natural`: then it is the data's sites."""

    dataset: str
    path: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    partition: str = "iid"
    clients: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    alpha: Annotated[float, Field(gt=0)] | None = None
    majority: Annotated[float, Field(gt=0, le=1)] | None = None
    minimum_rows: Annotated[int, Field(ge=1)] | None = None

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, name: str) -> str:
        return _known(name, SOURCES, "data set")

    @field_validator("partition")
    @classmethod
    def _known_partition(cls, name: str) -> str:
        return _known(name, partitions.ARGUMENTS, "partition")

    @model_validator(mode="after")
    def _consistent(self) -> Data:
        source, taken = SOURCES[self.dataset], partitions.ARGUMENTS[self.partition]
        if source.needs_path and self.path is None:
            raise ValueError(f"path: required by data set {self.dataset!r}, and not given")
        if self.path is not None and not source.needs_path:
            raise ValueError(f"path: data set {self.dataset!r} takes no path")
        if self.limit is not None and not source.takes_limit:
            raise ValueError(f"limit: data set {self.dataset!r} takes no limit")
        for argument in ("alpha", "majority", "minimum_rows"):
            given = getattr(self, argument) is not None
            if given and argument not in taken:
                raise ValueError(f"{argument}: partition {self.partition!r} takes no {argument!r}")
            if not given and argument in taken and taken[argument] is None:
                raise ValueError(f"{argument}: required by partition {self.partition!r}, and not given")
        if self.partition == "natural":
            if not source.sites:
                raise ValueError(f"partition: data set {self.dataset!r} has no natural sites")
            if self.clients not in (None, len(source.sites)):
                raise ValueError(f"clients: expected {len(source.sites)}, the sites of {self.dataset!r}")
        elif self.clients is None:
            raise ValueError(f"clients: required by partition {self.partition!r}, and not given")
        return self

    @property
    def count(self) -> int:
        """How many clients there are."""
        return self.clients if self.clients is not None else len(SOURCES[self.dataset].sites)

    @property
    def arguments(self) -> dict[str, float]:
        """What was set of the partition's own arguments, for `fl_runtime.data.federate`."""
        return {name: value for name in partitions.ARGUMENTS[self.partition] if (value := getattr(self, name))}


class Privacy(Section):
    """The backend, its own parameters as further flat keys, and the terms of every round.

    Attributes:
        value_bound: largest absolute value of one coordinate of an update that is sent unclipped.
        max_weight: largest weight (training rows) of a client; None for the largest client of the data.
        weight_cap: an update is multiplied by min(rows, weight_cap) / weight_cap, under `dp` before it is clipped.
        modulus_bits: the ring in which encoded updates are added; 20 to 24 travel packed.
        rounding: how updates become whole numbers; "stochastic" keeps the mean unbiased on a coarse grid.
        minimum_cohort: fewest clients whose sum may be revealed; never below 3.
        audit_canaries: audit the claim on so many canaries after the last round; none by default.
        received_model: what a client does about a model that looks made to spy on its rows: "trust", not looking,
            "warn", or "refuse", leaving the round. The sites' own setting, like those below.
        ledger: a folder for the sites' ledgers of what they were charged.
        ledger_epsilon, ledger_delta: what each unit of the population may be charged over all runs; 1e-5 by default.
        ledger_population: whose data it is; all runs on one population share its budget. The data set by default.
        ledger_witness: a file in which the server remembers where each ledger ended; it belongs on another disk.
    """

    model_config = ConfigDict(extra="allow")

    backend: Annotated[str, Field(min_length=1)] = "plain"
    value_bound: Annotated[float, Field(gt=0, le=1e12)] = 1.0
    max_weight: Annotated[int, Field(ge=1, le=MAX_WEIGHT)] | None = None
    weight_cap: Annotated[int, Field(ge=1, le=MAX_WEIGHT)] | None = None
    modulus_bits: ModulusBits = 32
    rounding: Rounding = "nearest"
    minimum_cohort: Annotated[int, Field(ge=MIN_COHORT)] = MIN_COHORT
    audit_canaries: Annotated[int, Field(ge=MIN_COHORT)] | None = None
    received_model: Literal["trust", "warn", "refuse"] = "trust"
    ledger: str | None = None
    ledger_epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    ledger_delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    ledger_population: Name | None = None
    ledger_witness: str | None = None

    @model_validator(mode="after")
    def _whole_ledger(self) -> Privacy:
        if self.ledger is not None and self.ledger_epsilon is None:
            raise ValueError("ledger_epsilon: required with ledger, and not given")
        for name in ("ledger_epsilon", "ledger_delta", "ledger_population", "ledger_witness"):
            if self.ledger is None and getattr(self, name) is not None:
                raise ValueError(f"{name}: given without ledger")
        return self

    @model_validator(mode="after")
    def _flat(self) -> Privacy:
        for name, value in self.parameters.items():
            plain = isinstance(value, str | int | float)
            if not plain or (isinstance(value, float) and not math.isfinite(value)):
                raise ValueError(f"{name}: expected a string, a finite number, true or false")
        return self

    @property
    def parameters(self) -> dict[str, Any]:
        """The backend's own parameters: every key that is not one of the above."""
        return dict(self.model_extra or {})


class Engine(Section):
    """Where the parties run: `local` is in this process.

    `dropout_rate` is the share of each round's clients that vanish in mid-round, once keys are agreed: a simulation of
    what happens to the others, drawn from the seed, rounded down.
    """

    name: Literal["local"] = "local"
    dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Experiment(Section):
    """A whole experiment. Read one with `fl_runtime.config.load`."""

    experiment: Run
    data: Data
    model: AnyModel
    algorithm: AnyAlgorithm
    training: Training
    privacy: Privacy = Privacy()
    engine: Engine = Engine()
    _data_path: Path | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _large_enough_cohort(self, info: ValidationInfo) -> Experiment:
        minimum, clients = self.privacy.minimum_cohort, self.data.count
        if clients < minimum:
            raise ValueError(f"data.clients: expected at least privacy.minimum_cohort = {minimum}, got {clients}")
        sampled = self.algorithm.clients_per_round
        if sampled is not None and not minimum <= sampled <= clients:
            raise ValueError(
                f"algorithm.clients_per_round: expected {minimum} (privacy.minimum_cohort) "
                f"to {clients} (data.clients), got {sampled}"
            )
        if self.data.path is not None:
            self._data_path = resolve_path(self.data.path, (info.context or {}).get("folder", Path()))
        return self

    @property
    def data_path(self) -> Path | None:
        """`data.path` resolved against the file it was read from, with `$SECAGG_DATA` filled in."""
        return self._data_path

    def digest(self) -> str:
        """SHA-256 (hex) of the settings as canonical JSON, defaults included. Paths count as written."""
        settings = self.model_dump(mode="json")
        text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(b"fl_runtime/v1/experiment" + text.encode()).hexdigest()


def _known(name: str, valid: Mapping[str, object], kind: str) -> str:
    if name not in valid:
        raise ValueError(f"unknown {kind} {name!r}{did_you_mean(name, valid)}")
    return name


def resolve_path(written: str, folder: Path, *, key: str = "data.path") -> Path:
    """The path `written` under `key` in a file of `folder`, with `$SECAGG_DATA` filled in. Raises `Refused`."""
    match = re.match(r"\$(?:\{(\w+)\}|(\w+))(?=/|$)", written)
    if match is None:
        return folder / written
    variable = match[1] or match[2]
    if variable != DATA_VARIABLE:
        raise Refused(f"{key}: ${variable} is not filled in, only ${DATA_VARIABLE} is")
    if not os.environ.get(variable):
        raise Refused(f"{key}: the environment variable {variable} is not set")
    return Path(os.environ[variable]) / written[match.end() :].lstrip("/")
