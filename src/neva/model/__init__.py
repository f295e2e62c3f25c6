"""Checkpoints: what they are (torch-free), and with torch how they are made, loaded and trained.

Only what needs no torch is exported here; `compose`, `load`, `save` and `forward` are imported
from their own files by those who train.
"""

from neva.model.checkpoint import Checkpoint, read_tensors
from neva.model.provenance import DatasetUsed, Provenance
from neva.model.weights import write_tensors

__all__ = ["Checkpoint", "DatasetUsed", "Provenance", "read_tensors", "write_tensors"]
