"""What a stage will need on a CPU, where rows are computed in pieces by `neva.train.fused`.

One process; LLaMA-shaped LMs, others keep more. `benchmarks/plan.py` holds it to the peak of whole
processes. Torch-free.
"""

from collections.abc import Iterator

from neva.train.cpu_limits import packs, piece_tokens
from neva.train.flops import lora_parameters
from neva.train.plan import GIB, TEXT_TOKENS, Memory, Placement, trainable
from neva.train.recipe import Recipe
from neva.train.shape import Shape

CHUNK = 256  # supervised positions whose logits are in memory at once (neva.model.head)
FRAMEWORK = 0.5 * GIB  # Python, torch and transformers (.37), oneDNN's kernels, the heap's holes


def piece(shape: Shape, recipe: Recipe) -> int:
    """Tokens that go through the model at once, where samples are as long as LLaVA's."""
    text, _ = TEXT_TOKENS[recipe.stage]
    sample = min(shape.vision.tokens + text, recipe.max_length)
    return min(recipe.row_tokens, recipe.batch_size * sample, piece_tokens(shape.vision.tokens))


def cpu_activations(shape: Shape, recipe: Recipe) -> float:
    """Bytes that fused layers keep of one piece: of each layer what comes in and its middle, query,
    key, value, gate and up; where weights learn, what the attention gives too.
    """
    lm, tokens, size = shape.language, piece(shape, recipe), _size(recipe)
    kept = 2 * lm.width + lm.attention_width + 2 * lm.key_width + (2 if lm.gated else 1) * lm.mlp
    if recipe.stage == "finetune":
        kept += lm.attention_width
    layer, last = tokens * (size * kept + 8), tokens * 6 * lm.width  # two norms' 1 / rms; the last
    if recipe.checkpointing:
        return float(lm.layers * tokens * size * lm.width + layer + last)
    return float(lm.layers * layer + last)


def cpu_memory(shape: Shape, recipe: Recipe) -> Memory:
    """Bytes of one process. ``auto`` counts as bfloat16."""
    lm, size, learned = shape.language, _size(recipe), trainable(shape, recipe)
    full = recipe.stage == "finetune" and not recipe.lora
    held = lm.parameters + shape.projector_parameters + lora_parameters(shape, recipe)
    if not recipe.feature_cache:
        held += shape.vision.parameters
    layers = lm.layers * lm.layer_parameters
    if not full and size == 2 and packs(recipe.pack, size * layers):
        held += layers
    return Memory(
        weights=float(size * held),
        masters=float((2 if recipe.lean_optimizer else 4) * learned),
        gradients=float(4 * learned + (size * lm.head_parameters if full else 0)),
        moments=float((4 if recipe.lean_optimizer else 8) * learned),
        activations=cpu_activations(shape, recipe),
        logits=float(min(CHUNK, piece(shape, recipe)) * lm.vocabulary * size),
        framework=FRAMEWORK,
    )


def cpu_placements(shape: Shape, recipe: Recipe) -> Iterator[Placement]:
    """Ways to run a stage in one process, the fastest first."""
    for lean in (False, True):
        if lean and (recipe.stage == "pretrain" or recipe.lora):
            continue  # nothing to save
        for recompute in dict.fromkeys((recipe.checkpointing, True)):
            tried = recipe.with_values(checkpointing=recompute, lean_optimizer=lean)
            changes = {"lean_optimizer": True} if lean else {}
            if recompute != recipe.checkpointing:
                changes["checkpointing"] = True
            name = "one process" + ", lean optimiser" * lean
            name += ", recomputing activations" * recompute
            yield Placement(name, cpu_memory(shape, tried), changes)


def _size(recipe: Recipe) -> int:
    return 4 if recipe.precision == "fp32" else 2
