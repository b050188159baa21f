"""SPEAR: a whole batch exactly, from a fully connected layer that is followed by a ReLU.

Dimitrov et al. 2024, "SPEAR: Exact Gradient Inversion of Batches in Federated Learning" (arXiv 2403.03945). The
gradient dL/dW = dL/dZ X^T has the batch's size as its rank; a decomposition L R leaves an unknown mixing Q, dL/dZ =
L Q and X^T = Q^-1 R. ReLU makes dL/dZ sparse, and the sparsest L q give the columns of Q away.

The paper draws sets of rows until one lies within the zeros of a column, which takes 2^batch draws and more. Here the
length |L q|_1 is minimised on the sphere from random starts, by reweighted least squares (Spielman, Wang, Wright 2012,
"Exact recovery of sparsely-used dictionaries"; Daubechies et al. 2010): seconds for a batch of 24.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from secagg.errors import Refused
from secagg.leakage.attack import Observation, Progress, Reconstruction, Unsupported, generator
from secagg.leakage.attacks.inverting import one_step
from secagg.leakage.layers import LinearLayer, first_layer
from secagg.leakage.parameters import Count, Share, ShareOrAll, check

STARTS, SWEEPS = 256, 30


@dataclass(frozen=True)
class Spear:
    """Collect sparse columns until they agree with the ReLU of the images they imply.

    The gradient should be of float32 or better, without noise, of many more neurons than examples. Two linear layers
    with two outputs are not enough: there the difference of two columns is sparser than either, for like images.

    Attributes:
        starts: random starts, at most.
        zero: below which share of its column's largest value an entry counts as 0.
        agreement: the share of ReLU states that must agree for the attack to hold that it converged.
    """

    starts: Count = 16384
    zero: Share = 1e-4
    agreement: ShareOrAll = 0.999

    name: ClassVar[str] = "spear"
    needs: ClassVar[tuple[str, ...]] = ("the gradient of one step", "a linear first layer with biases and a ReLU")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, seen: Observation, /, *, seed: int, progress: Progress | None = None) -> Reconstruction:
        """Reconstruct; see `Attack`. The objective is the share of ReLU states that disagree; unknown labels are 0.

        Raises:
            Unsupported: the first layer is not linear, has no biases, or does not read the image.
            Refused: several local steps; a hidden or too small gradient; too few neurons or distinct examples.
        """
        one_step(seen, self.name)
        began = time.perf_counter()
        layer, offset, scale = first_layer(seen, self.name)
        if layer.bias is None or layer.bias_seen is None:
            raise Unsupported(f"{self.name}: layer {layer.name!r} has no biases, expected some")
        if not (layer.weight_seen.all() and layer.bias_seen.all()):
            raise Refused(f"{self.name}: the gradient of layer {layer.name!r} is hidden in part, expected all of it")
        left, right = _decompose(layer.weight, seen.examples)
        best, score, looked = self._search(seen, layer, left, right, seed, progress)
        low, high = seen.value_range
        images = ((best - offset) / scale).reshape(seen.examples, *seen.shape)
        return Reconstruction(
            images.float().nan_to_num(0).clamp(low, high),
            seen.labels if seen.labels is not None else torch.zeros(seen.examples, dtype=torch.int64),
            objective=1 - score,
            iterations=looked,
            seconds=time.perf_counter() - began,
            converged=score >= self.agreement,
        )

    def _search(
        self, seen: Observation, layer: LinearLayer, left: Tensor, right: Tensor, seed: int, progress: Progress | None
    ) -> tuple[Tensor, float, int]:
        """The inputs with the best agreement, shape `(examples, in)`, that agreement, and the starts made."""
        chance = generator(seed, self.name)
        size, looked = seen.examples, 0
        found = torch.empty((0, size), dtype=torch.float64)
        sparsity = torch.empty(0, dtype=torch.float64)
        best, score = torch.zeros((size, right.shape[1]), dtype=torch.float64), 0.0
        live = left[left.norm(dim=1) > self.zero * left.norm(dim=1).max()]
        # All neurons count alike, and all directions: without it, the strongest examples hide the others.
        rows, scales, axes = torch.linalg.svd(live / live.norm(dim=1, keepdim=True), full_matrices=False)
        while looked < self.starts and score < self.agreement:
            looked += STARTS
            fresh = F.normalize((_sparse_columns(rows, chance) / scales) @ axes)
            fresh_sparsity = self._sparsity(live, fresh)
            # Any local minimum has zeros, one fewer than examples; one that ReLU made has many more.
            keep = fresh_sparsity * len(live) >= 2 * (size - 1)
            found, sparsity = _distinct(
                torch.cat([found, fresh[keep]]), torch.cat([sparsity, fresh_sparsity[keep]]), limit=8 * size
            )
            if len(found) >= size and keep.any():
                inputs, agreement = self._solve(layer, left, right, _independent(found, size))
                if agreement > score:
                    best, score = inputs, agreement
            if progress:
                progress(looked, self.starts, 1 - score)
        return best, score, looked

    def _sparsity(self, live: Tensor, columns: Tensor) -> Tensor:
        """The share of zeros of L q for each q: `(k, examples)` to `(k,)`."""
        values = (columns @ live.T).abs()
        return (values < self.zero * values.amax(1, keepdim=True)).double().mean(1)

    def _solve(self, layer: LinearLayer, left: Tensor, right: Tensor, columns: Tensor) -> tuple[Tensor, float]:
        """The inputs that a mixing implies, and the share of ReLU states on which layer and gradient agree."""
        bias = torch.zeros(len(left)) if layer.bias is None else layer.bias
        if len(columns) < left.shape[1]:
            return torch.zeros((left.shape[1], right.shape[1]), dtype=torch.float64), 0.0
        directions = left @ columns.T
        # The biases' gradient is the sum over examples: it fixes the length and sign of every column.
        length = torch.linalg.lstsq(directions, bias.double()[:, None]).solution[:, 0]
        mixing = columns.T * length
        if not torch.linalg.cond(mixing) < 1e10:
            return torch.zeros((len(columns), right.shape[1]), dtype=torch.float64), 0.0
        inputs = torch.linalg.solve(mixing, right)
        slopes = (left @ mixing).abs()
        off = slopes < self.zero * slopes.amax(0, keepdim=True)
        states = inputs @ layer.module.weight.detach().double().T + layer.module.bias.detach().double()
        return inputs, float(((states.T <= 0) == off).double().mean())


def _decompose(gradient: Tensor, examples: int) -> tuple[Tensor, Tensor]:
    """L, with orthonormal columns, and R: L R is the best fit of the batch's rank, shapes `(out, b)` and `(b, in)`."""
    if min(gradient.shape) < examples:
        raise Refused(f"spear: a layer of {list(gradient.shape)} is too small for a batch of {examples}")
    u, s, v = torch.linalg.svd(gradient, full_matrices=False)
    if not s[examples - 1] > 1e-7 * s[0]:
        rank = int((s > 1e-7 * s[0]).sum())
        raise Refused(f"spear: the gradient has rank {rank}, expected {examples}: repeated examples or dead neurons")
    return u[:, :examples], s[:examples, None] * v[:examples]


def _sparse_columns(rows: Tensor, chance: torch.Generator) -> Tensor:
    """A unit vector q with sparse `rows @ q` from each of many starts: `(n, size)` to `(STARTS, size)`.

    Each sweep minimises the sum of squares weighted by the inverse of the last values, which tends to the sum of
    absolute values. The floor under the weights halves, so that early sweeps are not caught by the first zero.
    """
    columns = torch.randn((STARTS, rows.shape[1]), generator=chance, dtype=torch.float64)
    columns /= columns.norm(dim=1, keepdim=True)
    for sweep in range(SWEEPS):
        values = (columns @ rows.T).abs()
        weights = 1 / (values + values.mean(1, keepdim=True) * max(0.5**sweep, 1e-6))
        columns = torch.linalg.eigh((rows.T * weights[:, None]) @ rows).eigenvectors[:, :, 0]
    return columns


def _distinct(columns: Tensor, sparsity: Tensor, *, limit: int) -> tuple[Tensor, Tensor]:
    """The sparsest columns, each direction once, at most `limit`."""
    order = sparsity.argsort(descending=True, stable=True)
    columns, sparsity = columns[order], sparsity[order]
    kept: list[int] = []
    for index in range(len(columns)):
        if len(kept) == limit:
            break
        if not kept or (columns[kept] @ columns[index]).abs().max() < 1 - 1e-6:
            kept.append(index)
    return columns[kept], sparsity[kept]


def _independent(columns: Tensor, size: int) -> Tensor:
    """The first columns, up to `size`, of which none depends on those before it."""
    kept: list[int] = []
    basis = torch.empty((0, size), dtype=columns.dtype)
    for index, column in enumerate(columns):
        rest = column - basis.T @ (basis @ column)
        if rest.norm() > 1e-4:
            kept.append(index)
            basis = torch.cat([basis, (rest / rest.norm())[None]])
        if len(kept) == size:
            break
    return columns[kept]
