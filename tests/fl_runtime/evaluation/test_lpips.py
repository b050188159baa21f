"""LPIPS in a report: only with weights that the user has on disk, and never with others than were planned with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fl_runtime.evaluation.attempts import jobs
from fl_runtime.evaluation.attempts.cache import Cache, digest
from fl_runtime.evaluation.attempts.measured import Measured
from fl_runtime.evaluation.evaluate import plan
from fl_runtime.evaluation.matrix.cells import expand
from secagg.errors import Refused
from secagg.leakage.lpips import FEATURES, HEADS, LPIPS

ANALYTIC = 'backend = ["plain", "secaggplus", "noisy"]\ndefence = ["none", "pruning"]\nattack = ["inverting"]'


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """AlexNet and heads of random weights."""
    folder, chance = tmp_path_factory.mktemp("lpips"), torch.Generator().manual_seed(1)
    paths = folder / "alexnet.pt", folder / "heads.pt"
    for path, shapes in zip(paths, (FEATURES, HEADS), strict=True):
        torch.save({name: 0.1 * torch.rand(shape, generator=chance) for name, shape in shapes.items()}, path)
    return paths


def test_an_image_that_comes_back_is_near_by_lpips_and_the_prior_is_not(settings, weights, tmp_path: Path) -> None:
    written = f"evaluation.lpips={[str(path) for path in weights]}"
    cell = expand(settings(written, **{ANALYTIC: 'attack = ["analytic-linear"]'}))[0]
    found = Measured.from_record(jobs._do(cell, Cache(tmp_path)))
    assert found.problem is None
    assert len(found.means["lpips"]) == cell.images
    assert found.means["psnr_db"].min() > 100
    assert found.means["lpips"].max() < 1e-6
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert (LPIPS.load(weights[0], heads=weights[1])(images, 1 - images) > 1e-4).all()


def test_without_weights_there_is_no_such_figure(finished) -> None:
    assert not any("lpips" in row.figures for row in finished.rows)


def test_other_weights_are_other_cells(settings, weights, tmp_path: Path) -> None:
    path = tmp_path / "alexnet.pt"
    names = []
    for more in (b"", b"more"):
        path.write_bytes(weights[0].read_bytes() + more)
        names.append(digest(expand(settings(f"evaluation.lpips={[str(path)]}"))[0]))
    assert names[0] != names[1]
    assert digest(expand(settings())[0]) not in names


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "evaluation.lpips: .*No such file"), (b"no weights", "evaluation.lpips: .*alexnet")]
)
def test_weights_that_cannot_be_read_are_refused_before_anything_is_computed(
    settings, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "alexnet.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Refused, match=reason):
        plan(settings(f"evaluation.lpips={[str(path)]}"))
