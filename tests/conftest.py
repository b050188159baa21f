"""Before any test: no deadlines, which would be timing assertions on a machine that others share, and one thread each.

Two workers whose torch takes all cores wait for each other: some tests then take twenty times as long.
"""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
