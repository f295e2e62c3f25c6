"""The images that a request has opened so far: how many, and how many pixels, they may be."""

from collections.abc import Callable

from neva.errors import ImageError
from neva.images import RGBImage
from neva.prompts.conversation import ImageSlot
from neva.server.errors import ApiError
from neva.server.settings import Limits


class Album:
    """Filled in the order of the slots."""

    def __init__(self, limits: Limits) -> None:
        self._most, self._pixels = limits.images, limits.pixels
        self._opened: list[RGBImage] = []

    def add(self, read: Callable[[], RGBImage]) -> ImageSlot:
        """Open one more; ApiError says which one cannot be, and why not."""
        number = len(self._opened) + 1
        if number > self._most:
            raise ApiError(422, f"at most {self._most} images per request", "messages")
        try:
            image = read()
        except ImageError as error:
            raise ApiError(error.status, f"image {number}: {error}", "messages") from None
        self._pixels -= image.size[0] * image.size[1]
        if self._pixels < 0:
            raise ApiError(422, "the images have too many pixels together; send them smaller")
        self._opened.append(image)
        return ImageSlot(number - 1)

    def emptied(self) -> tuple[RGBImage, ...]:
        """What was opened, kept here no longer: answers are long."""
        opened, self._opened = self._opened, []
        return tuple(opened)
