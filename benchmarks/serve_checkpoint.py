"""The checkpoints of the serving benchmark: SmolLM2-135M's shape behind ViT-B/32's or ViT-L/14's.

Weights are random, from fixed seeds: speed does not depend on them, and random greedy text never
meets an end token, so every answer has the length that was asked for. The tokenizer is SmolLM2's,
so that every peer reads, decodes and streams real tokens.
"""

from dataclasses import dataclass
from pathlib import Path

from neva.model.checkpoint import Checkpoint


@dataclass(frozen=True)
class Shape:
    """A vision tower by its sizes; `blocks` are the LM's, `tokens` what an image becomes."""

    name: str
    width: int
    layers: int
    heads: int
    side: int
    patch: int
    blocks: int = 30

    @property
    def tokens(self) -> int:
        """Image tokens per image."""
        return (self.side // self.patch) ** 2


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("b32", width=768, layers=12, heads=12, side=224, patch=32),
        Shape("l14", width=1024, layers=24, heads=16, side=336, patch=14),
        # for trying the benchmark itself out; its figures mean nothing
        Shape("tiny", width=64, layers=2, heads=2, side=64, patch=16, blocks=2),
    )
}


def checkpoint(shape: Shape, folder: Path) -> Path:
    """The shape's checkpoint under `folder`, made if it is not there."""
    out = folder / shape.name
    if not out.exists():
        from neva.model.compose import compose

        language, vision = folder / f"language-{shape.blocks}", folder / f"clip-{shape.name}"
        _random_language(language, shape.blocks)
        _random_vision(vision, shape)
        compose(vision, language, "mlp2x_gelu", out, template="chatml")
    found = Checkpoint.open(out)
    if found.image_tokens != shape.tokens:
        raise SystemExit(f"{out} has {found.image_tokens} image tokens, not {shape.tokens}")
    return out


def _random_language(out: Path, blocks: int) -> None:
    """SmolLM2-135M's config and tokenizer, random weights."""
    if out.exists():
        return
    import torch
    from transformers import AutoConfig, LlamaForCausalLM

    from neva.nano.base import write_base

    write_base(out)
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(out, num_hidden_layers=blocks)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(out)


def _random_vision(out: Path, shape: Shape) -> None:
    """OpenAI's CLIP of that shape, random weights, its preprocessor beside."""
    import torch
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    if out.exists():
        return
    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=shape.width,
        intermediate_size=4 * shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        image_size=shape.side,
        patch_size=shape.patch,
    )
    both = {"height": shape.side, "width": shape.side}
    CLIPImageProcessor(size={"shortest_edge": shape.side}, crop_size=both).save_pretrained(out)
    CLIPVisionModel(config).to(torch.bfloat16).save_pretrained(out)
