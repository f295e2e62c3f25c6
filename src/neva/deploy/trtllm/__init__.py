"""TensorRT-LLM: a checkpoint beside a plugin, which is copied and never imported here."""
