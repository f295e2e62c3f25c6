"""Bytes in, verified pixels out: the one safe door for every image in the house."""

from neva.images.data_uri import ImageSource, parse_data_uri, split_tags
from neva.images.door import Limits, from_pixels, read_image, sniff
from neva.images.image import RGBImage
from neva.images.recipe import PixelRecipe

__all__ = [
    "ImageSource",
    "Limits",
    "PixelRecipe",
    "RGBImage",
    "from_pixels",
    "parse_data_uri",
    "read_image",
    "sniff",
    "split_tags",
]
