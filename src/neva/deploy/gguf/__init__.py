"""llama.cpp's files: a language model and a vision tower with its projector, as GGUF."""
