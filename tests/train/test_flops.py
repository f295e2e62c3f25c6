"""The arithmetic of FLOPs against the operations that torch runs, and against published numbers."""

from pathlib import Path

import pytest
import torch
from small import write_clip, write_language
from torch.utils.flop_counter import FlopCounterMode

from neva.model import Checkpoint
from neva.model.compose import compose
from neva.train.feed import Feed
from neva.train.flops import recomputed_flops, step_flops
from neva.train.learner import Learner, supervised_tokens
from neva.train.peak import gpu_peak
from neva.train.recipe import Recipe
from neva.train.recipes import COURSES
from neva.train.shape import Shape
from neva.train.tower import Tower

ONE_BATCH = Recipe(batch_size=4, max_length=512, row_tokens=512, precision="fp32")
WAYS = {
    "pretrain": ONE_BATCH,
    "live": ONE_BATCH.with_values(feature_cache=False),
    "finetune": ONE_BATCH.with_values(stage="finetune"),
    "lora": ONE_BATCH.with_values(stage="finetune", lora=True, lora_rank=4),
    "some layers": ONE_BATCH.with_values(
        stage="finetune", lora=True, lora_rank=4, lora_targets="q_proj,down_proj"
    ),
    "recomputing": ONE_BATCH.with_values(stage="finetune", checkpointing=True),
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Heads wider than width / heads, shared keys: nothing cancels by chance."""
    folder = tmp_path_factory.mktemp("odd")
    language = write_language(
        folder / "lm", "llama", head_dim=24, intermediate_size=80, max_position_embeddings=1024
    )
    return compose(write_clip(folder / "clip"), language, "mlp2x_gelu", folder / "model")


def product_flops(
    total: tuple[int, int], left: tuple[int, int], right: tuple[int, int], **_: object
) -> int:
    """Of total += left @ right, by their shapes."""
    return 2 * left[0] * left[1] * right[1]


@pytest.mark.parametrize("way", WAYS)
def test_torch_counts_the_same(way: str, odd: Checkpoint, data: Path, pictures: Path) -> None:
    recipe, shape = WAYS[way], Shape.of_config(odd.config)
    # Operations of torch are counted, not those inside the fused layers' C kernels.
    learner = Learner(odd, recipe, fused=False)
    # The CPU's fused attention is not in torch's table of operations; plain products are.
    learner.model.model.vision_tower.set_attn_implementation("eager")
    with Feed.open(recipe, odd, [data], pictures) as feed:
        feed.attach(Tower(odd, "cpu", torch.float32), print)
        step = feed.next_step()
    assert step is not None
    in_place = {torch.ops.aten.addmm_: product_flops}  # the head's own gradient's, not in its table
    with FlopCounterMode(display=False, custom_mapping=in_place) as counted:
        learner.learn(step.rows, 0.0)
    expected = again = 0.0
    for row in step.rows:
        lengths = row.cu_seqlens.diff().tolist()
        images = row.images if row.images is not None else row.features
        adapter = sum(m.numel() for name, m in learner.trained().items() if "lora_" in name)
        expected += step_flops(
            shape,
            recipe,
            lengths,
            supervised_tokens(row),
            0 if images is None else len(images),
            row.images is not None,
            adapter,
        )
        again += recomputed_flops(shape, recipe, lengths)
    if way == "recomputing":  # torch stops a recomputation before the last product of a layer
        lm = shape.language
        tokens = sum(len(row.ids) for row in step.rows)
        again -= 2.0 * lm.layers * lm.width * lm.mlp * tokens
    assert counted.get_total_flops() == expected + again


def test_published_numbers() -> None:
    """PaLM, appendix B: 6N + 12 L H Q T a token, N without the embedding table.

    The head is counted where tokens are supervised, as 6 x vocabulary x width each.
    """
    shape = COURSES["llava-v1.5-7b"].shape
    tune = Recipe(stage="finetune")
    lm = shape.language
    weights = 32 * (4 * 4096**2 + 3 * 4096 * 11008) + 32000 * 4096
    per_token = 6 * weights + 12 * 32 * 4096 * 2048
    assert step_flops(shape, tune, [2048], 2048, 0, False) == per_token * 2048
    assert lm.parameters == pytest.approx(6.738e9, rel=1e-3)
    apart = step_flops(shape, tune, [1024, 1024], 2048, 0, False)
    assert apart == (6 * weights + 12 * 32 * 4096 * 1024) * 2048


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4), ("NVIDIA H100 PCIe", 756.5), ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.4), ("NVIDIA H200 NVL", 835.5), ("NVIDIA GH200 480GB", 989.4),
        ("NVIDIA B200", 2250), ("NVIDIA GB200", 2500), ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L4", 121), ("NVIDIA L40", 181), ("NVIDIA L40S", 362), ("NVIDIA A10", 125),
        ("NVIDIA GeForce RTX 4090", 165.2), ("NVIDIA RTX 6000 Ada Generation", 364.2),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", None), ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None), ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA A10G", None), ("Tesla V100-SXM2-16GB", None),
    ],
)  # fmt: skip
def test_a_peak_is_of_that_device_and_no_other(name: str, teraflops: float | None) -> None:
    """Dense, in bfloat16, from the makers' data sheets; what is not in them has none."""
    peak = gpu_peak(name, "bf16")
    assert (None if peak is None else peak.flops / 1e12) == teraflops
