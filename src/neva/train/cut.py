"""How much of a row goes through the model at once on a CPU. Torch-free: plans ask too."""

PIECE = 640  # tokens; more are hardly faster there


def piece_tokens(image_tokens: int) -> int:
    """Where pictures are long, three of them with a caption: few long documents are slower."""
    return max(PIECE, 3 * (image_tokens + 64))
