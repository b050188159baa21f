"""Images out of an update: one attack on what one party sees.

The adversary's own side comes first: the attack's parameters are chosen on public images behind the same defence,
with the same view, and what was tried is kept. No figure of a victim takes part in any choice.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fl_runtime.evaluation.attempts.labels import infer
from fl_runtime.evaluation.attempts.measured import Attempt, Measured
from fl_runtime.evaluation.attempts.scoring import Scorer, among
from fl_runtime.evaluation.attempts.victims import Sight, rounds
from fl_runtime.evaluation.matrix.catalogue import build_attack
from fl_runtime.evaluation.matrix.cells import Cell
from fl_runtime.seeds import derive
from secagg.leakage import Attack, Reconstruction, label_accuracy
from secagg.leakage.attacks import MatchedFilter

TUNING_IMAGES = 2


def invert(cell: Cell, model: nn.Module) -> Measured:
    """Attack the cell's victims. Raises what the attack raises."""
    scorer = Scorer(cell)
    victims = list(rounds(cell, model))
    hidden = any(sight.seen.visible is not None for attacked in victims for sight in attacked.sights)
    parameters, aware, search = tune(cell, model, scorer, hidden=hidden)
    attack = build_attack(cell.attack.kind, parameters)
    attempts: list[Attempt] = []
    together = max((len(sight.images) for attacked in victims for sight in attacked.sights), default=1)
    images = 0
    for number, attacked in enumerate(victims):
        for place, sight in enumerate(attacked.sights):
            if images < cell.images:
                seed = derive(cell.world.seed, "attack", cell.repeat, number, place)
                attempts.append(_attempt(cell, attack, sight, scorer, aware=aware, seed=seed))
                images += len(sight.images)
        if not attacked.sights:
            attempts += [scorer.guess(client, "nothing", "nothing") for client in attacked.bystanders]
    return Measured.of(
        attempts,
        needs=list(attack.needs),
        by_chance=scorer.by_chance(together, chooses=isinstance(attack, MatchedFilter)),
        search=search,
        upload_bytes=attacked.upload_bytes,
    )


def _attempt(cell: Cell, attack: Attack, sight: Sight, scorer: Scorer, *, aware: bool, seed: int) -> Attempt:
    if not _says_something(sight):
        # Which coordinates are hidden may still say a great deal.
        note = "every coordinate that is seen is zero; where they stand is not attacked here"
        return replace(scorer.guess(sight, sight.in_words, "blank"), cohort=len(sight.view.over), notes=(note,))
    rebuilt, means = _rebuild(cell, attack, sight, scorer, aware=aware, seed=seed), {}
    if cell.setting.labels != "known":
        means["labels_found"] = [label_accuracy(rebuilt.labels, sight.labels, measure="counts")]
    scored = scorer.score(sight.images, sight.labels, rebuilt.images, sight.in_words)
    if rebuilt.chosen:
        # Copies of candidates: who they are counts, and no figure of how clear they are.
        note = "images are chosen from the gallery, victims among it, and none is reconstructed"
        identified = among(sight.images, rebuilt.images).int().tolist()
        shares = {"identified": identified, "same_diagnosis": scored.shares["same_diagnosis"]}
        scored = replace(scored, means={}, shares=shares, pictures=None, notes=(note,))
    return replace(
        scored,
        cohort=len(sight.view.over),
        means=means | {"matching_loss": [rebuilt.objective]} | dict(scored.means),
        shares={"converged": [int(rebuilt.converged)]} | dict(scored.shares),
        iterations=rebuilt.iterations,
        seconds=rebuilt.seconds,
    )


def _rebuild(cell: Cell, attack: Attack, sight: Sight, scorer: Scorer, *, aware: bool, seed: int) -> Reconstruction:
    """What the attack makes of a sight. Of the victims' own it is given what an adversary has."""
    seen = sight.seen if aware else sight.seen.oblivious()
    if cell.setting.labels == "inferred":
        seen = seen.with_labels(infer(cell, seen, seed=seed))
    if isinstance(attack, MatchedFilter):
        seen = replace(seen, candidates=scorer.gallery(sight.images))
    return attack(seen, seed=seed)


def tune(
    cell: Cell, model: nn.Module, scorer: Scorer, *, hidden: bool
) -> tuple[dict[str, Any], bool, list[dict[str, Any]]]:
    """The attack's parameters, whether it leaves out what is hidden, if anything is, and what public images said.

    Whoever knows a defence may do as if not: zeros for what is hidden can be the better guess (of pruned coordinates
    they nearly are the values). So both are tried where they differ. The best is what identifies most images in a
    gallery of public ones, which is what counts as success, and of equals what correlates best with its original. PSNR
    would prefer a grey image to a noisy one that tells who it is.
    """
    fixed = dict(cell.attack.parameters)
    ways = [True, False] if hidden else [True]
    choices = [
        fixed | dict(zip(cell.search, values, strict=True)) for values in itertools.product(*cell.search.values())
    ]
    if len(ways) * len(choices) == 1:
        return fixed, True, []
    trial = cell.model_copy(update={"images": TUNING_IMAGES})
    practice: list[Sight] = []
    for sight in (sight for attacked in rounds(trial, model, public=True) for sight in attacked.sights):
        if _says_something(sight) and sum(len(kept.images) for kept in practice) < TUNING_IMAGES:
            practice.append(sight)
    tried: list[dict[str, Any]] = []
    for chosen, aware in itertools.product(choices, ways):
        scores = _practise(cell, chosen, practice, scorer, aware=aware)
        shown = chosen | ({"aware": aware} if hidden else {})
        tried.append({"parameters": shown, **scores, "images": sum(len(sight.images) for sight in practice)})
    best = max(range(len(tried)), key=lambda place: (tried[place]["identified"], tried[place]["correlation"]))
    return choices[best // len(ways)], ways[best % len(ways)], tried


def _says_something(sight: Sight) -> bool:
    return any(bool(part.any()) for part in sight.seen.gradient)


def _practise(
    cell: Cell, parameters: Mapping[str, Any], practice: list[Sight], scorer: Scorer, *, aware: bool
) -> dict[str, float]:
    """The mean figures of an attack on public images; zeros where there are none to practise on."""
    attack = build_attack(cell.attack.kind, parameters)
    figures: list[Tensor] = []
    for place, sight in enumerate(practice):
        seed = derive(cell.world.seed, "tune", cell.repeat, place)
        rebuilt = _rebuild(cell, attack, sight, scorer, aware=aware, seed=seed)
        figures.append(scorer.tuning(sight.images, rebuilt.images))
    means = torch.cat(figures).mean(0).tolist() if figures else [0.0, 0.0, 0.0]
    return dict(zip(("identified", "correlation", "psnr_db"), means, strict=True))
