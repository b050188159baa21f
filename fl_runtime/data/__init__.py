"""Data sets, and how they are dealt to clients."""

from fl_runtime.data.catalogue import load
from fl_runtime.data.dataset import Client, Dataset, Federation, Rows, Sites
from fl_runtime.data.federation import federate

__all__ = ["Client", "Dataset", "Federation", "Rows", "Sites", "federate", "load"]
