"""The honest client whose update is attacked: gradients or local training, through a defence."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from secagg.errors import Refused
from secagg.leakage.attack import (
    LocalTraining,
    Loss,
    Observation,
    check_images,
    check_labels,
    class_loss,
    count_classes,
    generator,
)
from secagg.leakage.defences.defence import Defence
from secagg.leakage.statistics import batch_statistics


def observe(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    defence: Defence | None = None,
    local: LocalTraining | None = None,
    loss: Loss = class_loss,
    value_range: tuple[float, float] = (0.0, 1.0),
    know_labels: bool = True,
    know_statistics: bool = False,
    seed: int = 0,
) -> Observation:
    """Train on the examples as a client does, and return what leaves it.

    `model` is what the server sent (for a defence that changes the model: already `defence.model(...)`), in train or
    eval mode; it is left as it was. With `local`, plain SGD over batches drawn anew in every pass; otherwise one
    gradient of the mean loss.

    Args:
        images: shape `(n, *shape)`, within `value_range`, of the model's dtype.
        labels: class numbers, int64, shape `(n,)`.
        know_labels: whether the adversary is given the labels.
        know_statistics: whether it is given the batch's mean and variance at every BatchNorm layer.
        seed: steers batches, the model's own randomness, and the defence.

    Raises:
        Refused: images that are out of range or that the model does not take, labels that are no class numbers of it,
            or anything that `Observation` refuses.
    """
    check_images(images, value_range)
    if images.dtype != (expected := next(model.parameters()).dtype):
        raise Refused(f"images: dtype {images.dtype}, expected that of the model, {expected}")
    check_labels(labels, len(images), count_classes(model, images.shape[1:]))
    defence = defence or Defence()
    trained = copy.deepcopy(model)
    chance = generator(seed, "defence")
    shown = defence.examples(images, value_range, chance)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator(seed, "model"))))
        statistics = batch_statistics(model, shown) if know_statistics else None
        if local is None:
            gradient = list(torch.autograd.grad(loss(trained(shown), labels), list(trained.parameters())))
        else:
            gradient = _local_update(trained, shown, labels, local, loss, generator(seed, "batches"))
    seen = Observation(
        model,
        gradient,
        tuple(images.shape[1:]),
        len(images),
        value_range=value_range,
        labels=labels if know_labels else None,
        local=local,
        loss=loss,
        statistics=statistics,
    )
    return defence.share(seen, images, chance)


def _local_update(
    model: nn.Module, images: Tensor, labels: Tensor, local: LocalTraining, loss: Loss, chance: torch.Generator
) -> list[Tensor]:
    parameters = list(model.parameters())
    sent = [parameter.detach().clone() for parameter in parameters]
    for _ in range(local.epochs):
        order = torch.randperm(len(images), generator=chance)
        for start in range(0, len(images), local.batch_size):
            batch = order[start : start + local.batch_size]
            step = torch.autograd.grad(loss(model(images[batch]), labels[batch]), parameters)
            with torch.no_grad():
                for parameter, slope in zip(parameters, step, strict=True):
                    parameter.sub_(local.lr * slope)
    return [before - after.detach() for before, after in zip(sent, parameters, strict=True)]
