"""`smpc`: additive secret sharing over aggregators, all of which are needed, or any t. See `smpc.additive.backend`."""

from smpc.additive.backend import AdditiveParameters, AdditiveSharing

__all__ = ["AdditiveParameters", "AdditiveSharing"]
