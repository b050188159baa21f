"""How much of each image came back, and what could have been guessed without an update."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fl_runtime.evaluation.attempts.measured import Attempt, Kind
from fl_runtime.evaluation.attempts.victims import Client, Sight
from fl_runtime.evaluation.matrix.catalogue import build_defence
from fl_runtime.evaluation.matrix.cells import Cell
from fl_runtime.evaluation.matrix.world import dataset, value_range
from fl_runtime.seeds import derive
from secagg.errors import Refused
from secagg.leakage import LPIPS, correlation, identified, match, mse, psnr, rdlv, ssim

CHANCES = 400


def among(originals: Tensor, images: Tensor) -> Tensor:
    """Which originals are among the images, whatever their order: bool, shape `(n,)`."""
    return (originals[:, None] == images[None]).flatten(2).all(2).any(1)


@cache
def load_lpips(paths: tuple[str, ...]) -> LPIPS:
    """LPIPS with the weights in one file or two, read once in each process. Raises `Refused`."""
    try:
        return LPIPS.load(paths[0], heads=paths[1] if len(paths) > 1 else None)
    except Refused as error:
        raise Refused(f"evaluation.lpips: {error}") from None


class Scorer:
    """Holds reconstructions against originals, with what the adversary could have guessed beside them."""

    def __init__(self, cell: Cell) -> None:
        data = dataset(cell.world)
        self._cell, self._range = cell, value_range(cell.world)
        self._public = torch.from_numpy(data.test.features)
        self._classes = torch.from_numpy(data.test.labels)
        self._judge = _Judge(self._public, self._classes)
        self._lpips = None if cell.lpips is None else load_lpips(cell.lpips.paths)

    def by_chance(self, together: int, *, chooses: bool) -> float:
        """The share of public images that are identified without an update, the larger of two ways.

        One is the same best guess for everybody. The other are images of others, of the same classes where these are
        known, and `together` of them paired with their victims as reconstructions are: of many guesses one is always
        near. An attack that chooses from the gallery is held against choosing there by lot.
        """
        images, labels = self._filler(self._cell.gallery)
        alike = self._identified(self._prior(labels), images, torch.arange(len(images)))
        others, classes = images, labels
        if not chooses and len(self._public) >= len(images) + together:
            others, classes = (shuffled[len(images) :] for shuffled in self._filler(len(self._public)))
        chance = torch.Generator().manual_seed(derive(self._cell.world.seed, "chance", self._cell.repeat))
        sought, guesses = [], []
        for _ in range(-(-CHANCES // together)):
            victims = torch.randperm(len(images), generator=chance)[:together]
            order = torch.randperm(len(others), generator=chance)
            drawn = others[order[self._of_classes(labels[victims], classes[order])]]
            sought.append(victims)
            guesses.append(drawn if chooses else drawn[match(drawn, images[victims], value_range=self._range)])
        if chooses:
            by_lot = torch.cat([among(images[at], drawn) for at, drawn in zip(sought, guesses, strict=True)])
        else:
            by_lot = self._identified(torch.cat(guesses), images, torch.cat(sought))
        return max(float(found.float().mean()) for found in (alike, by_lot))

    def _of_classes(self, labels: Tensor, classes: Tensor) -> list[int]:
        """For each label the first place that is left: of its class where the adversary knows it and one is left."""
        left = list(range(len(classes)))
        knows = self._cell.setting.labels != "unknown"
        return [
            left.pop(next((at for at, place in enumerate(left) if not knows or classes[place] == label), 0))
            for label in labels
        ]

    def guess(self, victim: Client | Sight, sees: str, kind: Kind) -> Attempt:
        """What is left where an update says nothing: the best guess without one."""
        scored = self.score(victim.images, victim.labels, self._prior(victim.labels), sees)
        return replace(scored, kind=kind, pictures=None)

    def score(self, originals: Tensor, labels: Tensor, images: Tensor, sees: str) -> Attempt:
        """The figures of each image, once they are paired."""
        images = images[match(images, originals, value_range=self._range)]
        both = (images, self._prior(labels))
        likeness, guess = (ssim(x, originals, value_range=self._range) for x in both)
        usable = guess > 0.01  # below, the ratio has no meaning
        beyond = torch.full_like(guess, float("nan"))
        beyond[usable] = rdlv(likeness[usable], guess[usable])
        decibels, blind = (psnr(x, originals, value_range=self._range) for x in both)
        gallery, places = self.gallery(originals), torch.arange(len(originals))
        means = {
            "psnr_db": decibels.tolist(),
            "guess_db": blind.tolist(),
            "ssim": likeness.tolist(),
            "mse": mse(images, originals, value_range=self._range).tolist(),
            "rdlv": beyond.tolist(),
        }
        if self._lpips is not None:
            means["lpips"] = self._lpips(images, originals, value_range=self._range).tolist()
        return Attempt(
            sees,
            means=means,
            shares={
                "identified": self._identified(images, gallery, places).int().tolist(),
                "reconstructed": (decibels >= blind.clamp(min=self._cell.good_db)).int().tolist(),
                "same_diagnosis": self._judge.agrees(images, originals).astype(int).tolist(),
            },
            pictures=np.stack([self._bytes(originals), self._bytes(images)], axis=1),
        )

    def tuning(self, originals: Tensor, images: Tensor) -> Tensor:
        """Identified, correlation and PSNR of each image: shape `(n, 3)`."""
        images = images[match(images, originals, value_range=self._range)]
        found = self._identified(images, self.gallery(originals), torch.arange(len(originals)))
        likeness = correlation(images, originals, value_range=self._range, variants=self._variants(originals))
        return torch.stack([found, likeness.diagonal(), psnr(images, originals, value_range=self._range)], 1)

    def gallery(self, originals: Tensor) -> Tensor:
        """The originals first, and public images beside them: none of them twice."""
        others, _ = self._filler(max(0, self._cell.gallery - len(originals)))
        return torch.cat([originals, others[~among(others, originals)]])

    def _identified(self, images: Tensor, gallery: Tensor, places: Tensor) -> Tensor:
        return identified(images, gallery, places, value_range=self._range, variants=self._variants(gallery))

    def _variants(self, gallery: Tensor) -> Iterable[Tensor]:
        """An adversary who knows the defence compares with all that it makes of an image."""
        if not self._cell.setting.adaptive:
            return ()
        return build_defence(self._cell.defence.kind, self._cell.defence.parameters).variants(gallery, self._range)

    def _prior(self, labels: Tensor) -> Tensor:
        """For each label the mean public image, of its class where the adversary knows it: shape `(n, *shape)`."""
        knows = self._cell.setting.labels != "unknown"
        means = [self._public[self._classes == label] if knows else self._public for label in labels]
        return torch.stack([(chosen if len(chosen) else self._public).mean(0) for chosen in means])

    def _filler(self, count: int) -> tuple[Tensor, Tensor]:
        """Public images for a gallery, and their labels."""
        chance = torch.Generator().manual_seed(derive(self._cell.world.seed, "gallery", self._cell.repeat))
        places = torch.randperm(len(self._public), generator=chance)[:count]
        return self._public[places], self._classes[places]

    def _bytes(self, images: Tensor) -> NDArray[np.uint8]:
        low, high = self._range
        scaled: NDArray[np.uint8] = ((images - low) / (high - low) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
        return scaled


class _Judge:
    """A classifier of the adversary's own, fitted to public images and to nothing that was attacked."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        from sklearn.linear_model import LogisticRegression

        self._model = LogisticRegression(max_iter=500).fit(images.flatten(1).numpy(), labels.numpy())

    def agrees(self, images: Tensor, originals: Tensor) -> Any:
        first, second = (self._model.predict(x.flatten(1).numpy()) for x in (images, originals))
        return first == second
