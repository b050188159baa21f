"""The how-to of attacks runs as it stands, and its attacks do what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from secagg.leakage import psnr

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "attack-your-own-gradient.md"


def test_every_snippet_runs_and_the_image_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    snippets = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    for snippet in snippets[:2]:
        exec(snippet, names)  # noqa: S102  our own page
    assert psnr(names["guess"].images, names["image"]).item() > 20
    for snippet in snippets[2:]:
        exec(snippet, names)  # noqa: S102  our own page
    found = [float(line.split()[0]) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == 3
    assert found[1] > found[2] + 3
    assert names["guess"].images.shape == (1, 1, 8, 8)
