"""What a stage will need, by arithmetic: parameters, memory by part, work, placement, hours.

Memory is of the training that `loop` does: bfloat16 weights, float32 masters, moments and gradients
of what learns (less with a lean optimiser), activations of one packed row, logits of at most one
chunk of supervised positions.
Torch-free. `tests/train/test_plan.py` holds the activations to what autograd really keeps. Of a
CPU: `plan_cpu`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from neva.train.flops import lora_parameters, recomputed_flops, step_flops
from neva.train.recipe import Recipe
from neva.train.shape import Shape

GIB = 2**30
CHUNK = 1024  # supervised positions whose logits are in memory at once (neva.model.head)
FRAMEWORK = 1.0 * GIB  # context of the device and what its allocator keeps, not measured
QUANTISED = 0.516  # bytes of a weight in NF4 with doubly quantised scales of 64 weights
TEXT_TOKENS = {"pretrain": (25, 20), "finetune": (250, 130)}  # (text, supervised) of a sample


@dataclass(frozen=True)
class Memory:
    """Bytes on one device, by part."""

    weights: float
    masters: float
    gradients: float
    moments: float
    activations: float
    logits: float
    framework: float = FRAMEWORK

    @property
    def total(self) -> float:
        """All parts."""
        return float(sum(vars(self).values()))


@dataclass(frozen=True)
class Placement:
    """A way to lay a stage on the devices, and what it takes of each."""

    name: str
    memory: Memory
    changes: Mapping[str, int | bool]
    """Fields of the recipe that bring it about."""

    @property
    def options(self) -> str:
        """The same, as options of `neva pretrain` and `neva finetune`."""
        words = []
        for name, value in self.changes.items():
            words += [f"--{name.replace('_', '-')}"] + ([str(value)] if value is not True else [])
        return " ".join(words)


@dataclass(frozen=True)
class Work:
    """What a stage computes. `flops` is of one sample, forward and backward, and whatever is
    recomputed.
    """

    samples: int
    steps: int
    tokens: int
    flops: float

    def hours(self, devices: int, peak: float, utilisation: float) -> float:
        """Hours at `peak` FLOP/s a device, of which `utilisation` is used."""
        return self.samples * self.flops / (devices * peak * utilisation) / 3600


def trainable(shape: Shape, recipe: Recipe) -> int:
    """Parameters that learn."""
    learned = shape.projector_parameters
    if recipe.stage == "finetune":
        learned += lora_parameters(shape, recipe) if recipe.lora else shape.language.parameters
    return learned


def activations(shape: Shape, recipe: Recipe, tensor: int = 1) -> float:
    """Bytes that autograd keeps for one row of `row_tokens`, in bfloat16 and float32.

    Per layer and token: two norms in float32, query, key, value and output of attention, the MLP's
    inner values; where weights or an adapter learn, also the inputs of the matrices. Heads and the
    MLP's inner values are divided by `tensor` parallelism, what is as wide as the LM is not.
    """
    lm, tokens = shape.language, recipe.row_tokens
    kv = lm.key_width
    inner = 3 if lm.gated else 2
    whole, cut = 8 * lm.width, 2 * (2 * lm.width + 2 * kv) + 2 * inner * lm.mlp
    if recipe.stage == "finetune":
        whole, cut = whole + 2 * 2 * lm.width, cut + 2 * (lm.width + lm.mlp)
        if not recipe.lora:
            whole += 2 * 2 * lm.width
    kept = whole + cut / tensor
    layer, last = tokens * kept, tokens * 6 * lm.width  # the last norm: float32, and its output
    if recipe.checkpointing:
        return float(lm.layers * tokens * 2 * lm.width + layer + last)
    return float(lm.layers * layer + last)


def memory(shape: Shape, recipe: Recipe, shards: int = 1, tensor: int = 1) -> Memory:
    """Bytes on each device of a grid, as `neva.train.sharding` divides a model.

    CLIP is there where it looks at images in every step, not where its features are cached.
    FSDP keeps what learns in float32 without a second copy, all but CLIP in `shards` pieces, and
    has two layers, embedding, head and projector whole while it computes, with the gradients of
    one layer and of those. Tensor parallelism cuts the layers only. ``auto`` counts as bfloat16.
    """
    size = 4 if recipe.precision == "fp32" else 2
    lm, adapter = shape.language, lora_parameters(shape, recipe)
    layer = lm.layer_parameters / tensor
    outer = lm.parameters - lm.layers * lm.layer_parameters + shape.projector_parameters
    full = recipe.stage == "finetune" and not recipe.lora
    in_layer = layer if full else adapter / lm.layers  # of an adapter not all is cut
    learned = lm.layers * in_layer + (outer if full else shape.projector_parameters)
    held = (lm.layers * layer * (QUANTISED / size if recipe.qlora else 1) + outer + adapter) * size
    tower = 0 if recipe.feature_cache else shape.vision.parameters
    passing, whole = 0.0, float(tower * size)
    if shards > 1:
        held -= learned * size  # its masters are all there is of it
        whole += (2 * layer + outer) * size
        passing = (in_layer + (outer if full else shape.projector_parameters)) * (size + 4)
    rows = min(CHUNK, recipe.row_tokens)
    return Memory(
        weights=held / shards + whole,
        masters=(2 if recipe.lean_optimizer else 4) * learned / shards,
        gradients=4 * learned / shards + passing,
        moments=(4 if recipe.lean_optimizer else 8) * learned / shards,
        activations=activations(shape, recipe, tensor),
        logits=rows
        * lm.vocabulary
        * (size + 12.0),  # logits, in float32, their softmax, its gradient
    )


def placements(shape: Shape, recipe: Recipe, devices: int) -> Iterator[Placement]:
    """Ways to run a stage on `devices`, the fastest first."""
    divisible = not (recipe.qlora or recipe.lean_optimizer)
    for recompute in dict.fromkeys((recipe.checkpointing, True)):
        tried = recipe.with_values(checkpointing=recompute)
        tail = ", recomputing activations" if recompute else ""
        changes = {} if recompute == recipe.checkpointing else {"checkpointing": True}
        one = "a copy on each device (torchrun)" if devices > 1 else "one device"
        yield Placement(one + tail, memory(shape, tried), changes)
        if devices == 1 and divisible and recipe.stage == "finetune" and not recipe.lora:
            lean = memory(shape, tried.with_values(lean_optimizer=True))
            yield Placement(
                f"{one}, lean optimiser{tail}", lean, {"lean_optimizer": True} | changes
            )
        if devices > 1 and divisible:
            name = f"sharded over {devices} devices (FSDP2){tail}"
            yield Placement(name, memory(shape, tried, devices), {"shard": 0} | changes)
    for tensor in (2, 4, 8) if divisible else ():
        if devices % tensor == 0 and _divides(shape, tensor):
            shards = devices // tensor
            name = f"layers cut over {tensor} devices" + (f", sharded over {shards}" * (shards > 1))
            cut = {"shard": 0, "tensor_parallel": tensor} | changes
            yield Placement(name + tail, memory(shape, tried, shards, tensor), cut)


def _divides(shape: Shape, tensor: int) -> bool:
    """Whether a layer can be cut in `tensor` pieces (`neva.train.tensor_parallel`)."""
    lm = shape.language
    return not (lm.heads % tensor or lm.kv_heads % tensor or lm.mlp % tensor)


def work(shape: Shape, recipe: Recipe, samples: int) -> Work:
    """Tokens and FLOPs of a stage over `samples` records with texts like LLaVA's."""
    from neva.train.schedule import total_steps

    steps = total_steps(samples, recipe)
    text, supervised = TEXT_TOKENS[recipe.stage]
    tokens = min(shape.vision.tokens + text, recipe.max_length)
    live = not recipe.feature_cache
    flops = step_flops(shape, recipe, [tokens], min(supervised, tokens), 1, live)
    return Work(
        samples=steps * recipe.batch_size,
        steps=steps,
        tokens=tokens * steps * recipe.batch_size,
        flops=flops + recomputed_flops(shape, recipe, [tokens]),
    )
