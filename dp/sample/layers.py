"""What one layer gives to per-sample clipping: the norms of its samples' gradients, and their weighted sum.

A rule takes a layer's input and the gradient at its output, both of the whole batch, and returns a `Piece` for each
trainable parameter. No rule needs another pass through the model (Goodfellow 2015, arXiv 1510.01799; Bu et al. 2023,
"book-keeping", arXiv 2210.00038): a sample's rows of the two tensors hold all that its gradient is made of.

Convolutions are one grouped convolution over the batch, a group a sample: what it gives as the gradient of its
weights are the gradients of every sample (Rochette et al. 2019, arXiv 1912.06015).

Guarantee: norms and sums are those of the per-sample gradients, up to float32 rounding. Where a gradient is never
formed, and its terms cancel, rounding may be most of what is left of it; the norm then counts the rounding too, so that
no more than the clip is released.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class Piece(Protocol):
    """The gradients of one parameter for the `n` samples of a batch, by whatever costs least."""

    def squared_norms(self) -> Tensor:
        """float64 `(n,)`: the squared L2 norm of each sample's gradient; not finite where that is not."""

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """The sum over samples of weight times gradient; `weights` float `(n,)`, the result the parameter's size."""


Pieces = dict[str, Piece]
# Rounding of a sum beside its norm: within the allowance of dp.sample.optimizer, and counted above.
_NEGLIGIBLE = 2.0**-13
Rule = Callable[[Any, Tensor, Tensor], Pieces]


@dataclass(frozen=True)
class Whole(Piece):
    """Gradients as they are: `(n, size)`."""

    gradients: Tensor

    def squared_norms(self) -> Tensor:
        return _norms(self.gradients).square()

    def weighted_sum(self, weights: Tensor) -> Tensor:
        return weights @ self.gradients


@dataclass(frozen=True)
class Outer(Piece):
    """Gradients that are outer products of `left (n, o)` and `right (n, i)`: never formed."""

    left: Tensor
    right: Tensor

    def squared_norms(self) -> Tensor:
        return (_norms(self.left) * _norms(self.right)).square()

    def weighted_sum(self, weights: Tensor) -> Tensor:
        return (self.left * weights[:, None]).T @ self.right


@dataclass(frozen=True)
class OuterSum(Piece):
    """Gradients that are sums of T outer products, `left (n, T, o)` and `right (n, T, i)`: never formed.

    |sum_t l_t r_t'|^2 = sum_st (l_s . l_t)(r_s . r_t), which is less work where T is short (Li et al. 2022, "ghost
    clipping", arXiv 2110.05679).
    """

    left: Tensor
    right: Tensor

    def squared_norms(self) -> Tensor:
        left, right = self.left.double(), self.right.double()
        found = ((left @ left.mT) * (right @ right.mT)).sum((1, 2))
        return _with_rounding(found, (_norms(self.left, -1) * _norms(self.right, -1)).sum(1), self.left)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        return (self.left * weights[:, None, None]).flatten(0, 1).T @ self.right.flatten(0, 1)


@dataclass(frozen=True)
class Rows(Piece):
    """Gradients of a table whose rows were looked up: `rows (n, T)` and what reached each, `values (n, T, d)`."""

    rows: Tensor
    values: Tensor
    table: tuple[int, int]

    def squared_norms(self) -> Tensor:
        same = self.rows[:, :, None] == self.rows[:, None, :]
        values = self.values.double()
        found = ((values @ values.mT) * same).sum((1, 2))
        return _with_rounding(found, _norms(self.values, -1).sum(1), self.values)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        total = self.values.new_zeros(self.table)
        return total.index_add_(0, self.rows.flatten(), (self.values * weights[:, None, None]).flatten(0, 1))


def _norms(vectors: Tensor, dim: int = 1) -> Tensor:
    """float64: no square of a float32 over- or underflows."""
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=dim, dtype=torch.float64)
    return norms


def _with_rounding(squares: Tensor, terms: Tensor, summed: Tensor) -> Tensor:
    """The squared norms of sums of terms, from their float64 `squares` and the sum of the terms' norms.

    The sum that is released is taken in the precision of `summed (n, T, ...)`, and errs by up to T units of rounding of
    `terms`. Where that is not small beside the norm, it is added to it.
    """
    found = squares.clamp(min=0).sqrt()
    rounding = summed.shape[1] * torch.finfo(summed.dtype).eps * terms
    return torch.where(rounding > _NEGLIGIBLE * found, found + rounding, found).square()


def rule_for(layer: nn.Module) -> Rule | None:
    """The rule of this layer, or None. Subclasses have none: what they compute is not known."""
    if isinstance(layer, nn.GroupNorm | nn.LayerNorm | nn.PReLU | nn.Embedding) and type(layer) not in _RULES:
        return None
    if isinstance(layer, nn.Embedding) and (layer.max_norm is not None or layer.scale_grad_by_freq):
        return None  # The first changes weights in the forward pass, the second counts over the batch.
    if isinstance(layer, nn.modules.instancenorm._InstanceNorm) and layer.track_running_stats:
        return None
    return _RULES.get(type(layer))


def _linear(layer: nn.Linear, inputs: Tensor, gradients: Tensor) -> Pieces:
    if inputs.dim() == 2:
        return {"weight": Outer(gradients, inputs), "bias": Whole(gradients)}
    left, right = gradients.flatten(1, -2), inputs.flatten(1, -2)
    length = left.shape[1]
    if length * (layer.in_features + layer.out_features) <= layer.in_features * layer.out_features:
        weight: Piece = OuterSum(left, right)
    else:
        weight = Whole((left.mT @ right).flatten(1))
    return {"weight": weight, "bias": Whole(left.sum(1))}


def _convolution(layer: Any, inputs: Tensor, gradients: Tensor) -> Pieces:
    padding = layer.padding
    if layer.padding_mode != "zeros" or isinstance(padding, str):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        inputs = functional.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
        padding = (0,) * len(layer.kernel_size)
    weight = _per_sample_kernels(layer, inputs, gradients, padding=padding)
    return {"weight": Whole(weight), "bias": Whole(gradients.flatten(2).sum(2))}


def _transposed_convolution(layer: Any, inputs: Tensor, gradients: Tensor) -> Pieces:
    # The gradient of a transposed convolution's weights is that of the convolution that it transposes: back from
    # its output to its input.
    weight = _per_sample_kernels(layer, gradients, inputs, padding=layer.padding)
    return {"weight": Whole(weight), "bias": Whole(gradients.flatten(2).sum(2))}


def _per_sample_kernels(layer: Any, inputs: Tensor, gradients: Tensor, *, padding: tuple[int, ...]) -> Tensor:
    """Per-sample gradients of a convolution's weights, `(n, size)`: one grouped convolution, a group a sample."""
    count = len(inputs)
    shape = (count * layer.weight.shape[0], *layer.weight.shape[1:])
    # Its values are not read for the gradient of the weights, only its shape.
    weight = layer.weight.detach().new_empty(1).expand(shape)
    _, found, _ = torch.ops.aten.convolution_backward(
        gradients.reshape(1, -1, *gradients.shape[2:]),
        inputs.reshape(1, -1, *inputs.shape[2:]),
        weight,
        None,
        list(layer.stride),
        list(padding),
        list(layer.dilation),
        False,
        [0] * len(padding),
        count * layer.groups,
        [False, True, False],
    )
    kernels: Tensor = found.reshape(count, -1)
    return kernels


def _group_norm(layer: nn.GroupNorm, inputs: Tensor, gradients: Tensor) -> Pieces:
    return _per_channel(functional.group_norm(inputs, layer.num_groups, eps=layer.eps), gradients)


def _instance_norm(layer: Any, inputs: Tensor, gradients: Tensor) -> Pieces:
    return _per_channel(functional.instance_norm(inputs, eps=layer.eps), gradients)


def _per_channel(normal: Tensor, gradients: Tensor) -> Pieces:
    gradients = gradients.flatten(2) if gradients.dim() > 2 else gradients[:, :, None]
    weight = normal.reshape(gradients.shape).mul_(gradients).sum(2)
    return {"weight": Whole(weight), "bias": Whole(gradients.sum(2))}


def _layer_norm(layer: nn.LayerNorm, inputs: Tensor, gradients: Tensor) -> Pieces:
    normal = functional.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    shape = (len(inputs), -1, math.prod(layer.normalized_shape))
    gradients = gradients.reshape(shape)
    return {"weight": Whole(normal.reshape(shape).mul_(gradients).sum(1)), "bias": Whole(gradients.sum(1))}


def _prelu(layer: nn.PReLU, inputs: Tensor, gradients: Tensor) -> Pieces:
    slopes = gradients * inputs.clamp(max=0)
    if layer.num_parameters == 1:
        return {"weight": Whole(slopes.flatten(1).sum(1, keepdim=True))}
    return {"weight": Whole(slopes.reshape(len(inputs), layer.num_parameters, -1).sum(2))}


def _embedding(layer: nn.Embedding, inputs: Tensor, gradients: Tensor) -> Pieces:
    rows, values = inputs.reshape(len(inputs), -1), gradients.reshape(len(inputs), -1, layer.embedding_dim)
    if layer.padding_idx is not None:
        values = values * (rows != layer.padding_idx)[:, :, None]
    return {"weight": Rows(rows, values, (layer.num_embeddings, layer.embedding_dim))}


_RULES: Mapping[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.ConvTranspose1d: _transposed_convolution,
    nn.ConvTranspose2d: _transposed_convolution,
    nn.ConvTranspose3d: _transposed_convolution,
    nn.GroupNorm: _group_norm,
    nn.InstanceNorm1d: _instance_norm,
    nn.InstanceNorm2d: _instance_norm,
    nn.InstanceNorm3d: _instance_norm,
    nn.LayerNorm: _layer_norm,
    nn.PReLU: _prelu,
    nn.Embedding: _embedding,
}
