"""LLaVA 1.5 for TensorRT-LLM's PyTorch backend, which has LLaVA-NeXT but not its forerunner.

`neva export CHECKPOINT trtllm` copies this package beside a checkpoint as `neva_trtllm`, and
`trtllm-serve --custom_module_dirs` imports it, which registers the model. It imports nothing of
neva's. `features` and `prompt` need torch and transformers only and are held to transformers by
neva's tests; `registration` is all that touches TensorRT-LLM.

**Never run**: neither on a GPU nor with TensorRT-LLM itself, which could not be installed where
this was written. Which of its sources were read, and at which commits: `registration`.
"""

from .registration import LlavaForTensorRT, LlavaInputProcessor

__all__ = ["LlavaForTensorRT", "LlavaInputProcessor"]
