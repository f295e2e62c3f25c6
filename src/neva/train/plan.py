"""What a stage will need, by arithmetic: parameters, memory by part, work, placement, hours.

Memory is of the training that `loop` does: bfloat16 weights, float32 masters, moments and gradients
of what learns, activations of one packed row, logits of at most one chunk of supervised positions.
Torch-free. `tests/train/test_plan.py` holds the activations to what autograd really keeps.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from neva.train.flops import lora_parameters, recomputed_flops, step_flops
from neva.train.recipe import Recipe
from neva.train.shape import Shape

GIB = 2**30
CHUNK = 1024  # supervised positions whose logits are in memory at once (neva.model.forward)
FRAMEWORK = 1.0 * GIB  # context of the device and what its allocator keeps, not measured
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

    @property
    def total(self) -> float:
        """All parts and the framework's share."""
        return FRAMEWORK + float(sum(vars(self).values()))


@dataclass(frozen=True)
class Placement:
    """A way to lay a stage on the devices, and what it takes of each."""

    name: str
    memory: Memory
    supported: bool
    """False: this version of neva cannot run it yet."""


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


def activations(shape: Shape, recipe: Recipe) -> float:
    """Bytes that autograd keeps for one row of `row_tokens`, in bfloat16 and float32.

    Per layer and token: two norms in float32, query, key, value and output of attention, the MLP's
    inner values; where weights or an adapter learn, also the inputs of the matrices.
    """
    lm, tokens = shape.language, recipe.row_tokens
    kv = lm.key_width
    inner = 3 if lm.gated else 2
    kept = 2 * 4 * lm.width + 2 * (2 * lm.width + 2 * kv) + 2 * inner * lm.mlp
    if recipe.stage == "finetune":
        kept += 2 * (3 * lm.width + lm.mlp)
        if not recipe.lora:
            kept += 2 * 2 * lm.width
    layer, last = tokens * kept, tokens * 6 * lm.width  # the last norm: float32, and its output
    if recipe.checkpointing:
        return float(lm.layers * tokens * 2 * lm.width + layer + last)
    return float(lm.layers * layer + last)


def memory(shape: Shape, recipe: Recipe, shards: int = 1) -> Memory:
    """Bytes on each of `shards` devices; what learns and what does not are both sharded."""
    size = 2 if recipe.precision == "bf16" else 4
    learned, lm = trainable(shape, recipe), shape.language
    extra = lora_parameters(shape, recipe)
    gathered = 2 * lm.layer_parameters * size if shards > 1 else 0  # two layers are whole at a time
    rows = min(CHUNK, recipe.row_tokens)
    return Memory(
        weights=(shape.parameters + extra) * size / shards + gathered,
        masters=4 * learned / shards,
        gradients=4 * learned / shards,
        moments=8 * learned / shards,
        activations=activations(shape, recipe),
        logits=rows
        * lm.vocabulary
        * (size + 12.0),  # logits, in float32, their softmax, its gradient
    )


def placements(shape: Shape, recipe: Recipe, devices: int) -> Iterator[Placement]:
    """Ways to run a stage on `devices`, the fastest first."""
    many = devices > 1
    for recompute in dict.fromkeys((recipe.checkpointing, True)):
        tried = recipe.with_values(checkpointing=recompute)
        tail = ", recomputing activations" if recompute else ""
        one = "a copy on each device (torchrun)" if many else "one device"
        yield Placement(one + tail, memory(shape, tried), supported=True)
        if many:
            sharded = memory(shape, tried, devices)
            yield Placement(f"sharded over {devices} devices (FSDP2){tail}", sharded, False)


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
