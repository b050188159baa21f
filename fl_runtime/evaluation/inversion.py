"""Images out of an update: one attack on what one party sees, and how much of each image came back.

The adversary's own side comes first: the attack's parameters are chosen on public images behind the same defence,
with the same view, and what was tried is kept. No figure of a victim takes part in any choice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fl_runtime.evaluation.catalogue import IMAGE_RANGES, build_attack
from fl_runtime.evaluation.cells import Cell
from fl_runtime.evaluation.labels import infer
from fl_runtime.evaluation.measured import Measured
from fl_runtime.evaluation.victims import Client, Sight, dataset, rounds
from fl_runtime.seeds import derive
from secagg.leakage import Reconstruction, identified, label_accuracy, match, mse, psnr, rdlv, ssim

TUNING_IMAGES = 2


def invert(cell: Cell, model: nn.Module) -> Measured:
    """Attack the cell's victims. Raises what the attack raises."""
    found = Measured(success="identified", kind="nothing")
    parameters = tune(cell, model, found)
    attack = build_attack(cell.attack.kind, parameters)
    found.needs = list(attack.needs)
    scorer = _Scorer(cell)
    pictures: list[Any] = []
    for number, attacked in enumerate(rounds(cell, model)):
        found.upload_bytes = attacked.upload_bytes
        for place, sight in enumerate(attacked.sights):
            if len(found.means.get("psnr_db", ())) >= cell.images:
                break
            found.cohort = len(sight.view.over)
            seed = derive(cell.world.seed, "attack", cell.repeat, number, place)
            seen = sight.seen
            if cell.setting.labels == "inferred":
                inferred = infer(cell, seen, seed=seed)
                seen = seen.with_labels(inferred)
                found.mean("labels_found", label_accuracy(inferred, sight.labels, measure="counts"))
            if _says_something(sight):
                found.saw(sight.in_words)
                found.kind = "measured"
                pictures += scorer.add(found, sight.images, sight.labels, attack(seen, seed=seed))
            else:
                # Which coordinates are hidden may still say a great deal.
                found.notes = ["every coordinate that is seen is zero; where they stand is not attacked here"]
                found.kind = "blank" if found.kind == "nothing" else found.kind
                _nothing(found, scorer, sight.victims)
        if not attacked.sights:
            _nothing(found, scorer, attacked.bystanders)
    found.blind = {"identified": scorer.by_chance()}
    found.pictures = np.stack(pictures) if pictures else None
    return found


def tune(cell: Cell, model: nn.Module, found: Measured) -> dict[str, Any]:
    """The attack's parameters: as given, and of those to search the values that did best on public images."""
    fixed = dict(cell.attack.parameters)
    if not cell.search:
        return fixed
    trial = cell.model_copy(update={"images": TUNING_IMAGES})
    sights = (sight for attacked in rounds(trial, model, public=True) for sight in attacked.sights)
    practice = list(itertools.islice(filter(_says_something, sights), TUNING_IMAGES))
    best, best_score = fixed, -np.inf
    for values in itertools.product(*cell.search.values()):
        chosen = fixed | dict(zip(cell.search, values, strict=True))
        score = _score(cell, chosen, practice) if practice else 0.0
        found.search.append({"parameters": chosen, "psnr_db": score, "images": sum(len(s.images) for s in practice)})
        if score > best_score:
            best, best_score = chosen, score
    return best


def _says_something(sight: Sight) -> bool:
    return any(bool(part.any()) for part in sight.seen.gradient)


def _score(cell: Cell, parameters: Mapping[str, Any], practice: list[Sight]) -> float:
    attack = build_attack(cell.attack.kind, parameters)
    value_range = IMAGE_RANGES[cell.world.data.dataset]
    scores = []
    for place, sight in enumerate(practice):
        images = attack(sight.seen, seed=derive(cell.world.seed, "tune", cell.repeat, place)).images
        paired = images[match(images, sight.images, value_range=value_range)]
        scores += psnr(paired, sight.images, value_range=value_range).tolist()
    return float(np.mean(scores))


def _nothing(found: Measured, scorer: _Scorer, victims: Sequence[Client]) -> None:
    """The adversary reads nothing of an update: what is left is the best guess without one."""
    found.saw("nothing")
    for victim in victims:
        guess = scorer.prior(None).expand_as(victim.images)
        scorer.add(found, victim.images, victim.labels, Reconstruction(guess, victim.labels, float("nan")))


class _Scorer:
    """Holds reconstructions against originals, with what the adversary could have guessed beside them."""

    def __init__(self, cell: Cell) -> None:
        self._data = dataset(cell.world.model_dump_json())
        self._range = IMAGE_RANGES[cell.world.data.dataset]
        self._cell = cell
        self._public = torch.from_numpy(self._data.test.features)
        self._classes = torch.from_numpy(self._data.test.labels)
        self._judge = _Judge(self._public, self._classes)

    def prior(self, label: int | None) -> Tensor:
        """The mean public image, of one class where the adversary knows it: shape `shape`."""
        chosen = self._public if label is None else self._public[self._classes == label]
        return (chosen if len(chosen) else self._public).mean(0)

    def by_chance(self) -> float:
        """The share of public images that a gallery gives away to the best guess without an update."""
        images, labels = self._filler(self._cell.gallery)
        knows = self._cell.setting.labels != "unknown"
        guesses = torch.stack([self.prior(int(label) if knows else None) for label in labels])
        return float(identified(guesses, images, torch.arange(len(images)), value_range=self._range).float().mean())

    def add(self, found: Measured, originals: Tensor, labels: Tensor, rebuilt: Reconstruction) -> list[Any]:
        """Score one reconstruction; returns pairs of pictures."""
        order = match(rebuilt.images, originals, value_range=self._range)
        images = rebuilt.images[order]
        knows = self._cell.setting.labels != "unknown"
        prior = torch.stack([self.prior(int(label) if knows else None) for label in labels])
        likeness, guess = (ssim(x, originals, value_range=self._range) for x in (images, prior))
        usable = guess > 0.01  # below, the ratio has no meaning
        beyond = torch.full_like(guess, float("nan"))
        beyond[usable] = rdlv(likeness[usable], guess[usable])
        decibels = psnr(images, originals, value_range=self._range)
        errors = mse(images, originals, value_range=self._range)
        figures = {"psnr_db": decibels, "ssim": likeness, "mse": errors, "rdlv": beyond}
        same = self._judge.agrees(images, originals)
        hits = self._identified(images, originals)
        for i in range(len(originals)):
            for name, values in figures.items():
                found.mean(name, float(values[i]))
            found.share("identified", bool(hits[i]))
            found.share("reconstructed", bool(decibels[i] >= self._cell.good_db))
            found.share("same_diagnosis", bool(same[i]))
        if math.isfinite(rebuilt.objective):
            found.kind = "measured"
            found.mean("matching_loss", rebuilt.objective)
            found.share("converged", rebuilt.converged)
            found.iterations += rebuilt.iterations
            found.seconds += rebuilt.seconds
            if self._cell.setting.labels == "unknown":
                found.mean("labels_found", label_accuracy(rebuilt.labels, labels, measure="counts"))
        pairs = zip(originals, images, strict=True)
        return [np.stack([self._bytes(original), self._bytes(image)]) for original, image in pairs]

    def _identified(self, images: Tensor, originals: Tensor) -> Tensor:
        others, _ = self._filler(max(0, self._cell.gallery - len(originals)))
        gallery = torch.cat([originals, others])
        return identified(images, gallery, torch.arange(len(originals)), value_range=self._range)

    def _filler(self, count: int) -> tuple[Tensor, Tensor]:
        """Public images for a gallery, and their labels."""
        chance = torch.Generator().manual_seed(derive(self._cell.world.seed, "gallery", self._cell.repeat))
        places = torch.randperm(len(self._public), generator=chance)[:count]
        return self._public[places], self._classes[places]

    def _bytes(self, image: Tensor) -> Any:
        low, high = self._range
        return ((image - low) / (high - low) * 255).round().clamp(0, 255).to(torch.uint8).numpy()


class _Judge:
    """A classifier of the adversary's own, fitted to public images and to nothing that was attacked."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        from sklearn.linear_model import LogisticRegression

        self._model = LogisticRegression(max_iter=500).fit(images.flatten(1).numpy(), labels.numpy())

    def agrees(self, images: Tensor, originals: Tensor) -> Any:
        first, second = (self._model.predict(x.flatten(1).numpy()) for x in (images, originals))
        return first == second
