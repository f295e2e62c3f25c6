"""Write what a reader found as a checkpoint of ours: the end of every import."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from neva.errors import CheckpointError
from neva.model.assemble import Words, llava_config, write_files
from neva.model.checkpoint import Checkpoint
from neva.model.compose import add_image_token, check_layers, with_mean_row
from neva.model.files import check_free, written_aside
from neva.model.foreign import DEFAULT_TEMPLATE, check_template, likeness
from neva.model.importing.found import Found, Voice
from neva.model.importing.raw import Arrays, Raw, Raws, common_dtype
from neva.model.keys import BODY, HEAD
from neva.model.provenance import Provenance
from neva.model.quiet import quiet_transformers
from neva.model.shapes import Shapes, expected_shapes, says_tied
from neva.model.weights import sha256_file, write_tensors

_WORDS = f"{BODY}embed_tokens.weight"
_DTYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


@dataclass(frozen=True)
class Imported:
    """A checkpoint made of another's, and what its user should know, a sentence each."""

    checkpoint: Checkpoint
    notes: tuple[str, ...]


def write_found(found: Found, out: Path, template: str | None) -> Imported:
    """Write the checkpoint to `out`, all or nothing; `template` is the user's word.

    Weights keep their numbers: they are written in the smallest type that holds all of them. A
    CLIP from elsewhere is rounded to that type, as LLaVA's own loader does.
    """
    check_free(out)
    check_layers(found.source, [found.layer], int(found.tower.config["num_hidden_layers"]))
    name, notes = _template(found, template)
    dtype = _dtype(found)
    tensors, tied = _tied(found)
    image = add_image_token(found.voice.tokenizer, found.voice.source)
    notes += _uncovered(found.voice, tensors, image)
    tensors = _with_image_row(found, tensors, image)
    text = {
        **found.voice.config,
        "vocab_size": tensors[_WORDS].shape[0],
        "tie_word_embeddings": tied,
    }
    vision = dict(found.tower.config)
    config = llava_config(text, vision, found.projector, [found.layer], image, tied, _DTYPES[dtype])
    expected = expected_shapes(config)
    _check(found, tensors, expected)
    _buildable(found, config)
    words = Words(found.voice.tokenizer, found.voice.special, found.voice.eos_ids)
    colours = (found.tower.mean, found.tower.std)
    with written_aside(out) as folder:
        write_files(folder, config, words, colours, name, found.aspect)
        write_tensors(folder, Arrays(tensors, list(expected), dtype))  # asks for room first of all
        parents = tuple(_sha256(files) for files in found.origins if files)
        Provenance(
            "foreign", name, found.aspect, found.projector, found.made, parents=parents
        ).write(folder)
        Checkpoint.open(folder)  # what is not whole never gets its name
    return Imported(Checkpoint.open(out), (*found.notes, *notes))


def _template(found: Found, option: str | None) -> tuple[str, tuple[str, ...]]:
    """The prompt template's name, and a note where it had to be guessed."""
    name = option or found.template
    if name is not None:
        check_template(name)
        return name, ()
    like = likeness(found.voice.chat_template)
    why = "as its tokenizer's chat template is like it" if like else "as nothing there says which"
    guess = like or DEFAULT_TEMPLATE
    return guess, (
        f"prompts are written by the template {guess!r}, {why}; if it was trained with another, "
        "import it again with --template NAME",
    )


def _dtype(found: Found) -> torch.dtype:
    """What the checkpoint is written in; CheckpointError for numbers that are not floating."""
    own = [*found.tensors.values()]
    for raw in (*own, *found.tower.tensors.values()):
        if raw.dtype not in _DTYPES:
            raise CheckpointError(
                f"{raw.place} holds {str(raw.dtype).removeprefix('torch.')}, which is no type of "
                "weights that neva takes; import the weights that it was made from."
            )
    inside = [] if found.tower.origin else [*found.tower.tensors.values()]
    return common_dtype([*own, *inside])


def _tied(found: Found) -> tuple[dict[str, Raw], bool]:
    """The LM's and projector's tensors, and whether the head is the word embedding."""
    tensors = dict(found.tensors)
    if not says_tied({"text_config": found.voice.config}):
        return tensors, False
    head, words = tensors.get(HEAD), tensors.get(_WORDS)
    if head is None or words is None:
        return tensors, head is None
    if head.shape == words.shape and torch.equal(head.read(), words.read()):
        del tensors[HEAD]
        return tensors, True
    return tensors, False


def _uncovered(voice: Voice, tensors: Raws, image: int) -> tuple[str, ...]:
    """A note where the tokenizer has tokens that the embedding has no rows for."""
    if _WORDS not in tensors:
        return ()
    over = range(tensors[_WORDS].shape[0], voice.tokenizer.get_vocab_size(with_added_tokens=True))
    bare = [voice.tokenizer.id_to_token(i) for i in over if i != image]
    if not bare:
        return ()
    return (
        f"{len(bare)} tokens of the tokenizer have no row in the word embedding, first {bare[0]!r};"
        " they get the mean of all others",
    )


def _with_image_row(found: Found, tensors: Raws, image: int) -> dict[str, Raw]:
    """As `compose`: embedding and head grow by what is needed, the image token's row is a mean."""
    grown = dict(tensors)
    last = max(image, found.voice.tokenizer.get_vocab_size(with_added_tokens=True) - 1)
    for name in {_WORDS, HEAD} & grown.keys():
        raw = grown[name]
        if len(raw.shape) != 2 or not raw.shape[0]:
            raise CheckpointError(f"{raw.place} has shape {raw.shape}; it is no word embedding.")
        grown[name] = _grown(raw, image, last)
    return grown


def _grown(raw: Raw, image: int, last: int) -> Raw:
    """Rows up to `last` and at least those that there are; that of the image token is a mean."""

    def rows() -> torch.Tensor:
        more = with_mean_row(raw.read(), image)
        return more if more.shape[0] > last else with_mean_row(more, last)

    return Raw((max(raw.shape[0], last + 1), raw.shape[1]), raw.dtype, rows, raw.place)


def _check(found: Found, tensors: dict[str, Raw], expected: Shapes) -> None:
    """Add the tower's tensors; CheckpointError unless all are there in their shapes, and no more.

    `found` has named every tensor already, so that what is left over belongs to the configuration.
    """
    tensors |= found.tower.tensors
    for name, shape in expected.items():
        raw = tensors.get(name)
        if raw is None:
            raise CheckpointError(
                f"{found.source}: {name} is missing (as neva names it); copy the source again."
            )
        if raw.shape != shape:
            raise CheckpointError(
                f"{raw.place} has shape {raw.shape}, but the configuration asks for {shape}; the "
                "files do not belong together."
            )
    if lost := sorted(set(tensors) - set(expected)):
        raise CheckpointError(
            f"{tensors[lost[0]].place}: the configuration asks for no such tensor, of {len(lost)} "
            "in all; the files do not belong together."
        )


def _buildable(found: Found, config: Mapping[str, Any]) -> None:
    """CheckpointError for a configuration without room for a picture, or without arithmetic."""
    vision, context = config["vision_config"], config["text_config"]["max_position_embeddings"]
    picture = (vision["image_size"] // vision["patch_size"]) ** 2
    if context <= picture:
        raise CheckpointError(
            f"{found.voice.source}: its context is {context} tokens, no room for the {picture} of "
            "a picture; correct max_position_embeddings."
        )
    own = {name: value for name, value in config.items() if name != "model_type"}
    try:
        with quiet_transformers(), torch.device("meta"):
            LlavaForConditionalGeneration(LlavaConfig.from_dict(own))
    except Exception as error:  # of many classes, a bare KeyError of a word that it does not know
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(
            f"{found.source}: transformers cannot build such a model ({line}); correct its "
            "configuration."
        ) from error


def _sha256(files: tuple[Path, ...]) -> str:
    """sha256 of one file, or of the list that sha256sum prints; as of a checkpoint's weights."""
    if len(files) == 1:
        return sha256_file(files[0])
    lines = "".join(f"{sha256_file(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()
