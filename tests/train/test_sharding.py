"""Sharded, cut and copied models learn what one process learns, and save what any number reads."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from small import write_clip, write_language
from test_ranks import RECIPE, Inputs, train, train_until_killed

from neva.errors import NevaError
from neva.model import Checkpoint, read_tensors
from neva.model.adapter import ADAPTER
from neva.model.compose import compose
from neva.train.recipe import Recipe
from neva.train.sharding import Grid

SHORT = RECIPE.with_values(max_steps=4, save_every=0)
LORA = SHORT.with_values(lora=True, lora_rank=4, lora_alpha=8.0)
BF16 = SHORT.with_values(precision="bf16")
RECOMPUTING = SHORT.with_values(checkpointing=True, validation_share=0.2)


@pytest.fixture(scope="module")
def inputs(parent: Checkpoint, data: Path, pictures: Path) -> Inputs:
    return parent.path, data, pictures


@pytest.fixture(scope="module")
def alone(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> "Alone":
    return Alone(inputs, tmp_path_factory.mktemp("alone"))


class Alone:
    """Runs of one process, each made once, that others are compared with."""

    def __init__(self, inputs: Inputs, folder: Path) -> None:
        self.inputs, self.folder = inputs, folder
        self.losses: dict[Recipe, list[float]] = {}

    def losses_of(self, recipe: Recipe) -> tuple[list[float], Path]:
        """(losses, run folder)"""
        out = self.folder / f"run{abs(hash(recipe))}"
        if recipe not in self.losses:
            self.losses[recipe] = train(1, recipe, self.inputs, out)
        return self.losses[recipe], out


def check(
    alone: Alone, recipe: Recipe, world: int, out: Path, close: float = 1e-4, **placement: int
) -> None:
    """`world` processes make the losses and the weights of one, up to the rounding of sums."""
    losses, single = alone.losses_of(recipe)
    made = train(world, recipe.with_values(**placement), alone.inputs, out)
    np.testing.assert_allclose(made, losses, rtol=close)
    same_weights(single, out, close)


def same_weights(one: Path, other: Path, close: float = 1e-4) -> None:
    """Both are stored in bfloat16: apart by a rounding of its last bit at most."""
    a, b = (read_tensors(Checkpoint.open(run / "final")) for run in (one, other))
    assert sorted(a) == sorted(b)
    for name in a:
        old, new = a[name].astype(np.float32), b[name].astype(np.float32)
        np.testing.assert_allclose(old, new, rtol=2**-7, atol=close)


def test_fsdp(alone: Alone, tmp_path: Path) -> None:
    check(alone, SHORT, 2, tmp_path / "run", shard=0)


@pytest.mark.slow
def test_fsdp_of_an_adapter(alone: Alone, tmp_path: Path) -> None:
    check(alone, LORA, 2, tmp_path / "run", shard=0)
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("placement", [{"shard": 0}, {"tensor_parallel": 2}])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_adapter_whose_a_is_held_on_two(
    placement: dict[str, int], precision: str, alone: Alone, tmp_path: Path
) -> None:
    """The A of the run that it began from is also in what two processes write."""
    begun = alone.losses_of(LORA)[1] / "adapter"
    recipe = LORA.with_values(precision=precision, lora_hold="lora_A", lora_from=str(begun), seed=5)
    close = 1e-4 if precision == "fp32" else 2e-2
    check(alone, recipe, 2, tmp_path / "run", close=close, **placement)
    ours, theirs = (load_file(p / ADAPTER) for p in (tmp_path / "run" / "adapter", begun))
    for name in (name for name in theirs if "lora_A" in name):
        np.testing.assert_allclose(
            ours[name], theirs[name], rtol=0 if precision == "fp32" else 2**-8
        )


@pytest.mark.slow
def test_fsdp_gathers_in_bfloat16(alone: Alone, tmp_path: Path) -> None:
    check(alone, BF16, 2, tmp_path / "run", close=2e-2, shard=0)


@pytest.mark.slow
def test_fsdp_recomputing_and_validating(alone: Alone, tmp_path: Path) -> None:
    check(alone, RECOMPUTING, 2, tmp_path / "run", shard=0)


def test_tensor_parallel(alone: Alone, tmp_path: Path) -> None:
    check(alone, SHORT, 2, tmp_path / "run", tensor_parallel=2)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-4), ("bf16", 2e-2)])
def test_tensor_parallel_of_an_adapter(
    precision: str, close: float, alone: Alone, tmp_path: Path
) -> None:
    recipe = LORA.with_values(precision=precision)
    check(alone, recipe, 2, tmp_path / "run", close=close, tensor_parallel=2)


@pytest.mark.slow
def test_tensor_parallel_in_bfloat16(alone: Alone, tmp_path: Path) -> None:
    check(alone, BF16, 2, tmp_path / "run", close=2e-2, tensor_parallel=2)


@pytest.mark.slow
def test_hsdp(alone: Alone, tmp_path: Path) -> None:
    """Two copies, each in two pieces."""
    check(alone, SHORT, 4, tmp_path / "run", shard=2)


@pytest.mark.slow
def test_copies_of_a_cut_model(alone: Alone, tmp_path: Path) -> None:
    check(alone, SHORT, 4, tmp_path / "run", tensor_parallel=2)


@pytest.mark.slow
def test_fsdp_and_tensor_parallel(alone: Alone, tmp_path: Path) -> None:
    """The whole grid: two shards of layers that are cut in two."""
    check(alone, SHORT, 4, tmp_path / "run", shard=2, tensor_parallel=2)


@pytest.mark.slow
def test_fsdp_of_the_projector_alone(alone: Alone, tmp_path: Path) -> None:
    """Stage 1 of an LM too large for one device: nothing of its layers learns."""
    check(alone, SHORT.with_values(stage="pretrain"), 2, tmp_path / "run", shard=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen2", "gpt2"])
def test_fsdp_of_other_families(kind: str, inputs: Inputs, tmp_path: Path) -> None:
    """Tied embeddings and biases; layers by another name."""
    language = write_language(tmp_path / "lm", kind)
    model = compose(write_clip(tmp_path / "clip"), language, "mlp2x_gelu", tmp_path / "model")
    other = Alone((model.path, inputs[1], inputs[2]), tmp_path)
    check(other, SHORT, 2, tmp_path / "fsdp", shard=0)


@pytest.mark.slow
def test_a_sharded_run_goes_on_in_another_shape(inputs: Inputs, tmp_path: Path) -> None:
    """Killed on two sharded processes; goes on as one, and on two that hold whole copies."""
    whole = train(1, RECIPE, inputs, tmp_path / "whole")
    sharded = RECIPE.with_values(shard=0)
    for world, recipe in ((1, RECIPE), (2, RECIPE), (2, RECIPE.with_values(tensor_parallel=2))):
        out = tmp_path / f"run{world}{recipe.tensor_parallel}"
        train_until_killed(sharded, inputs, out)
        rest = train(world, recipe, inputs, out)
        np.testing.assert_allclose(rest, whole, rtol=1e-4)
        same_weights(tmp_path / "whole", out)


def test_a_killed_sharded_run_is_resumed_bit_for_bit(inputs: Inputs, tmp_path: Path) -> None:
    """With an adapter's dropout, so that the random states of both processes matter."""
    recipe = RECIPE.with_values(
        lora=True, lora_rank=4, lora_alpha=8.0, lora_dropout=0.2, shard=0, max_steps=6
    )
    train(2, recipe, inputs, tmp_path / "whole")
    train_until_killed(recipe, inputs, tmp_path / "run")
    train(2, recipe, inputs, tmp_path / "run")
    made = [Checkpoint.open(tmp_path / run / "final").sha256 for run in ("whole", "run")]
    assert made[0] == made[1]


def test_a_grid_that_does_not_divide_is_refused() -> None:
    assert Grid.of(Recipe(shard=0, tensor_parallel=2), 8) == Grid(1, 4, 2)
    assert Grid.of(Recipe(shard=2), 8) == Grid(4, 2, 1)
    assert Grid.of(Recipe(shard=0), 1) == Grid(1, 1, 1)
    for recipe, world in (
        (Recipe(shard=3), 8),
        (Recipe(tensor_parallel=3), 8),
        (Recipe(tensor_parallel=2), 1),
    ):
        with pytest.raises(NevaError, match=r"start"):
            Grid.of(recipe, world)
