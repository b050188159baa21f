"""The journal of a run: what it writes down while it goes, and how it closes, whatever happens.

A `Journal` owns the run directory; `NoJournal` has the same methods and writes nothing. Leaving the `with` block
seals the directory: after an error, or Ctrl-C, the transcript says so first, and the error goes on its way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from fl_runtime.datasheet import RoundFacts, make_datasheet, to_markdown
from fl_runtime.engines.local import LocalEngine
from fl_runtime.experiment import Experiment
from fl_runtime.ledgers import Ledgers
from fl_runtime.metrics import Evaluation
from fl_runtime.toml import to_toml
from fl_runtime.update import Tensors
from secagg.driver import Outcome
from secagg.errors import Refused
from secagg.registry import Composition
from secagg.rundir import RunDirectory
from secagg.transcript import round_body


class Recorder(Protocol):
    """What a run tells of itself while it goes."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def round(self, outcome: Outcome, weights: Tensors) -> None:
        """A round is over, and these are the new global weights."""

    def scored(self, number: int, evaluation: Evaluation) -> None:
        """The weights after round `number` (0: the initial ones) were evaluated."""

    def audited(self, found: Mapping[str, Any]) -> None:
        """The run's claim was audited; what the data sheet says of it."""


class NoJournal:
    """Writes nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def round(self, outcome: Outcome, weights: Tensors) -> None: ...

    def scored(self, number: int, evaluation: Evaluation) -> None: ...

    def audited(self, found: Mapping[str, Any]) -> None: ...


class Journal:
    """A run directory in the making; see `fl_runtime.run` for what it holds."""

    def __init__(
        self,
        path: Path,
        experiment: Experiment,
        composition: Composition,
        engine: LocalEngine,
        weights: Tensors,
        ledgers: Ledgers | None = None,
    ) -> None:
        self._experiment = experiment
        self._composition = composition
        self._engine = engine
        self._weights = weights
        self._ledgers = ledgers
        self._evaluations: list[Evaluation] = []
        self._rounds: list[RoundFacts] = []
        self._line: dict[str, Any] = {}
        self._aborted: list[str] = []
        self._audit: Mapping[str, Any] | None = None
        self._directory = RunDirectory(path, engine.run, engine.directory, engine.server)
        self._path = path
        (path / "experiment.toml").write_text(_settings(experiment), encoding="utf-8")
        about = {
            "experiment": experiment.digest(),
            "name": experiment.experiment.name,
            "planned_rounds": experiment.experiment.rounds,
        }
        self._transcript = self._directory.open_transcript(about)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                interrupted = isinstance(error, KeyboardInterrupt)
                self._aborted.append("interrupted" if interrupted else str(error) or type(error).__name__)
                self._transcript.append("aborted", {"why": self._aborted[-1]})
            missing = self._write_files()
            if missing:
                self._transcript.append("incomplete", {"missing": missing})
            self._directory.seal()
        except Refused:
            # The first error is the one to tell; a directory that cannot be sealed says so when it is verified.
            if error is None:
                raise
        else:
            if missing and error is None:
                raise Refused(f"{self._path}: could not be written whole: {'; '.join(missing)}")

    def _write_files(self) -> list[str]:
        """Model, data sheet and picture; what could not be written is removed and named."""
        sheet = self._sheet()
        files: dict[str, Callable[[Path], object]] = {
            "model.npz": lambda path: np.savez(path, **self._weights),  # type: ignore[arg-type]
            "datasheet.json": lambda path: path.write_text(json.dumps(sheet, indent=2) + "\n", encoding="utf-8"),
            "datasheet.md": lambda path: path.write_text(to_markdown(sheet), encoding="utf-8"),
        }
        if find_spec("matplotlib") is not None:
            files["curve.svg"] = self._draw
        missing = []
        for name, write in files.items():
            try:
                write(self._path / name)
            except OSError as problem:
                (self._path / name).unlink(missing_ok=True)
                missing.append(f"{name}: {problem.strerror}")
        return missing

    def _draw(self, path: Path) -> None:
        from fl_runtime.curve import draw_curve

        title = f"{self._experiment.experiment.name}: {self._composition.name}"
        draw_curve({"all test rows": self._evaluations}, path, title=title)

    def round(self, outcome: Outcome, weights: Tensors) -> None:
        self._weights = weights
        spec = outcome.spec
        facts = RoundFacts(
            spec.round, len(spec.roster.clients), len(outcome.result.contributors), len(outcome.rejected)
        )
        self._rounds.append(facts)
        self._transcript.append(
            "round",
            round_body(
                spec,
                outcome.evidence,
                dropped=dict(outcome.dropped),
                rejected=[[error.sender, error.why] for error in outcome.rejected],
                model=_digest(weights),
            ),
        )
        self._line = {
            "contributors": list(outcome.result.contributors),
            "dropped": dict(outcome.dropped),
            "value_bound": spec.encoding.value_bound,
            "wall_s": outcome.wall_s,
            "parties": {name: vars(meter) for name, meter in outcome.meters.items()},
        }

    def scored(self, number: int, evaluation: Evaluation) -> None:
        self._evaluations.append(evaluation)
        line = {"round": number, **evaluation.to_json(), **self._line}
        path = self._path / "metrics.jsonl"
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
        except OSError as error:
            raise Refused(f"{path}: cannot write: {error.strerror}") from None

    def audited(self, found: Mapping[str, Any]) -> None:
        self._audit = found

    def _sheet(self) -> dict[str, Any]:
        made, training = len(self._rounds), self._composition.training
        return make_datasheet(
            run=self._engine.run,
            backend=self._composition.name,
            parameters={**self._composition.backend.parameters, **(training.parameters if training else {})},
            guarantees=self._composition.guarantees,
            minimum_cohort=self._experiment.privacy.minimum_cohort,
            planned=self._experiment.experiment.rounds,
            rounds=self._rounds,
            aborted=self._aborted,
            directory=self._engine.directory,
            spent=self._composition.spent(made, clients=self._experiment.data.count) if made else None,
            ledger=None if self._ledgers is None else self._ledgers.facts(),
            audit=self._audit,
            transcript=self._transcript.head,
        )


def _settings(experiment: Experiment) -> str:
    settings = experiment.model_dump(mode="json", exclude_none=True)
    written = experiment.data.path
    if written is not None and not written.startswith("$"):
        # A relative path would start at the run directory now.
        settings["data"]["path"] = str(experiment.data_path and experiment.data_path.resolve())
    for name in {"ledger", "ledger_witness"} & set(settings["privacy"]):
        settings["privacy"][name] = str(Path(settings["privacy"][name]).resolve())
    return to_toml(settings)


def _digest(weights: Mapping[str, Any]) -> str:
    """SHA-256 (hex) over the weights, tensor by tensor, so that the transcript names every model."""
    digest = hashlib.sha256()
    for name, array in weights.items():
        digest.update(name.encode() + b"\0" + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
