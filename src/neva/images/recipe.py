"""From an RGBImage to what a vision tower sees, as the checkpoint's preprocessor_config.json says.

The same pixels as Hugging Face's CLIPImageProcessor and LlavaImageProcessor, without torch. The
uint8 square is what travels and is cached; normalising comes last (in training: on the device).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neva.errors import CheckpointError
from neva.images.image import RGBImage

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
EXTREME = 4096  # pixels: a longer canvas than this is made smaller before it is padded or cropped

Aspect = Literal["square", "pad", "stretch"]


@dataclass(frozen=True)
class PixelRecipe:
    """How an image becomes a square of `size` pixels and then floats."""

    size: int
    aspect: Aspect = "square"
    """square: resize the shorter side, crop the middle (CLIP); pad: make it a square with the mean
    colour, then resize (LLaVA 1.5); stretch: resize both sides."""
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    resample: int = Image.Resampling.BICUBIC
    rescale: float = 1 / 255

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "PixelRecipe":
        """Read preprocessor_config.json of a CLIP or LLaVA processor. Raises CheckpointError."""
        size, crop = _side(config.get("size", 224)), config.get("crop_size")
        if config.get("do_center_crop", True) and crop is not None and _side(crop) != size:
            raise CheckpointError(
                f"preprocessor_config.json resizes to {size} but crops {_side(crop)} pixels, which "
                "is not supported; make size and crop_size the same"
            )
        for step in ("do_resize", "do_rescale", "do_normalize"):
            if not config.get(step, True):
                raise CheckpointError(f"preprocessor_config.json has {step} off; switch it on")
        return cls(
            size=size,
            aspect=_aspect(config),
            mean=_three(config.get("image_mean") or CLIP_MEAN),
            std=_three(config.get("image_std") or CLIP_STD),
            resample=int(config.get("resample", Image.Resampling.BICUBIC)),
            rescale=float(config.get("rescale_factor", 1 / 255)),
        )

    def to_config(self) -> dict[str, Any]:
        """The content of preprocessor_config.json, which plain transformers reads."""
        both = {"height": self.size, "width": self.size}
        pad = self.aspect == "pad"
        return {
            "image_processor_type": "LlavaImageProcessor" if pad else "CLIPImageProcessor",
            "do_convert_rgb": True,
            **({"do_pad": True} if pad else {}),
            "do_resize": True,
            "size": both if self.aspect == "stretch" else {"shortest_edge": self.size},
            "resample": int(self.resample),
            "do_center_crop": True,
            "crop_size": both,
            "do_rescale": True,
            "rescale_factor": self.rescale,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }

    @property
    def key(self) -> str:
        """This recipe in one line, for cache keys."""
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())

    def square(self, image: RGBImage) -> NDArray[np.uint8]:
        """Pad, resize and crop: uint8 (size, size, 3)."""
        picture = Image.fromarray(image.array)
        both = (self.size, self.size)
        if self.aspect == "stretch":
            shown = picture.resize(both, self._filter)
        elif self.aspect == "pad":
            shown = self._padded(picture).resize(both, self._filter)
        else:
            shown = self._cropped(picture)
        return np.array(shown, dtype=np.uint8)

    def normalise(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (..., H, W, 3) -> float32 (..., 3, H, W), normalised."""
        mean, std = np.array((self.mean, self.std), dtype=np.float32)
        scaled = squares.astype(np.float32) * np.float32(self.rescale)
        return np.ascontiguousarray(np.moveaxis((scaled - mean) / std, -1, -3))

    def pixels(self, image: RGBImage) -> NDArray[np.float32]:
        """The vision tower's input: float32 (3, size, size)."""
        return self.normalise(self.square(image))

    @property
    def _filter(self) -> Image.Resampling:
        return Image.Resampling(self.resample)

    def _padded(self, picture: Image.Image) -> Image.Image:
        """A square of the longer side, the picture in its middle, the rest the mean colour."""
        side = max(picture.size)
        if side > EXTREME and side > 4 * min(picture.size):
            # A strip of 1 x 20,000 pixels would need a canvas of 1.2 GB: shrink it first.
            width, height = (max(1, round(edge * EXTREME / side)) for edge in picture.size)
            picture, side = picture.resize((width, height), self._filter), EXTREME
        if picture.width == picture.height:
            return picture
        red, green, blue = (int(value * 255) for value in self.mean)
        canvas = Image.new("RGB", (side, side), (red, green, blue))
        canvas.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        return canvas

    def _cropped(self, picture: Image.Image) -> Image.Image:
        """The middle of the picture resized so that its shorter side is `size`."""
        short = min(picture.size)
        width, height = (int(self.size * edge / short) for edge in picture.size)
        if max(width, height) > EXTREME:
            # The same strip would grow to 4.5 million pixels a side: cut the middle out first.
            keep = 4 * short
            left, top = (max(0, (edge - keep) // 2) for edge in picture.size)
            picture = picture.crop(
                (left, top, min(left + keep, picture.width), min(top + keep, picture.height))
            )
            width, height = (int(self.size * edge / short) for edge in picture.size)
        picture = picture.resize((width, height), self._filter)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return picture.crop((left, top, left + self.size, top + self.size))


def _side(value: Any) -> int:
    """The number of pixels in size or crop_size, which come as numbers or as mappings."""
    if isinstance(value, Mapping):
        sides = {int(side) for side in value.values() if side is not None}
        if len(sides) == 1 and not value.keys().isdisjoint({"shortest_edge", "height"}):
            return sides.pop()
    elif isinstance(value, int):
        return value
    raise CheckpointError(
        f"preprocessor_config.json has the size {value!r}; only squares are supported"
    )


def _aspect(config: Mapping[str, Any]) -> Aspect:
    if config.get("do_pad"):
        return "pad"
    size = config.get("size", 224)
    return "stretch" if isinstance(size, Mapping) and "height" in size else "square"


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
