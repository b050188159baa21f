"""Evaluation files: what is refused, and in which words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fl_runtime.config import load_as
from fl_runtime.evaluation.evaluate import plan
from fl_runtime.evaluation.matrix.settings import Evaluation
from secagg.errors import Refused

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "evaluations").glob("*.toml"))


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("evaluation.imagez=3", "evaluation.imagez: unknown key (did you mean 'images'?)"),
        ("evaluation.images=0", "evaluation.images: should be greater than or equal to 1"),
        ("evaluation.utility=f1", "evaluation.utility: should be 'accuracy' or 'auc'"),
        ("data.dataset=heart_disease", "data.path: required"),
        ("data.dataset=breast_cancer", "data.dataset: 'breast_cancer' holds no images"),
        ("attacks.other.kind=deep-leak", "attacks.other.kind: unknown name 'deep-leak' (did you mean 'deep-leakage'?)"),
        ("defences.other.kind=prunning", "defences.other.kind: unknown name 'prunning' (did you mean 'pruning'?)"),
        ("models.mlp.hiden=3", "models.mlp.hiden: unknown key (did you mean 'hidden'?)"),
        ("defences.none.kind=pruning", "defences.none: this name is the undefended control's"),
        ("backends.plain.backend=smpc", "backends.plain: this name is the undefended control's"),
        ("backends.ckks.backend=smpc", "backends.ckks: this name is that of another kind than 'smpc'"),
        ("models.mlp.hidden=[0]", "models.mlp.hidden.0: should be greater"),
        ("models.mine.name=small", "models.mine.name: unknown name 'small'"),
        ('models.mine={name="small_cnn",channels=[8,0]}', "models.mine.channels.1: should be greater"),
        ("attacks.inverting.tv=1e-3", "attacks.inverting.search.tv: fixed as well"),
    ],
)
def test_a_mistake_is_named(tiny_file: Path, override: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        load_as(Evaluation, tiny_file, [override])
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["inverting-gradient", ""])
def test_an_unknown_kind_of_an_attack_that_a_matrix_asks_for_is_named(settings, kind: str) -> None:
    with pytest.raises(Refused, match=r"attacks\.inverting\.kind: unknown name"):
        settings(**{'kind = "inverting-gradients"': f'kind = "{kind}"'})


@pytest.mark.parametrize(
    ("line", "instead", "reason"),
    [
        (
            'title = "Malicious"',
            'title = "Malicious"\nbatches = [1]',
            "matrix.2.batches: unknown key (did you mean 'batch'?)",
        ),
        ('stage = ["untrained", "half", "trained"]', 'stage = ["early"]', "matrix.1.stage.0: should be 'untrained'"),
        ('stage = ["untrained", "half", "trained"]', "stage = []", "matrix.1.stage: "),
        ("clients = [4]\n\n", "clients = [4, 4]\n\n", "matrix.2.clients: expected no value twice"),
        ("clients = [4]\n\n", "clients = [2]\n\n", "matrix.2.clients.0: should be greater than or equal to 3"),
        ('attack = ["deep-leakage"]', 'attack = ["deep-leak"]', "matrix.3.attack: unknown name 'deep-leak'"),
        ('attack = ["deep-leakage"]', 'attack = ["labels"]\nmodel = ["cnn"]', "matrix.3.model: no [models.cnn]"),
        ("clients = [4]\n\n", 'labels = ["unknown"]\n\n', "matrix.2.labels: 'imprint' does not depend on it"),
        ('attack = ["deep-leakage"]', 'attack = ["membership"]', "matrix.3.local_epochs: 'membership' does not depend"),
        (
            'attack = ["analytic-linear"]',
            'attack = ["membership"]',
            "matrix.1.stage: 'membership' takes 'trained' only",
        ),
    ],
)
def test_a_mistake_in_the_matrix_names_its_table(settings, line: str, instead: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        settings(**{line: instead})
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("attacks.inverting.iteration=3", "attack 'inverting-gradients': unknown parameter 'iteration'"),
        ("attacks.inverting.iterations=0", "iterations is 0, expected a whole number from 1"),
        ("defences.pruning.share_pruned=2.0", "share_pruned is 2.0"),
        ("attacks.imprint.bin=3", "attack 'imprint': unknown parameter 'bin' .did you mean 'bins'"),
        ("attacks.imprint.bins=1", "bins is 1"),
        ("attacks.labels.depth=1", "attack 'labels': unknown parameter 'depth'"),
        ("backends.noisy.noise=9", "noise"),
        ("evaluation.gallery=5000", "evaluation.gallery: 5000 images, the data has 360 public ones"),
    ],
)
def test_a_part_that_cannot_be_built_is_refused_before_anything_is_computed(settings, override, reason) -> None:
    with pytest.raises(Refused, match=reason):
        plan(settings(override))


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        ('attack = ["analytic-linear"]\nadversary = ["helper"]', "matrix.adversary: 'helper': backend 'plain' has 0"),
        ('attack = ["labels"]\nstatistics = ["known"]', "matrix.statistics: 'known', and model 'mlp' has 0 BatchNorm"),
        ('attack = ["labels"]\nbatch = [1000]', "matrix: 3 clients of 1000 images, the data has 1437 training rows"),
    ],
)
def test_settings_that_fit_no_part_are_refused_before_anything_is_computed(settings, matrix: str, reason: str) -> None:
    evaluation = settings(**{'attack = ["deep-leakage"]\nlocal_epochs = [2]': matrix})
    with pytest.raises(Refused, match=reason):
        plan(evaluation)


def test_an_attack_that_ignores_labels_has_no_rows_for_them(settings) -> None:
    with pytest.raises(Refused, match=r"matrix\.1\.labels: 'analytic-linear' does not depend on it"):
        settings(**{'attack = ["analytic-linear"]': 'attack = ["analytic-linear"]\nlabels = ["known", "unknown"]'})


def test_reading_an_evaluation_loads_no_torch(tiny_file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fl_runtime.config import load_as\n"
        "from fl_runtime.evaluation.matrix.settings import Evaluation\n"
        "from fl_runtime.evaluation.matrix.cells import expand\n"
        f"expand(load_as(Evaluation, Path({str(tiny_file)!r})))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_can_be_planned(path: Path, real_data: Path) -> None:
    evaluation = load_as(Evaluation, path)
    assert len(plan(evaluation)) > 10
    assert evaluation.evaluation.repeats >= 3
    assert evaluation.evaluation.images >= 10
