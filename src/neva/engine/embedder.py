"""Token ids and images -> the prompt's embeddings. Images are encoded once and remembered."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from openvino import Core

from neva.engine.graphs import Export
from neva.engine.lru import ArrayCache
from neva.engine.messages import Add, Picture, Setup


class Embedder:
    """The text table and the vision tower. For one thread."""

    def __init__(self, made: Export, setup: Setup) -> None:
        core = Core()
        self._text = core.compile_model(made.text, "CPU", {"EXECUTION_MODE_HINT": "ACCURACY"})
        self._vision_file, self._vision_properties = made.vision, dict(setup.vision)
        self._core = core
        self._vision: Any = None  # compiled with the first image: text alone starts sooner
        self._images = ArrayCache(setup.image_cache_bytes)
        self.encoded = 0  # images that went through the vision tower

    def embed(self, request: Add) -> NDArray[np.float32]:
        """(1, L, D) for L ids; ValueError if a value is not finite."""
        embeds = np.array(self._text(request.ids[None])[0], dtype=np.float32)
        for picture in request.pictures:
            features = self._features(picture)
            embeds[0, picture.start : picture.start + len(features)] = features
        if not np.isfinite(embeds).all():
            raise ValueError("the checkpoint's weights give numbers that are not finite")
        return embeds

    def _features(self, picture: Picture) -> NDArray[Any]:
        """(P, D) of one image, from the cache if it was seen before."""
        known = self._images.get(picture.digest)
        if known is not None:
            return known
        if self._vision is None:
            self._vision = self._core.compile_model(
                self._vision_file, "CPU", self._vision_properties
            )
        features = np.array(self._vision(picture.pixels[None])[0][0], dtype=np.float32)
        self.encoded += 1
        self._images.put(picture.digest, features)
        return features
