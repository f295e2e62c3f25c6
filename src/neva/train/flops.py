"""The work of a training step in FLOPs, by the model's shape: the one place where it is counted.

Model FLOPs as in PaLM (Chowdhery et al. 2022, appendix B) and Korthikanti et al. 2022:
a product with a weight is 2 FLOPs per weight and token, forward once, backward once for the input's
gradient and once for the weight's; attention's two products are 4 x length x width per token and
layer, the whole matrix, as both papers count it. What a stage does not do is not counted: no
gradient of frozen weights, no gradient through CLIP, no logits where nothing is supervised, no
attention between the documents of a row, no CLIP where its features are cached. Work that is done
twice to save memory is not the model's and is counted apart (`recomputed_flops`). Norms,
activations, softmax and the optimiser are left out, as there. Torch-free.
`tests/train/test_flops.py` holds it to the operations that torch really runs.
"""

from collections.abc import Sequence

from neva.train.recipe import Recipe
from neva.train.shape import Shape, Vision


def step_flops(
    shape: Shape,
    recipe: Recipe,
    lengths: Sequence[int],
    supervised: int,
    images: int,
    live: bool,
    adapter: int | None = None,
) -> float:
    """Forward and backward over documents of these `lengths`, in tokens.

    `supervised` of the tokens are targets (S). `images` go through the projector; through CLIP too
    if `live`, which is False where their features come from a cache. `adapter`: its parameters,
    where it is not on every linear layer.
    """
    full = recipe.stage == "finetune" and not recipe.lora
    passes = 3 if full else 2  # forward, the input's gradient; the weight's where it learns
    head = 2.0 * passes * shape.language.head_parameters * supervised
    learned = lora_parameters(shape, recipe) if adapter is None else adapter
    seen = images * (projector_flops(shape) + (clip_flops(shape.vision) if live else 0.0))
    body = passes * _weights(shape, lengths) + 6.0 * learned * sum(lengths)
    return body + 3 * _attention(shape, lengths) + head + seen


def recomputed_flops(shape: Shape, recipe: Recipe, lengths: Sequence[int]) -> float:
    """What recomputing activations adds: the forward of the LM's layers once more."""
    if not recipe.checkpointing:
        return 0.0
    again = 2.0 * lora_parameters(shape, recipe) * sum(lengths)
    return _weights(shape, lengths) + _attention(shape, lengths) + again


def lora_parameters(shape: Shape, recipe: Recipe) -> int:
    """Parameters of an adapter on every linear layer of the LM; 0 without `lora`."""
    if not recipe.lora:
        return 0
    lm = shape.language
    sides = [lm.width + lm.attention_width] * 2 + [lm.width + lm.key_width] * 2
    sides += [lm.width + lm.mlp] * (3 if lm.gated else 2)
    return lm.layers * recipe.lora_rank * sum(sides)


def projector_flops(shape: Shape) -> float:
    """One image through the projector and back; the features before it are frozen."""
    dv, d = shape.vision.features, shape.language.width
    first = 4.0 * dv * d  # forward and the weight's gradient; no gradient goes into CLIP
    second = 0.0 if shape.projector == "linear" else 6.0 * d * d
    return shape.vision.tokens * (first + second)


def clip_flops(vision: Vision) -> float:
    """One image forward through the layers of CLIP that are used."""
    tokens, width = vision.tokens + 1, vision.width  # with the class token
    patches = 2.0 * 3 * vision.patch**2 * width * vision.tokens
    weights = 2.0 * (4 * width**2 + 2 * width * vision.mlp) * tokens
    return patches + vision.used * (weights + 4.0 * tokens**2 * width)


def _weights(shape: Shape, lengths: Sequence[int]) -> float:
    """Products with the LM's weights, one forward."""
    return 2.0 * shape.language.layers * shape.language.layer_parameters * sum(lengths)


def _attention(shape: Shape, lengths: Sequence[int]) -> float:
    """Attention's two products of activations, one forward, each document by itself."""
    lm = shape.language
    return 4.0 * lm.layers * lm.attention_width * sum(length**2 for length in lengths)
