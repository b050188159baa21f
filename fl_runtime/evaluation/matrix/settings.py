"""One evaluation, one TOML file: what is attacked, what defends it, and which combinations are tried.

    [evaluation]      name, title, seed, repeats, images, rounds, utility, gallery, good_db, control
    [data]            as in an experiment
    [models.NAME]     as [model] in an experiment; several may be compared
    [algorithm]       as in an experiment
    [training]        as in an experiment
    [backends.NAME]   backend (default: NAME) and its parameters
    [defences.NAME]   kind (default: NAME) and its parameters
    [attacks.NAME]    kind (default: NAME) and its parameters; [attacks.NAME.search] lists values to choose from
    [[matrix]]        a title, and lists whose product is tried: backend, defence, attack, model, stage, batch, ...

Importing this module loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, PrivateAttr, ValidationInfo, model_validator

from fl_runtime.algorithms import AnyAlgorithm
from fl_runtime.algorithms.fedavg import FedAvg
from fl_runtime.evaluation.matrix.catalogue import ATTACKS, DEFENCES
from fl_runtime.evaluation.matrix.families import BLIND_TO, FAMILIES
from fl_runtime.evaluation.matrix.world import IMAGE_RANGES
from fl_runtime.experiment import Data, Name, resolve_path
from fl_runtime.models import AnyModel
from fl_runtime.section import Section
from fl_runtime.training import Training
from secagg.errors import did_you_mean
from secagg.registry import available

Stage = Literal["untrained", "half", "trained"]
Labels = Literal["known", "inferred", "unknown"]
Statistics = Literal["none", "known", "running", "withheld"]
Adversary = Literal[
    "everybody", "server", "server and a client", "server and all clients but one", "helper",
    "helper and all clients but one", "server and all helpers but one", "server and all helpers",
]  # fmt: skip
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
T = TypeVar("T")
Axis = Annotated[tuple[T, ...], Field(strict=False, min_length=1)]
NONE, PLAIN = "none", "plain"


class Terms(Section):
    """What holds for the whole evaluation.

    Attributes:
        repeats: independent runs: training, victims, starts and chance of the attacks. Intervals resample them.
        images: images attacked in each repeat, at least.
        rounds: of training; half of them for the stage "half".
        utility: which score of the trained model stands for its use.
        gallery: images among which a victim is looked for.
        good_db: an image counts as reconstructed from this PSNR on.
        control: the share of its items that an undefended attack must recover to count as one that works.
        audit_canaries: audit each claim of differential privacy on so many canaries; none by default.
        lpips: files with the weights of LPIPS: AlexNet and, unless they are in the same file, the heads; () for none.
    """

    name: Name
    title: Annotated[str, Field(min_length=1, max_length=200)]
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    repeats: Annotated[int, Field(ge=1, le=1000)] = 3
    images: Annotated[int, Field(ge=1, le=10_000)] = 10
    rounds: Annotated[int, Field(ge=2, le=100_000)]
    utility: Literal["accuracy", "auc"] = "accuracy"
    gallery: Annotated[int, Field(ge=2, le=100_000)] = 200
    good_db: Annotated[float, Field(gt=0, lt=150)] = 20.0
    control: Annotated[float, Field(gt=0, le=1)] = 0.5
    audit_canaries: Annotated[int, Field(ge=3, le=1_000_000)] | None = None
    lpips: Annotated[tuple[str, ...], Field(strict=False, max_length=2)] = ()


class Choice(Section):
    """One backend, defence or attack with its parameters, which stand flat beside its own keys."""

    model_config = ConfigDict(extra="allow")

    @property
    def parameters(self) -> dict[str, Any]:
        """Every key that is not one of the section's own."""
        return dict(self.model_extra or {})


class BackendChoice(Choice):
    """`backend`: a name as in `[privacy]`."""

    backend: str | None = None


class DefenceChoice(Choice):
    kind: str | None = None


class AttackChoice(Choice):
    """`search`: for some parameters the values among which the best is chosen on images of the adversary's own."""

    kind: str | None = None
    search: dict[str, list[float | int | str]] = Field(default_factory=dict)


class Matrix(Section):
    """One question of the evaluation: every combination of these lists is a row.

    Attributes:
        batch: images of one client behind its update.
        local_epochs: passes over them by SGD at `training.lr`; 1 with no `local_batch` is the gradient itself.
        local_batch: images in one step; 0 for all of them.
        clients: in the cohort of the attacked round.
        statistics: of BatchNorm over the victims' batch: known to the adversary, withheld, or not used since the
            model runs on running statistics; "none" for a model without BatchNorm.
        adversary: whose view is attacked.
        adaptive: whether the attack uses what it can know of the defence.
    """

    title: Annotated[str, Field(min_length=1, max_length=200)]
    backend: Axis[str] = (PLAIN,)
    defence: Axis[str] = (NONE,)
    attack: Axis[str]
    model: Annotated[tuple[str, ...], Field(strict=False)] = ()
    stage: Axis[Stage] = ("untrained",)
    batch: Axis[Count] = (1,)
    local_epochs: Axis[Count] = (1,)
    local_batch: Axis[Annotated[int, Field(ge=0)]] = (0,)
    clients: Axis[Annotated[int, Field(ge=3, le=1000)]] = (3,)
    labels: Axis[Labels] = ("known",)
    statistics: Axis[Statistics] = ("none",)
    adversary: Axis[Adversary] = ("server",)
    adaptive: Axis[bool] = (True,)

    @model_validator(mode="after")
    def _nothing_twice(self) -> Matrix:
        for name, values in self:
            if isinstance(values, tuple) and len(set(values)) < len(values):
                raise ValueError(f"{name}: expected no value twice")
        return self


class Evaluation(Section):
    """A whole evaluation. Read one with `fl_runtime.config.load_as(Evaluation, path)`."""

    evaluation: Terms
    data: Data
    models: Annotated[dict[Name, AnyModel], Field(min_length=1)]
    algorithm: AnyAlgorithm = FedAvg()
    training: Training
    backends: dict[str, BackendChoice] = Field(default_factory=dict)
    defences: dict[str, DefenceChoice] = Field(default_factory=dict)
    attacks: dict[str, AttackChoice] = Field(default_factory=dict)
    matrix: Annotated[list[Matrix], Field(min_length=1)]
    _data_path: Path | None = PrivateAttr(None)
    _lpips_paths: tuple[Path, ...] = PrivateAttr(())

    @model_validator(mode="after")
    def _names_that_exist(self, info: ValidationInfo) -> Evaluation:
        if self.data.dataset not in IMAGE_RANGES:
            raise ValueError(
                f"data.dataset: {self.data.dataset!r} holds no images; attacks here reconstruct images"
                f"{did_you_mean(self.data.dataset, IMAGE_RANGES)}"
            )
        for name, choice in self.defences.items():
            _own_name("defences", name, choice.kind or name, DEFENCES, reserved=NONE)
        for name, backend in self.backends.items():
            _own_name("backends", name, backend.backend or name, available(), reserved=PLAIN)
        for name, attack in self.attacks.items():
            _own_name("attacks", name, attack.kind or name, ATTACKS)
            if both := attack.search.keys() & attack.parameters.keys():
                raise ValueError(f"attacks.{name}.search.{min(both)}: fixed as well, expected one of them")
        for place, matrix in enumerate(self.matrix):
            for name in matrix.model:
                if name not in self.models:
                    raise ValueError(f"matrix.{place}.model: no [models.{name}]{did_you_mean(name, self.models)}")
            for name in matrix.defence:
                _known(f"matrix.{place}.defence", name, self.defences, DEFENCES)
            for name in matrix.attack:
                _known(f"matrix.{place}.attack", name, self.attacks, ATTACKS)
                self._check_axes(place, matrix, name)
        folder = (info.context or {}).get("folder", Path())
        if self.data.path is not None:
            self._data_path = resolve_path(self.data.path, folder)
        self._lpips_paths = tuple(resolve_path(path, folder, key="evaluation.lpips") for path in self.evaluation.lpips)
        return self

    def _check_axes(self, place: int, matrix: Matrix, attack: str) -> None:
        """An axis that an attack ignores would print what was never tried."""
        kind = self.attack_kind(attack)
        traits = FAMILIES[ATTACKS[kind].family]
        for axis in matrix.model_fields_set:
            if axis in (*traits.ignored, *BLIND_TO.get(kind, ())):
                raise ValueError(
                    f"matrix.{place}.{axis}: {attack!r} does not depend on it; give it a matrix of its own"
                )
            only = traits.fixed.get(axis)
            if only is not None and set(getattr(matrix, axis)) != {only}:
                raise ValueError(f"matrix.{place}.{axis}: {attack!r} takes {only!r} only")

    def attack_kind(self, label: str) -> str:
        """The kind of the attack that the file calls so."""
        choice = self.attacks.get(label)
        return (choice and choice.kind) or label

    @property
    def data_path(self) -> Path | None:
        """`data.path` resolved against the file it was read from, with `$SECAGG_DATA` filled in."""
        return self._data_path

    @property
    def lpips_paths(self) -> tuple[Path, ...]:
        """`evaluation.lpips` resolved in the same way."""
        return self._lpips_paths


def _own_name(section: str, name: str, kind: str, kinds: Mapping[str, object], *, reserved: str | None = None) -> None:
    """Raise `ValueError` for an unknown kind, and for a name under which a reader expects something else."""
    if not name.strip():
        raise ValueError(f"{section}: a name is empty, expected one that a reader can tell apart")
    if name == reserved:
        raise ValueError(f"{section}.{name}: this name is the undefended control's, expected another")
    if name in kinds and kind != name:
        raise ValueError(f"{section}.{name}: this name is that of another kind than {kind!r}, expected one of your own")
    if section != "backends":
        _known(f"{section}.{name}.kind", kind, {}, kinds)


def _known(key: str, name: str, described: Mapping[str, object], kinds: Mapping[str, object]) -> None:
    if name not in described and name not in kinds:
        raise ValueError(f"{key}: unknown name {name!r}{did_you_mean(name, [*described, *kinds])}")
