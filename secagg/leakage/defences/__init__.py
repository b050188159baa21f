"""Defences, each a small class that turns an undefended observation into what a defended client would share."""

from __future__ import annotations

from secagg.leakage.defences.defence import Defence
from secagg.leakage.defences.hiding import HeadSharing, Pruning, SelectiveEncryption
from secagg.leakage.defences.modules import Dropout, Precode, WithheldStatistics
from secagg.leakage.defences.noise import ClipAndNoise, LocalDP
from secagg.leakage.defences.soteria import Soteria
from secagg.leakage.defences.transformation import Transformation

__all__ = [
    "ClipAndNoise", "Defence", "Dropout", "HeadSharing", "LocalDP", "Precode", "Pruning", "SelectiveEncryption",
    "Soteria", "Transformation", "WithheldStatistics",
]  # fmt: skip
