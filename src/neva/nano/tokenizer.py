"""SmolLM2's tokenizer from a GGUF file's vocabulary: byte-level BPE, every digit on its own."""

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

IMAGE = "<image>"
CONTROL = 3  # GGUF's token type of special tokens


def build_tokenizer(
    tokens: Sequence[str], merges: Sequence[str], kinds: Sequence[int], image: bool
) -> Tokenizer:
    """The tokenizer; with `image`, `<image>` is one more special token after the last id."""
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs = [_pair(merge) for merge in merges]
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([_special(token) for token in control])
    if image:
        tokenizer.add_special_tokens([_special(IMAGE)])
    return tokenizer


def _pair(merge: str) -> tuple[str, str]:
    left, right = merge.split(" ")
    return left, right


def _special(text: str) -> AddedToken:
    return AddedToken(text, special=True, normalized=False)
