"""What the memory of a run on a CPU depends on. Torch-free: plans ask too."""

PIECE = 640  # tokens of a row that go through the model at once; more are hardly faster
PACKED_UP_TO = 2**29  # bytes of an LM's frozen layers that are packed unless the recipe says


def piece_tokens(image_tokens: int) -> int:
    """Where pictures are long, three of them with a caption: few long documents are slower."""
    return max(PIECE, 3 * (image_tokens + 64))


def packs(asked: bool | None, layers: float) -> bool:
    """Whether an LM whose frozen layers take so many bytes is packed (`neva.train.packed`)."""
    return layers <= PACKED_UP_TO if asked is None else asked
