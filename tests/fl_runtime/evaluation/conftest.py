"""One tiny evaluation, run once: every family of attack that is quick, two repeats of three images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fl_runtime.config import load_as
from fl_runtime.evaluation.evaluate import Finished, evaluate
from fl_runtime.evaluation.matrix.settings import Evaluation

TINY = """
[evaluation]
name = "tiny"
title = "A tiny look & a <careful> one"
seed = 3
rounds = 2
images = 3
repeats = 2
gallery = 50

[data]
dataset = "digits"
clients = 4

[models.mlp]
name = "mlp"
hidden = [24]

[training]
local_epochs = 1
batch_size = 64

[backends.noisy]
backend = "dp"
noise_multiplier = 5.0

[defences.pruning]
share_pruned = 0.5

[attacks.inverting]
kind = "inverting-gradients"
iterations = 60
search = { tv = [1e-4, 1e-2] }

[[matrix]]
title = "Backends and a defence"
backend = ["plain", "secaggplus", "noisy"]
defence = ["none", "pruning"]
attack = ["inverting"]
adversary = ["server", "everybody"]

[[matrix]]
title = "Through training"
attack = ["analytic-linear"]
stage = ["untrained", "half", "trained"]

[[matrix]]
title = "Malicious"
backend = ["plain", "secaggplus"]
attack = ["imprint", "model-inconsistency", "labels"]
clients = [4]

[[matrix]]
title = "A model that the attack does not take"
attack = ["deep-leakage"]
local_epochs = [2]
"""


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluation") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def finished(tiny_file: Path) -> Finished:
    return evaluate(load_as(Evaluation, tiny_file), folder=tiny_file.parent / "cache")


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Evaluation]:
    """Settings of the tiny evaluation with overrides as on the command line, or with some text replaced."""

    def read(*overrides: str, **replaced: str) -> Evaluation:
        text = TINY
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "settings.toml").write_text(text)
        return load_as(Evaluation, tmp_path / "settings.toml", overrides)

    return read
