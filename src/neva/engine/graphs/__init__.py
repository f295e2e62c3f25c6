"""A checkpoint's tensors as OpenVINO graphs, made without torch and kept beside it."""

from neva.engine.graphs.export import Export, export, find_export

__all__ = ["Export", "export", "find_export"]
