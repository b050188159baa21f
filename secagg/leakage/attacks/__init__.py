"""Attacks on gradients and updates, each one small class in a module of its own."""

from __future__ import annotations

from secagg.leakage.attacks.analytic import AnalyticLinear
from secagg.leakage.attacks.head_only import HeadOnly
from secagg.leakage.attacks.inverting import InvertingGradients
from secagg.leakage.attacks.labels import IDLG, ILRG, RLU
from secagg.leakage.attacks.lbfgs import DeepLeakage
from secagg.leakage.attacks.local_steps import LocalStepsSimulation
from secagg.leakage.attacks.matched_filter import MatchedFilter
from secagg.leakage.attacks.spear import Spear

__all__ = [
    "IDLG", "ILRG", "RLU", "AnalyticLinear", "DeepLeakage", "HeadOnly", "InvertingGradients", "LocalStepsSimulation",
    "MatchedFilter", "Spear",
]  # fmt: skip
