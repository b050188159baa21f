"""secagg: secure aggregation for federated learning, with swappable protection and measured leakage.

The names below are loaded on first use, so that `import secagg` and `secagg --help` stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secagg.driver import Driver, Outcome
    from secagg.errors import Aborted, InvalidUpdate, Refused, Rejected, SecaggError, VerificationFailed
    from secagg.fixedpoint import FixedPoint
    from secagg.guarantees import Guarantees
    from secagg.identity import Directory, Identity
    from secagg.protocol import Backend, Layer, Party, SecureSum, Send, Session, Training
    from secagg.registry import build
    from secagg.spec import RoundSpec, task_digest
    from secagg.vectors import Layout

_HOMES = {
    "driver": ("Driver", "Outcome"),
    "errors": ("Aborted", "InvalidUpdate", "Refused", "Rejected", "SecaggError", "VerificationFailed"),
    "fixedpoint": ("FixedPoint",),
    "guarantees": ("Guarantees",),
    "identity": ("Directory", "Identity"),
    "protocol": ("Backend", "Layer", "Party", "SecureSum", "Send", "Session", "Training"),
    "registry": ("build",),
    "spec": ("RoundSpec", "task_digest"),
    "vectors": ("Layout",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Aborted", "Backend", "Directory", "Driver", "FixedPoint", "Guarantees", "Identity", "InvalidUpdate", "Layer",
    "Layout", "Outcome", "Party", "Refused", "Rejected", "RoundSpec", "SecaggError", "SecureSum", "Send", "Session",
    "Training", "VerificationFailed", "build", "task_digest",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"secagg.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'secagg' has no attribute {name!r}")
