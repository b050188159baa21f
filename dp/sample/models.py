"""Which models DP-SGD can train: what is refused, what is converted when asked, and a probe of the rest.

A sample's gradient must be its own. Batch normalisation mixes samples, running statistics keep them past the noise, and
neither has a bounded sensitivity (D8).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dp.sample.clipping import Clipper, Criterion
from secagg.errors import Refused

# Of the clip. Float32 gives 1e-5 at most where a model is right; a Dice of the whole batch was off by 1e-2.
_TOLERANCE = 1e-3
# A gradient this much smaller than the clip decides nothing.
_SMALLEST = 1e-6


def require_separable(model: nn.Module) -> None:
    """Raise `Refused` for layers that mix samples or keep statistics of them, naming the first (D8)."""
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm):
            raise Refused(
                f"dp-sgd: {name!r} is a {type(layer).__name__}, which mixes the samples of a batch; set "
                "batch_norm='groupnorm' to have it replaced"
            )
        if getattr(layer, "track_running_stats", False):
            raise Refused(f"dp-sgd: {name!r} keeps running statistics, which no noise covers; do not track them")


def with_group_norm(model: nn.Module) -> nn.Module:
    """A copy of `model` with GroupNorm for every BatchNorm: gcd(32, channels) groups, the weights kept."""
    return _replaced(copy.deepcopy(model))


def _replaced(module: nn.Module) -> nn.Module:
    if isinstance(module, _BatchNorm):
        groups = math.gcd(32, module.num_features)
        norm = nn.GroupNorm(groups, module.num_features, eps=module.eps, affine=module.affine)
        if module.affine:
            norm.load_state_dict({"weight": module.weight, "bias": module.bias})
        return norm
    for name, child in module.named_children():
        setattr(module, name, _replaced(child))
    return module


def probe(
    model: nn.Module,
    twin: nn.Module,
    clipper: Clipper,
    criterion: Criterion,
    inputs: Any,
    targets: Any,
    *,
    clip_l2: float,
) -> bool:
    """Look at the first two samples, clipped together and each alone; True if that decided anything.

    Their losses are scaled so that both are clipped, one four times as hard as the other.

    `twin` is a copy of `model` that `clipper` has not touched. The probe sees what no list of layers does: samples that
    a home-made layer or a loss mixes, a parameter that is used outside its layer, a statistic that is kept. Dropout is
    off meanwhile. Gradients are left changed.

    Raises:
        Refused: they differ, or a buffer was changed; the worst parameter or the buffer is named (D8).
    """
    named = {name: own for name, own in model.named_parameters() if own.requires_grad}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    twin.load_state_dict(model.state_dict())
    with _without_chance(model), _without_chance(twin):
        _require_apart(twin, criterion, inputs[:2], targets[:2])
        alone = [_alone(twin, criterion, inputs[at : at + 1], targets[at : at + 1]) for at in (0, 1)]
        norms = [_norm(gradients) for gradients in alone]
        if min(norms) < _SMALLEST * clip_l2 or not all(map(math.isfinite, norms)):
            return False
        # Both are clipped, and not alike: rows that stand for other samples, or for parts of them, show.
        factors = [4 * clip_l2 / norms[0], 16 * clip_l2 / norms[1]]
        clipper.clipped_sum(_scaled(criterion, factors), inputs[:2], targets[:2])
        found = {name: torch.zeros_like(own) if own.grad is None else own.grad.clone() for name, own in named.items()}
    for name, buffer in model.named_buffers():
        if not torch.equal(buffer, buffers[name]):
            raise Refused(f"dp-sgd: buffer {name!r} changes in training, and no noise covers it")
    expected = {name: sum(clip_l2 / norms[at] * alone[at][name] for at in (0, 1)) for name in named}
    wrong = {name: float((found[name] - expected[name]).norm()) for name in named}
    worst = max(wrong, key=wrong.__getitem__)
    if math.hypot(*wrong.values()) > _TOLERANCE * clip_l2:
        raise Refused(
            f"dp-sgd: two samples' clipped gradients of {worst!r} are not those that each has alone (off by "
            f"{wrong[worst] / clip_l2:.1%} of the clip): it is used outside its layer, or samples are mixed"
        )
    return True


def _require_apart(model: nn.Module, criterion: Criterion, inputs: Any, targets: Any) -> None:
    """Refuse a loss of sample 0 that moves with sample 1, however little: its outputs, or what went in."""
    if inputs.is_floating_point():
        inputs = inputs.detach().clone().requires_grad_()
    outputs = model(inputs)
    loss = criterion(outputs, targets)[0]
    for what, tensor in (("loss", outputs), ("model", inputs)):
        if not (isinstance(tensor, Tensor) and tensor.requires_grad):
            continue
        (gradient,) = torch.autograd.grad(loss, tensor, retain_graph=True, allow_unused=True)
        if gradient is not None and bool(gradient[1:].any()):
            raise Refused(f"dp-sgd: the {what} mixes samples: the loss of one moves with another's data")


def _alone(model: nn.Module, criterion: Criterion, inputs: Any, targets: Any) -> dict[str, Tensor]:
    """The gradients of one sample, by plain autograd."""
    named = {name: own for name, own in model.named_parameters() if own.requires_grad}
    loss = criterion(model(inputs), targets).sum()
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(named.values(), found, strict=True)]
    return dict(zip(named, gradients, strict=True))


def _norm(gradients: Mapping[str, Tensor]) -> float:
    return math.hypot(*(float(torch.linalg.vector_norm(each, dtype=torch.float64)) for each in gradients.values()))


def _scaled(criterion: Criterion, factors: Sequence[float]) -> Criterion:
    """`criterion` with each sample's loss, hence its gradient, times a factor of its own."""
    return lambda outputs, targets: (losses := criterion(outputs, targets)) * losses.new_tensor(factors)


@contextmanager
def _without_chance(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for everything that has no parameters of its own: Opacus records layers in training only."""
    quiet = [m for m in model.modules() if m.training and not any(True for _ in m.parameters(recurse=False))]
    for module in quiet:
        module.training = False
    try:
        yield
    finally:
        for module in quiet:
            module.training = True
