"""No test fails for being slow: Hypothesis' deadline would be a timing assertion on a machine that others share."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
