"""The published recipes as data, and the default model's own.

Sources: haotian-liu/LLaVA README at v1.0.1 and scripts/v1_5; NVIDIA NeMo-Framework-Launcher
conf/{training,fine_tuning}/neva/llama2_7b_chat.yaml. Where a publisher gives warm-up in steps, the
ratio here is steps / total.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from neva.train.recipe import Recipe, Stage
from neva.train.shape import Language, Shape, Vision

CLIP_L14_224 = Vision(layers=24, width=1024, mlp=4096, patch=14, size=224)
CLIP_L14_336 = Vision(layers=24, width=1024, mlp=4096, patch=14, size=336)
NANO_CLIP = Vision(layers=6, width=192, mlp=768, patch=16, size=96)

LLAMA_7B = Language(layers=32, width=4096, heads=32, kv_heads=32, mlp=11008, vocabulary=32000)
LLAMA_13B = Language(layers=40, width=5120, heads=40, kv_heads=40, mlp=13824, vocabulary=32000)
# NVIDIA's card gives no shape: this is the 22B GPT of Korthikanti et al. 2022 with its vocabulary
# and a two-matrix MLP of 4 x width, as in the Nemotron family.
GPT_22B = Language(48, 6144, 64, 64, 4 * 6144, 51200, gated=False)
SMOLLM2_135M = Language(30, 576, 9, 3, 1536, 49152, tied=True)


@dataclass(frozen=True)
class Course:
    """Both stages of one model. `samples` are the published sizes of the two stages' data."""

    shape: Shape
    pretrain: Recipe
    finetune: Recipe
    samples: tuple[int, int]
    source: str

    def stage(self, stage: Stage) -> Recipe:
        """The recipe of one stage."""
        return self.pretrain if stage == "pretrain" else self.finetune


# Features of 558K images at 576 tokens are 658 GB, and CLIP is 2% of the work beside a 7B LM: the
# big recipes compute them live, and only the default model's caches them.
_V1 = Recipe(learning_rate=2e-3, batch_size=128, feature_cache=False)
_V15 = Recipe(learning_rate=1e-3, batch_size=256, feature_cache=False)
_TUNE = Recipe(stage="finetune", learning_rate=2e-5, batch_size=128)
_V15_TUNE = _TUNE.with_values(template="v1", feature_cache=False)

DEFAULTS: Mapping[Stage, Recipe] = {"pretrain": Recipe(), "finetune": _TUNE}

COURSES: Mapping[str, Course] = {
    "llava-v1-7b": Course(
        Shape(CLIP_L14_224, LLAMA_7B, "linear"),
        _V1,
        _V15_TUNE.with_values(batch_size=32, epochs=3.0),
        (595_375, 157_712),
        "LLaVA README v1.0.1: CC3M-595K, then LLaVA-Instruct-158K three times",
    ),
    "llava-v1.5-7b": Course(
        Shape(CLIP_L14_336, LLAMA_7B),
        _V15,
        _V15_TUNE,
        (558_128, 665_298),
        "LLaVA scripts/v1_5: LCS-558K, then mix665k",
    ),
    "llava-v1.5-13b": Course(
        Shape(CLIP_L14_336, LLAMA_13B),
        _V15,
        _V15_TUNE,
        (558_128, 665_298),
        "LLaVA scripts/v1_5: LCS-558K, then mix665k",
    ),
    "neva-llama2-7b": Course(
        Shape(CLIP_L14_336, LLAMA_7B),
        Recipe(
            learning_rate=1e-3,
            batch_size=256,
            max_steps=2170,
            warmup_ratio=70 / 2170,
            floor_ratio=2e-5 / 1e-3,
            beta2=0.95,
            max_length=4096,
            row_tokens=4096,
            feature_cache=False,
        ),
        Recipe(
            stage="finetune",
            learning_rate=2e-5,
            batch_size=128,
            max_steps=5190,
            warmup_ratio=150 / 5190,
            floor_ratio=2e-7 / 2e-5,
            beta2=0.95,
            max_length=4096,
            row_tokens=4096,
            feature_cache=False,
            template="llama_2",
        ),
        (558_128, 665_298),
        "NeMo-Framework-Launcher, neva/llama2_7b_chat: LCS-558K, then mix665k",
    ),
    "neva-22b": Course(
        Shape(CLIP_L14_336, GPT_22B, assumed=True),
        Recipe(
            learning_rate=2e-3,
            batch_size=128,
            max_steps=4650,
            warmup_ratio=140 / 4650,
            floor_ratio=2e-5 / 2e-3,
            beta2=0.95,
            max_length=4096,
            row_tokens=4096,
            feature_cache=False,
        ),
        Recipe(
            stage="finetune",
            learning_rate=2e-5,
            batch_size=32,
            max_steps=4900,
            warmup_ratio=200 / 4900,
            floor_ratio=2e-7 / 2e-5,
            beta2=0.95,
            max_length=4096,
            row_tokens=4096,
            feature_cache=False,
            template="nvgpt",
        ),
        (595_375, 157_712),
        "NeMo 1.x examples/multimodal/multimodal_llm/neva/conf; the model's shape is assumed",
    ),
    "neva-nano": Course(
        Shape(NANO_CLIP, SMOLLM2_135M),
        Recipe(learning_rate=2e-3, batch_size=32, max_length=512, row_tokens=1024, keep_last=1),
        Recipe(
            stage="finetune",
            learning_rate=5e-4,
            projector_learning_rate=5e-4,
            batch_size=32,
            max_length=512,
            row_tokens=1024,
            lora=True,
            lora_rank=32,
            lora_alpha=64,
            lora_dropout=0.0,
            keep_last=1,
            template="chatml",
        ),
        (0, 0),
        "zoo/: emoji, icons and flags, made for two CPU cores",
    ),
}


def recipe(name: str, stage: Stage) -> Recipe:
    """The recipe `name` for one stage; ValueError names the known ones."""
    if name not in COURSES:
        raise ValueError(f"no recipe is called {name!r}; the recipes are {', '.join(COURSES)}")
    return COURSES[name].stage(stage)
