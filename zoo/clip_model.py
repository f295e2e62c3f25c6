"""The student CLIP, its tokenizer, and the heads that exist only while it is trained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from zoo.augment import CLIP_MEAN, CLIP_STD
from zoo.colours import COLOURS, SHAPES
from zoo.drawings import PATCH, SIZE

TEXT_TOKENS = 24
HEAD = "names.safetensors"
"""Beside CLIP: what names its patches; `zoo.words` learns from it."""
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = Regex(r"'s|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


@dataclass(frozen=True)
class ClipShape:
    """The sizes of the student."""

    width: int = 192
    layers: int = 6
    heads: int = 3
    patch: int = PATCH
    text_layers: int = 3
    projection: int = 256
    vocabulary: int = 6000


def train_tokenizer(texts: list[str], size: int) -> Tokenizer:
    """CLIP-style lower-case BPE with an end-of-word mark, padded to nothing."""
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(WORDS, "removed", invert=True)]
    )
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = BpeTrainer(
        vocab_size=size,
        special_tokens=[START, END],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    ids = [(START, tokenizer.token_to_id(START)), (END, tokenizer.token_to_id(END))]
    tokenizer.post_processor = TemplateProcessing(single=f"{START} $A {END}", special_tokens=ids)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Texts -> ids ``(B, T)`` and mask ``(B, T)``, at most 24 tokens, padded with the end token."""
    tokenizer.enable_truncation(TEXT_TOKENS)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(END), pad_token=END)
    encoded = tokenizer.encode_batch(texts)
    ids = torch.tensor([e.ids for e in encoded])
    return ids, torch.tensor([e.attention_mask for e in encoded])


def config_of(shape: ClipShape, tokenizer: Tokenizer) -> CLIPConfig:
    """The Hugging Face configuration of the student."""
    shared = {
        "hidden_size": shape.width,
        "intermediate_size": 4 * shape.width,
        "num_attention_heads": shape.heads,
        "projection_dim": shape.projection,
        "hidden_act": "gelu",
    }
    end = tokenizer.token_to_id(END)
    text = shared | {
        "vocab_size": tokenizer.get_vocab_size(),
        "num_hidden_layers": shape.text_layers,
        "max_position_embeddings": TEXT_TOKENS,
        "bos_token_id": tokenizer.token_to_id(START),
        "eos_token_id": end,
        "pad_token_id": end,
    }
    vision = shared | {
        "num_hidden_layers": shape.layers,
        "image_size": SIZE,
        "patch_size": shape.patch,
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=shape.projection)


class Student(nn.Module):
    """CLIP plus training-only heads on its patches of layer -2, which LLaVA will read."""

    def __init__(self, config: CLIPConfig, prototypes: Tensor) -> None:
        """``prototypes`` is ``(K, 256)``, unit length: one per named concept."""
        super().__init__()
        self.clip = CLIPModel._from_config(config, attn_implementation="eager")
        width = config.vision_config.hidden_size
        self.names = nn.Parameter(prototypes.clone())
        self.name_scale = nn.Parameter(torch.tensor(20.0).log())
        self.middle = nn.Linear(width, 112)
        self.late = nn.Linear(width, 192)
        self.patch_norm = nn.LayerNorm(width)
        self.patch_names = nn.Linear(width, config.projection_dim)
        self.shape = nn.Linear(2 * width, len(SHAPES))
        self.colour = nn.Linear(2 * width, len(COLOURS))

    def see(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, 128, 128)`` -> unit embeddings ``(B, 256)`` and patches ``(B, 64, 192)``."""
        out = self.clip.vision_model(pixel_values=pixels, output_hidden_states=True)
        embedding = self.clip.visual_projection(out.pooler_output)
        return F.normalize(embedding.float(), dim=-1), out.hidden_states[-2][:, 1:]

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """``(B, T)`` -> unit text embeddings ``(B, 256)``."""
        out = self.clip.text_model(input_ids=ids, attention_mask=mask)
        return F.normalize(self.clip.text_projection(out.pooler_output).float(), dim=-1)

    def name_logits(self, embedding: Tensor) -> Tensor:
        """Unit embeddings ``(B, 256)`` -> scaled cosines with the names' vectors ``(B, K)``."""
        scale = self.name_scale.clamp(max=float(np.log(60.0))).exp()
        return scale * embedding @ F.normalize(self.names, dim=-1).T


@dataclass(frozen=True)
class NameHead:
    """What names the patches of layer -2: names' unit vectors ``(K, E)``, and the norm and the map
    that bring a patch ``(Dv,)`` to them."""

    names: tuple[str, ...]
    vectors: Tensor
    norm: nn.LayerNorm
    map: nn.Linear

    def cosines(self, patches: Tensor) -> Tensor:
        """``(..., Dv)`` -> cosines with all names ``(..., K)``."""
        cosines: Tensor = F.normalize(self.map(self.norm(patches)), dim=-1) @ self.vectors.T
        return cosines

    def write(self, file: Path) -> None:
        """In bf16; the names are in the header."""
        tensors = {
            "vectors": self.vectors,
            "norm.weight": self.norm.weight,
            "norm.bias": self.norm.bias,
            "map.weight": self.map.weight,
            "map.bias": self.map.bias,
        }
        half = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in tensors.items()}
        save_file(half, file, {"names": json.dumps(self.names)})

    @classmethod
    def read(cls, file: Path) -> NameHead:
        """What `write` wrote, in float32."""
        with safe_open(file, "pt") as held:
            names = tuple(json.loads(held.metadata()["names"]))
        state = {key: tensor.float() for key, tensor in load_file(file).items()}
        width, out = state["map.weight"].shape[1], state["map.weight"].shape[0]
        head = cls(names, state.pop("vectors"), nn.LayerNorm(width), nn.Linear(width, out))
        modules = nn.ModuleDict({"norm": head.norm, "map": head.map})
        modules.load_state_dict(state)
        modules.requires_grad_(False)
        return head


def save(clip: CLIPModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a Hugging Face CLIP directory: weights rounded to bf16, processor, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    clip.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=END,
        model_max_length=TEXT_TOKENS,
    ).save_pretrained(folder)
    named = folder / "tokenizer_config.json"  # a class name that transformers 4 knows as well
    named.write_text(named.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": SIZE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": SIZE, "width": SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(CLIP_MEAN),
        "image_std": list(CLIP_STD),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
