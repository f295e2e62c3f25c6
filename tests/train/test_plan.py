"""The plan's arithmetic against what is really there: weights, optimiser, autograd's memory."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import write_clip, write_language
from typer.testing import CliRunner

from neva.cli import app
from neva.model import Checkpoint, head
from neva.model.attention import as_mask
from neva.model.compose import compose
from neva.train import plan, plan_cpu
from neva.train.learner import Learner
from neva.train.plan import activations, memory, placements, trainable, work
from neva.train.plan_cpu import cpu_memory, cpu_placements, piece
from neva.train.recipe import Recipe
from neva.train.recipes import COURSES
from neva.train.shape import Shape

TOKENS = 300  # one document longer than the CPU's short attention takes
SIZES = {
    "narrow": {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3, "head_dim": 16},
    "deep": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 8, "head_dim": 16},
    "wide": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 2, "head_dim": 48},
}


@pytest.fixture(scope="module", params=SIZES)
def shaped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp(request.param)
    clip = write_clip(folder / "clip")
    language = write_language(folder / "lm", "llama", **SIZES[request.param])
    return compose(clip, language, "mlp2x_gelu", folder / "model")


def kept_by_autograd(learner: Learner) -> int:
    """Bytes of different storages that the LM's forward keeps for its backward, weights apart."""
    weights = {p.untyped_storage().data_ptr() for p in learner.model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    alive: list[torch.Tensor] = []
    width = learner.model.config.text_config.hidden_size
    inputs = torch.randn(1, TOKENS, width, dtype=torch.bfloat16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = learner.model.model.language_model(
            inputs_embeds=inputs,
            attention_mask=as_mask(torch.tensor([0, TOKENS])),
            position_ids=torch.arange(TOKENS)[None],
            use_cache=False,
        )
    assert out.last_hidden_state.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("kind", ["pretrain", "finetune", "lora", "recomputing"])
def test_activations_are_what_autograd_keeps(shaped: Checkpoint, kind: str) -> None:
    recipe = Recipe(
        precision="bf16",  # what the plan speaks of, whatever this CPU is quick at
        stage="pretrain" if kind == "pretrain" else "finetune",
        max_length=TOKENS,
        row_tokens=TOKENS,
        lora=kind == "lora",
        lora_rank=2,
        checkpointing=kind == "recomputing",
    )
    shape = Shape.of_config(shaped.config)
    if kind == "recomputing":  # the plan adds the layer that is being recomputed
        whole, lm = activations(shape, recipe.with_values(checkpointing=False)), shape.language
        layer = (whole - TOKENS * 6 * lm.width) / lm.layers
        expected = activations(shape, recipe) - layer
    else:
        expected = activations(shape, recipe)
    learner = Learner(shaped, recipe, fused=False)  # as on a GPU; fused layers keep less
    assert kept_by_autograd(learner) == pytest.approx(expected, rel=0.15)


def test_parameters_are_counted_exactly(shaped: Checkpoint) -> None:
    shape = Shape.of_config(shaped.config)
    for recipe in (Recipe(), Recipe(stage="finetune")):
        masters = Learner(shaped, recipe).trained().values()
        assert sum(m.numel() for m in masters) == trainable(shape, recipe)
        parts = memory(shape, recipe)
        assert parts.masters == 4 * trainable(shape, recipe)
    lora = Recipe(stage="finetune", lora=True, lora_rank=2)
    learned = Learner(shaped, lora).trained().values()
    assert sum(m.numel() for m in learned) == trainable(shape, lora)


def test_chunks_of_logits_are_the_heads() -> None:
    """Plans import no torch, so they say it again."""
    assert (plan_cpu.CHUNK, plan.CHUNK) == (head.CHUNK, head.CUDA_CHUNK)


def test_known_numbers() -> None:
    """LLaVA 1.5: 2181 and 5198 steps; a 7B fine-tune does not fit one 80 GB card, but 8."""
    course = COURSES["llava-v1.5-7b"]
    assert work(course.shape, course.pretrain, course.samples[0]).steps == 2181
    assert work(course.shape, course.finetune, course.samples[1]).steps == 5198
    ways = placements(course.shape, course.finetune, 1)
    one = [way.memory.total for way in ways if "lean_optimizer" not in way.changes]
    eight = [way.memory.total for way in placements(course.shape, course.finetune, 8)]
    assert min(one) > 80 * 2**30 > min(eight)


def test_a_lean_optimiser_takes_six_bytes_a_weight_less() -> None:
    course = COURSES["llava-v1.5-7b"]
    full = memory(course.shape, course.finetune)
    lean = memory(course.shape, course.finetune.with_values(lean_optimizer=True))
    assert full.total - lean.total == 6 * trainable(course.shape, course.finetune)
    ways = placements(course.shape, course.finetune, 1)
    assert any(way.options == "--lean-optimizer --checkpointing" for way in ways)


def test_the_command_answers_for_every_recipe(tmp_path: Path) -> None:
    run = CliRunner()
    listed = run.invoke(app, ["plan"])
    assert all(name in listed.output for name in COURSES)
    for name in COURSES:
        result = run.invoke(app, ["plan", name, "--gpus", "8", "--json"])
        assert result.exit_code == 0, result.output
        stages = json.loads(result.output)["stages"]
        assert [stage["stage"] for stage in stages] == ["pretrain", "finetune"]
        assert all(stage["fits"] for stage in stages)
    assert "assumed" in run.invoke(app, ["plan", "neva-22b", "--gpus", "8"]).output


def test_a_cpus_plan(tmp_path: Path) -> None:
    """Its parts are what is there; `benchmarks/plan.py` holds the sums to whole processes."""
    course = COURSES["neva-nano"]
    first, second = course.pretrain, course.finetune
    first = first.with_values(pack=False)
    cached = cpu_memory(course.shape, first.with_values(feature_cache=True))
    live = cpu_memory(course.shape, first.with_values(feature_cache=False))
    packed = cpu_memory(course.shape, first.with_values(pack=True))
    lm = course.shape.language
    assert live.total - cached.total == 2 * course.shape.vision.parameters
    assert packed.total - cached.total == 2 * lm.layers * lm.layer_parameters
    assert cpu_memory(course.shape, replace(first, pack=None)).total == packed.total
    large = COURSES["llava-v1.5-7b"]
    one = cpu_memory(large.shape, large.pretrain)
    assert one.total == cpu_memory(large.shape, large.pretrain.with_values(pack=False)).total
    assert cached.masters == 4 * trainable(course.shape, first)
    second = second.with_values(lora=False)
    full = cpu_memory(course.shape, second)
    lean = cpu_memory(course.shape, second.with_values(lean_optimizer=True))
    assert full.total - lean.total == 6 * trainable(course.shape, second)
    names = [way.name for way in cpu_placements(course.shape, second)]
    assert len(names) == 4 and names[-1] == "one process, lean optimiser, recomputing activations"
    assert piece(course.shape, first) == 640 and piece(large.shape, large.pretrain) == 3 * 640

    run = CliRunner()
    shown = run.invoke(app, ["plan", "neva-nano", "--cpu", "--lora", "--memory", "8"])
    assert shown.exit_code == 0 and "* one process: weights 0.5" in shown.output
    refused = run.invoke(app, ["plan", "neva-nano", "--cpu", "--gpus", "2"])
    assert refused.exit_code != 0
