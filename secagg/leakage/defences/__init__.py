"""Defences, each a small class that turns an undefended observation into what a defended client would share."""

from __future__ import annotations

from secagg.leakage.defences.defence import Defence

__all__ = ["Defence"]
