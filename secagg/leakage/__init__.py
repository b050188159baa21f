"""What still leaks: attacks on what a party sees, defences to attack, and how much of an image came back.

Every attack is one small class that works on anybody's model and gradient. Needs torch and scipy (`pip install
"secagg[fl]"`); nothing else in `secagg` imports it.

Guarantee: none. An attack that fails proves nothing; report a defence as safe against the attacks that were tried, and
only where the same attack succeeds without it.
"""

from __future__ import annotations

from secagg.leakage.attack import (
    Attack,
    LocalTraining,
    Observation,
    Reconstruction,
    Unsupported,
    class_loss,
)
from secagg.leakage.client import observe
from secagg.leakage.defences.defence import Defence
from secagg.leakage.intervals import Interval, mean_interval, share_interval
from secagg.leakage.lpips import LPIPS
from secagg.leakage.metrics import correlation, identified, label_accuracy, match, mse, psnr, rdlv, ssim

__all__ = [
    "LPIPS", "Attack", "Defence", "Interval", "LocalTraining", "Observation", "Reconstruction", "Unsupported",
    "class_loss", "correlation", "identified", "label_accuracy", "match", "mean_interval", "mse", "observe", "psnr",
    "rdlv", "share_interval", "ssim",
]  # fmt: skip
