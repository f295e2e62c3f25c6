"""NeVA: take a CLIP and a GPT, align them with a projector, measure the result, serve it."""

__version__ = "0.1.0"
