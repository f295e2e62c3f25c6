"""Token ids and images -> the prompt's embeddings. Encoded images are remembered."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neva.engine.graphs import Export
from neva.engine.graphs.words import WordTable
from neva.engine.lru import ArrayCache
from neva.engine.messages import Add, RequestError, Setup

Features = NDArray[Any]


class Embedder:
    """The text table and the encoded images. For one thread."""

    def __init__(self, made: Export, setup: Setup) -> None:
        self._words = WordTable.read(made.text)
        self._images = ArrayCache(setup.image_cache_bytes)
        self.asked = 0
        self.known = 0

    @property
    def nbytes(self) -> int:
        """Bytes of encoded images kept."""
        return self._images.nbytes

    def find(self, request: Add) -> dict[str, Features | None]:
        """The request's images by name, (P, D), or None for those to be encoded first."""
        found = {picture.name: self._images.get(picture.name) for picture in request.pictures}
        self.asked += len(found)
        self.known += sum(features is not None for features in found.values())
        return found

    def keep(self, name: str, features: Features) -> None:
        """Remember an encoded image."""
        self._images.put(name, features)

    def embed(self, request: Add, images: Mapping[str, Features | None]) -> NDArray[np.float32]:
        """(1, L, D) for L ids; RequestError if a value is not finite."""
        embeds = self._words.rows(request.ids)[None]
        for picture in request.pictures:
            features = images[picture.name]
            if features is None:
                raise RequestError("an image was not encoded")
            embeds[0, picture.start : picture.start + len(features)] = features
        if not np.isfinite(embeds).all():
            raise RequestError("the checkpoint's weights give numbers that are not finite")
        return embeds
