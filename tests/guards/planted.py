"""Bugs to plant in the mechanisms, one exact replacement each, and what catches them.

Where the power of an audit reaches, it is an audit of the family that must call the claim violated. Where it does not,
it is a test of the mechanism's structure; the bug's comment says why. `python -m benchmarks.dp.audits` plants them all.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.guards.guard import Guard

AUDITS = "tests/dp/audit/test_audits.py"
COMPONENT = "tests/dp/sample/test_component.py"
POISSON = "tests/dp/sample/test_poisson.py"
MODELS = "tests/dp/sample/test_models.py"
NOISE = "tests/dp/sample/test_noise.py"
FIXED_POINT = "tests/secagg/test_fixedpoint.py"


@dataclass(frozen=True)
class Planted:
    """`code` stands once in `file`; with `instead` in its place, `audit` of the family finds the claim violated.

    `audit` is empty where none does. `tests` go red in any case.
    """

    name: str
    file: str
    code: str
    instead: str
    audit: str
    tests: tuple[str, ...]

    @property
    def guard(self) -> Guard:
        """For `tests.mutants`."""
        return Guard(f"planted: {self.name}", ("D9",), self.file, self.code, self.instead, self.tests)


def _audited(audit: str) -> tuple[str, ...]:
    return (f"{AUDITS}::test_d9_no_lower_bound_exceeds_its_claim[{audit}]",)


PLANTED = (
    Planted(
        "no noise",
        "dp/sample/optimizer.py",
        "noise += np.rint(steps).astype(np.int64)",
        "noise = np.rint(steps).astype(np.int64)",
        "sgd-quick",
        _audited("sgd-quick"),
    ),
    Planted(
        "noise drawn once in a run, and used again",
        "dp/layer.py",
        "noise = self._placement.noise(sigma, total.totals.size, rng)",
        'noise = self.__dict__.setdefault("kept", self._placement.noise(sigma, total.totals.size, rng)).copy()',
        "dp-quick",
        _audited("dp-quick"),
    ),
    Planted(
        "noise of half the size",
        "dp/sample/optimizer.py",
        "discrete_gaussian(noise_multiplier * sensitivity, ",
        "discrete_gaussian(noise_multiplier * sensitivity / 2, ",
        "sgd-fine",
        # Ten seconds: the suite has the size of the noise measured instead.
        (f"{NOISE}::test_the_noise_has_the_size_that_was_asked_for",),
    ),
    Planted(
        "no clip",
        "dp/sample/clipping.py",
        "return (clip_l2 / norms.clamp(min=clip_l2)).to(dtype)",
        "return torch.ones_like(norms, dtype=dtype)",
        # This, the layers' and the mean's below are refused by the probe too, where it has two samples to tell apart.
        # In every cohort of this audit one of the first two is zeros, so that the bugs get as far as the auditor.
        "sgd-quick",
        _audited("sgd-quick"),
    ),
    Planted(
        "noise for the sensitivity of the mean, added to the sum",
        "dp/sample/optimizer.py",
        "sensitivity = STEPS_PER_CLIP * (1 + allowance) + math.sqrt(total.size)",
        "sensitivity = (STEPS_PER_CLIP * (1 + allowance) + math.sqrt(total.size)) / batch_size",
        "sgd-quick",
        _audited("sgd-quick"),
    ),
    Planted(
        "layers clipped each, under noise for the whole",
        "dp/sample/bookkeeping.py",
        "norms = torch.stack([losses.new_zeros(len(losses), dtype=torch.float64), *squares.values()]).sum(0).sqrt()",
        "norms = torch.stack([losses.new_zeros(len(losses), dtype=torch.float64), *squares.values()]).amax(0).sqrt()",
        "sgd-quick",
        (f"{MODELS}::test_the_probe_passes_a_model_that_keeps_samples_apart",),
    ),
    Planted(
        "batches of one size instead of Poisson samples",
        "dp/sample/poisson.py",
        "chosen = np.arange(self.num_samples) if below == 2**64 else np.flatnonzero(words < np.uint64(below))",
        "chosen = np.sort(np.argsort(words)[: math.ceil(self.sample_rate * self.num_samples)])",
        # How often a canary was in varies a little less, under noise that is larger by far.
        "",
        (f"{POISSON}::test_every_sample_comes_with_its_rate_independently_of_the_others",),
    ),
    Planted(
        "division by the size of the batch that was drawn",
        "dp/sample/training.py",
        "        losses = self._clipped(inputs, targets)\n        self._optimizer.pre_step()\n",
        "        losses = self._clipped(inputs, targets)\n"
        "        self._optimizer.expected_batch_size = max(1, len(inputs))\n        self._optimizer.pre_step()\n",
        # One canary in a thousand moves the size of the batch by one, and a thousand others move it by chance.
        "",
        (f"{COMPONENT}::test_a_step_is_the_clipped_sum_over_the_expected_batch",),
    ),
    Planted(
        "the mean clipped, not each sample",
        "dp/sample/bookkeeping.py",
        "weights = clipping_weights(norms, self._clip_l2, losses.dtype)",
        "mean = [piece.weighted_sum(torch.ones_like(losses)).flatten() / len(losses) for _, piece in pieces]\n"
        "        weights = clipping_weights(torch.cat(mean).norm().expand_as(losses), self._clip_l2, losses.dtype)",
        "sgd-quick",
        (f"{COMPONENT}::test_a_step_is_the_clipped_sum_over_the_expected_batch",),
    ),
    Planted(
        "shares of noise that add up as if they were not independent",
        "dp/placement.py",
        "return sigma / math.sqrt(self.shares) * (1 + 2.0**-50)",
        "return sigma / self.shares * (1 + 2.0**-50)",
        "smpc-quick",
        _audited("smpc-quick"),
    ),
    Planted(
        "a pass charged as one step",
        "dp/sample/training.py",
        "        self._charge()\n",
        "        self._charge = self._charge() or (lambda: None)\n",
        "sgd-many-steps",
        _audited("sgd-many-steps"),
    ),
    Planted(
        "sampling that is counted twice",
        "dp/sample/component.py",
        "spending.step(owner, noise_multiplier=multiplier, sample_rate=rate)",
        "spending.step(owner, noise_multiplier=multiplier, sample_rate=rate * rate)",
        "sgd-sampled",
        # Half a minute: the suite has the charged rate compared instead.
        (f"{COMPONENT}::test_what_was_spent_is_that_of_the_client_that_spent_most",),
    ),
    Planted(
        "a weight that no cap holds",
        "secagg/fixedpoint.py",
        "upper = 1 if self.divisor is not None else self.max_weight",
        "upper = self.max_weight if self.divisor is None else MAX_WEIGHT",
        # The layer looks at the norm of the weighted integers: it refuses what is too long, so nothing is released.
        "",
        (f"{FIXED_POINT}::test_d9_no_weight_above_one_under_a_public_divisor",),
    ),
    Planted(
        "a seed that is fixed",
        "dp/placement.py",
        "fresh, share = mixed(rng), self.share(sigma)",
        "fresh, share = np.random.default_rng(0).bytes, self.share(sigma)",
        "dp-quick",
        _audited("dp-quick"),
    ),
)
