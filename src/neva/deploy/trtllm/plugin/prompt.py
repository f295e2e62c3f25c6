"""A rendered prompt and its pictures -> token ids and pixels, by the checkpoint's own processor.

TensorRT-LLM puts features where an id lies beyond the vocabulary, so each image token becomes P
such ids. Tokenising first and multiplying then gives the ids of transformers' LlavaProcessor,
which multiplies in the text: the image token is special, and nothing merges with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, LlavaConfig


@dataclass(frozen=True)
class PromptReader:
    """What a checkpoint's files say about prompts and pictures."""

    tokenizer: Any
    image_processor: Any
    image_token_id: int
    image_tokens: int
    """P: how many tokens one image takes."""
    vocabulary: int
    """V, the rows of the word embedding."""

    @classmethod
    def open(cls, folder: str | Path, tokenizer: Any = None) -> "PromptReader":
        """Of an exported checkpoint; `tokenizer` is its tokenizer where somebody has it already."""
        config = LlavaConfig.from_pretrained(folder)
        vision = config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        return cls(
            tokenizer=tokenizer or AutoTokenizer.from_pretrained(folder),
            # Pillow's arithmetic, which neva trains and measures with; torchvision's differs.
            image_processor=AutoImageProcessor.from_pretrained(folder, use_fast=False),
            image_token_id=config.image_token_index,
            image_tokens=patches + int(config.vision_feature_select_strategy == "full"),
            vocabulary=config.text_config.vocab_size,
        )

    @property
    def placeholder(self) -> int:
        """The id, beyond the vocabulary, whose places are filled with features."""
        return self.vocabulary + 1

    def ids(self, text: str, images: int, special: bool) -> list[int]:
        """Token ids (T,) of a rendered prompt, every image token replaced by P placeholders.

        `special`: let the tokenizer add what it puts in front of texts, unless it is there. With a
        number of image tokens other than `images`, ValueError: whoever writes the image token's
        text into a question would else be given another one's features.
        """
        begin = self.tokenizer.bos_token
        special = special and not (begin and text.startswith(begin))
        found: list[int] = self.tokenizer(text, add_special_tokens=special)["input_ids"]
        count = found.count(self.image_token_id)
        if count != images:
            token = self.tokenizer.convert_ids_to_tokens(self.image_token_id)
            raise ValueError(
                f"The prompt has {count} image tokens for {images} images; leave {token!r} out of "
                "texts."
            )
        expanded: list[int] = []
        for token in found:
            place = token == self.image_token_id
            expanded.extend([self.placeholder] * self.image_tokens if place else [token])
        return expanded

    def pixels(self, images: Sequence[Any]) -> Tensor:
        """Pictures as TensorRT-LLM hands them over -> normalised pixels (N, 3, H, W), float32."""
        pictures = [as_picture(image) for image in images]
        pixels: Tensor = self.image_processor(pictures, return_tensors="pt")["pixel_values"]
        return pixels


def as_picture(image: Any) -> Image.Image:
    """An RGB picture, exactly as it was decoded.

    It comes as one, as an array (H, W, 3) of uint8, or as a tensor (3, H, W) of uint8 or of uint8
    divided by 255, whose rounding here undoes the division.
    """
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, torch.Tensor):
        whole = image if image.dtype == torch.uint8 else (image.float() * 255).round()
        image = whole.to("cpu", torch.uint8).permute(1, 2, 0).numpy()
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3):
        raise ValueError(f"A picture came as {type(image).__name__}; a PIL image is expected.")
    return Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
