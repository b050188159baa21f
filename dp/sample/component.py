"""`dp-sgd`: sample-level differential privacy where a client trains. `dp-sgd` alone is `dp-sgd+plain`.

Each step takes a secret Poisson sample of the client's rows, clips each row's gradient to L2 norm `clip_l2`, adds
discrete Gaussian noise of sigma = noise_multiplier * clip_l2 to their sum, and divides by the *expected* batch size
(Abadi et al. 2016, algorithm 1, arXiv 1607.00133). The sum around it may be any: what leaves the client is private.

Guarantee: everything computed from a client's noisy gradients is (epsilon, delta)-DP for adding or removing one of its
samples, as `spent` says, against everybody else, the server included.
"""

from __future__ import annotations

import copy
import secrets
import weakref
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from dp.accountant import ACCOUNTANT, Charge, large_epsilon
from secagg.errors import Refused
from secagg.guarantees import Guarantees
from secagg.protocol import Rng
from secagg.settings import Settings

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.utils.data import DataLoader

    from dp.sample.clipping import Clipper, Criterion
    from dp.sample.training import PrivateSteps

Mode = Literal["auto", "book-keeping", "hooks", "functorch", "ghost"]
_ASSUMED = (
    "the client clips, samples and adds noise as its program says; nobody else checks it",
    "which rows are in which batch stays secret",
    "the number of a client's rows is public: the sampling rate, the steps and the divisor follow from it",
    "float32 arithmetic errs by less than 2^-12 of the clip, for which the noise has room",
)


class SampleLevelParameters(Settings):
    """Parameters of `dp-sgd`.

    Attributes:
        noise_multiplier: sigma over `clip_l2`; 1 when neither it nor `target_epsilon` is given.
        clip_l2: largest L2 norm of one sample's gradient.
        target_epsilon: solve for the noise that each client's steps in `rounds` rounds need at `target_delta`.
        target_delta: the delta of every epsilon that is stated; well under one over a client's rows.
        rounds: how many rounds are planned; `train` fills it in.
        mode: how gradients are clipped; `auto` is book-keeping where it has a rule for every layer, else Opacus' hooks.
        batch_norm: what to do with BatchNorm, which mixes samples.
    """

    noise_multiplier: float | None = None
    clip_l2: Annotated[float, Field(ge=2.0**-60, le=2.0**60)] = 1.0
    target_epsilon: Annotated[float, Field(gt=0)] | None = None
    target_delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    rounds: Annotated[int, Field(ge=1)] = 1
    mode: Mode = "auto"
    batch_norm: Literal["refuse", "groupnorm"] = "refuse"


class SampleLevel:
    """The training component; see the module's text. `rng` is replaced in tests alone."""

    kind: ClassVar[Literal["training"]] = "training"
    Parameters: ClassVar[type[Settings]] = SampleLevelParameters
    name = "dp-sgd"

    def __init__(self, parameters: SampleLevelParameters, *, rng: Rng = secrets.token_bytes) -> None:
        if parameters.target_epsilon is not None and parameters.noise_multiplier is not None:
            raise Refused("dp-sgd: noise_multiplier and target_epsilon are both given, expected one of them")
        if parameters.noise_multiplier is not None and not parameters.noise_multiplier > 0:
            raise Refused(
                f"noise_multiplier is {parameters.noise_multiplier:g}: without noise there is no differential privacy"
            )
        self._asked, self._rng = parameters, rng
        self._spending: Any = None
        self._plans: dict[str, tuple[float, int]] = {}
        self._rows: dict[str, int] = {}
        self._proven: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.parameters: Mapping[str, Any] = parameters.model_dump(exclude_none=True)

    def prepare(self, model: nn.Module) -> nn.Module:
        """The model to train: itself, or a copy whose BatchNorm is GroupNorm, where that was asked for.

        Raises:
            Refused: a layer mixes samples or keeps statistics of them; it is named (D8).
        """
        from dp.sample.models import require_separable, with_group_norm

        if self._asked.batch_norm == "groupnorm":
            model = with_group_norm(model)
        require_separable(model)
        return model

    def loader(self, dataset: Any, *, batch_size: int, steps: int) -> DataLoader[Any]:
        """A loader of `steps` secret Poisson samples, of `batch_size` on average. Raises `Refused`."""
        from dp.sample.poisson import poisson_loader

        return poisson_loader(dataset, batch_size=batch_size, steps=steps, rng=self._rng)

    def charge(self, *, rows: int, batch_size: int, steps: int, owner: str = "") -> Mapping[str, Any]:
        """What so many steps will cost each sample of `owner`, as arguments of `dp.accountant.Charge`.

        Raises `Refused` as `wrap` does, for noise that cannot be solved for.
        """
        from dp.sample.poisson import sample_rate

        rate = sample_rate(rows, batch_size)
        return {"noise_multiplier": self._noise_for(owner, rate, steps), "steps": steps, "sampling_rate": rate}

    def planned(self, *, rows: int, batch_size: int, steps: int) -> Mapping[str, Any]:
        """As `spent`, of a client with so many rows after `rounds` rounds of so many steps. Raises `Refused`."""
        planned = SampleLevel(self._asked)
        charge = Charge(**planned.charge(rows=rows, batch_size=batch_size, steps=steps))
        planned._spent_so_far().charge("", replace(charge, steps=steps * self._asked.rounds))
        planned._rows[""] = rows
        return {**planned.spent(), "rounds": self._asked.rounds}

    def wrap(
        self, model: nn.Module, optimizer: Optimizer, loader: DataLoader[Any], criterion: Criterion, *, owner: str = ""
    ) -> PrivateSteps:
        """Local training of `owner`, which must be the same name whenever the same samples are used again.

        `loader` comes from `loader`; `criterion` gives one loss a sample, `(n,)`; `optimizer` is any of torch's.

        Raises:
            Refused: the batches are no Poisson samples (D1), the model mixes samples, the optimiser holds
                parameters that no clip covers (D8), or the steps go beyond what the noise was solved for (D6).
        """
        from dp.sample.models import require_separable
        from dp.sample.optimizer import DiscreteNoiseOptimizer
        from dp.sample.poisson import sampler_of
        from dp.sample.training import PrivateSteps

        sampler = sampler_of(loader)
        require_separable(model)
        _require_covered(model, optimizer)
        rate, steps = float(sampler.sample_rate), len(sampler)
        multiplier = self._noise_for(owner, rate, steps)
        self._rows[owner] = sampler.num_samples
        private = DiscreteNoiseOptimizer(
            optimizer,
            noise_multiplier=multiplier,
            max_grad_norm=self._asked.clip_l2,
            expected_batch_size=rate * sampler.num_samples,
            rng=self._rng,
        )
        # Before the clipper hooks into the model.
        twin = None if model in self._proven else copy.deepcopy(model)
        return PrivateSteps(
            model,
            self._clipper(model),
            private,
            loader,
            criterion,
            charge=lambda: self._charge(owner, multiplier, rate),
            twin=twin,
            proven=lambda: self._proven.add(model),
        )

    def spent(self) -> Mapping[str, Any]:
        """The privacy spent so far by the client that spent most: plain values for sheets and metrics."""
        epsilon, history = self._spent_so_far().worst(self._asked.target_delta)
        delta = self._asked.target_delta
        return {
            "unit": "sample",
            "adjacency": "add/remove",
            "epsilon": epsilon,
            "delta": delta,
            "noise_multiplier": min((charge.noise_multiplier for charge in history), default=0.0),
            "clip_l2": self._asked.clip_l2,
            "steps": sum(charge.steps for charge in history),
            "sampling_rate": max((charge.sampling_rate for charge in history), default=0.0),
            "sampler": "Poisson, from a cryptographic stream",
            "noise": "discrete Gaussian on a grid of 2^-40 of the clip, added by each client",
            "noise_source": "AES-256 in counter mode, a fresh key of the operating system for every step",
            "accountant": ACCOUNTANT,
            "assumptions": _ASSUMED,
            "warnings": (*large_epsilon(epsilon), *self._warnings(delta)),
        }

    def compose(self, inner: Guarantees) -> Guarantees:
        if inner.privacy is not None:
            raise Refused("dp-sgd around dp: two units and two claims under one name; run one of them")
        asked = self._asked
        noise = (
            f"noise for epsilon {asked.target_epsilon:g}"
            if asked.target_epsilon is not None
            else f"noise multiplier {asked.noise_multiplier or 1.0:g}"
        )
        return replace(
            inner,
            protection=f"sample-level differential privacy ({noise}, clip {asked.clip_l2:g}, at every step) "
            f"around: {inner.protection}",
            exactness=f"updates carry the noise of local training; {inner.exactness}",
            uniform_weights=True,
            privacy={
                "unit": "sample",
                "adjacency": "add/remove",
                "noise": "discrete Gaussian, added by each client at every step",
                "noise_multiplier": asked.noise_multiplier if asked.target_epsilon is None else None,
                "clip_l2": asked.clip_l2,
            },
            limitations=(
                *inner.limitations,
                "one sample is hidden, not a client: what many of its samples share shows",
                "clipping, sampling and noise are each client's own promise: one that skips them has no bound",
            ),
        )

    def _spent_so_far(self) -> Any:
        if self._spending is None:
            from dp.sample.spending import Spending

            self._spending = Spending()
        return self._spending

    def _noise_for(self, owner: str, rate: float, steps: int) -> float:
        asked = self._asked
        if asked.target_epsilon is None:
            return 1.0 if asked.noise_multiplier is None else asked.noise_multiplier
        from dp.sample.spending import solve_noise_multiplier

        planned = self._plans.setdefault(owner, (rate, steps * asked.rounds))
        if planned[0] != rate:
            raise Refused(f"dp-sgd: {owner!r} has sampling rate {rate:g}, its noise was solved for {planned[0]:g}")
        return solve_noise_multiplier(asked.target_epsilon, asked.target_delta, sample_rate=rate, steps=planned[1])

    def _charge(self, owner: str, multiplier: float, rate: float) -> None:
        spending = self._spent_so_far()
        if owner in self._plans and spending.steps(owner) >= self._plans[owner][1]:
            raise Refused(f"dp-sgd: the budget of {owner!r} was for {self._plans[owner][1]} steps, and is spent")
        spending.step(owner, noise_multiplier=multiplier, sample_rate=rate)

    def _clipper(self, model: nn.Module) -> Clipper:
        from dp.sample.bookkeeping import BookKeeping, without_rule
        from dp.sample.opacus_modes import Ghost, PerSampleGradients

        mode, clip_l2 = self._asked.mode, self._asked.clip_l2
        if mode == "book-keeping" or (mode == "auto" and not without_rule(model)):
            return BookKeeping(model, clip_l2)
        if mode == "ghost":
            return Ghost(model, clip_l2)
        return PerSampleGradients(model, clip_l2, functorch=mode == "functorch")

    def _warnings(self, delta: float) -> tuple[str, ...]:
        fewest = min(self._rows.values(), default=1)
        if delta * fewest <= 1:
            return ()
        return (
            f"delta = {delta:g} is larger than 1/{fewest}, the rows of the smallest client: it would permit publishing "
            f"one of them, picked at random; stay well under {1 / fewest:.2g}",
        )


def _require_covered(model: nn.Module, optimizer: Optimizer) -> None:
    """Every parameter that the optimiser moves must be one that is clipped, and the other way round (D8)."""
    named = {id(own): name for name, own in model.named_parameters() if own.requires_grad}
    held = {id(own): tuple(own.shape) for group in optimizer.param_groups for own in group["params"]}
    if strangers := [shape for key, shape in held.items() if key not in named]:
        raise Refused(f"dp-sgd: the optimiser holds a parameter of shape {strangers[0]} that no clip covers")
    if idle := [name for key, name in named.items() if key not in held]:
        raise Refused(f"dp-sgd: parameter {idle[0]!r} is trainable and not in the optimiser; freeze it or add it")
