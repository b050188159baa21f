"""The base of everything that an experiment file can set."""

from __future__ import annotations

from pydantic import ConfigDict

from secagg.settings import Settings


class Section(Settings):
    """Frozen, unknown keys refused, and no value quietly turned into another type (`"5"` is not 5)."""

    model_config = ConfigDict(strict=True)
