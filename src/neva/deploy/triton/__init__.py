"""NVIDIA's Triton: a model repository, and what its python backend imports."""
