"""Records -> samples: the token ids that training sees. A sample that cannot teach is an error."""

from dataclasses import dataclass

from tokenizers import Tokenizer

from neva.data.records import Record
from neva.errors import DataError, PromptError
from neva.prompts import Encoded, Template, encode, truncate


@dataclass(frozen=True)
class Encoding:
    """How records become token ids; the same for every record of a run."""

    template: Template
    tokenizer: Tokenizer
    image_token_id: int
    image_tokens: int
    """P, tokens of one image."""
    max_length: int = 2048
    """Longest sample in tokens, images expanded; longer ones are cut (`prompts.truncate`)."""


@dataclass(frozen=True)
class Sample:
    """One encoded record. `images`: a name for every image in `encoded`, in its order."""

    id: str
    encoded: Encoded
    images: tuple[str, ...]
    cut: int
    """Tokens lost to `max_length`."""

    def __len__(self) -> int:
        return len(self.encoded)


def encode_record(record: Record, encoding: Encoding) -> Sample:
    """Encode one record. Raises DataError, naming the sample, if no target token is left."""
    try:
        whole = encode(
            record.conversation,
            encoding.template,
            encoding.tokenizer,
            encoding.image_token_id,
            encoding.image_tokens,
        )
    except PromptError as error:
        raise DataError(f"sample {record.id!r}: {error}") from None
    encoded = truncate(whole, encoding.max_length, encoding.image_tokens)
    if not any(encoded.supervised[1:]):  # the first token has none before it that predicts it
        length = f"{len(whole)} tokens, {encoding.max_length} allowed"
        raise DataError(
            f"sample {record.id!r} has no answer to learn ({length}); "
            "allow longer samples or leave it out"
        )
    slots = record.conversation.slots[: len(encoded.images)]
    names = tuple(record.images[slot.index] for slot in slots)
    return Sample(record.id, encoded, names, len(whole) - len(encoded))
