"""NeMo 1's archives of NeVA: configuration, weights and what of them is not inside.

Facts are from NVIDIA's own converters (docs/importing.md); no real archive was at hand.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from neva.errors import CheckpointError
from neva.model.importing.archive import Unpacked, opened_nemo
from neva.model.importing.found import Found
from neva.model.importing.nemo_config import NemoFacts, nemo_facts, read_yaml, tower_doubts
from neva.model.importing.nemo_names import ADAPTER, WORDS, taken_apart, unwrapped
from neva.model.importing.parts import projector_tensors
from neva.model.importing.pickles import read_pickle
from neva.model.importing.raw import Raw, rows
from neva.model.importing.tower import read_tower
from neva.model.importing.voice import language_config, language_tensors, read_voice
from neva.model.keys import HEAD, VISION
from neva.model.source import source_name


@contextmanager
def opened_archive(
    source: Path, vision: str | None, language: str | None, beside: Path
) -> Iterator[Found]:
    """What is in a .nemo archive (or its unpacked folder), readable while the block lasts."""
    if language is None:
        raise CheckpointError(
            f"{source}: a NeMo archive has no Hugging Face tokenizer; give the language model that "
            "NeVA was made of by --language: its config.json and tokenizer are taken."
        )
    with opened_nemo(source, beside) as unpacked:
        yield _read(unpacked, vision, language)


def _read(unpacked: Unpacked, vision: str | None, language: str) -> Found:
    source, shards = unpacked.source, unpacked.shards()
    assert unpacked.config is not None  # `shards` has looked
    config = language_config(language)
    text = config.to_dict()
    said = read_yaml(unpacked.config, source)
    facts = nemo_facts(source, said, text)
    if facts.ranks != len(shards):
        raise CheckpointError(
            f"{source}: {len(shards)} shards of weights, and tensor_model_parallel_size is "
            f"{facts.ranks}; the archive is incomplete, copy it again."
        )
    found = [
        unwrapped(read_pickle(file, f"{source}, shard {rank}")) for rank, file in enumerate(shards)
    ]
    parts = taken_apart(source, found, facts)
    inside = {name: raw for name, raw in parts.items() if name.startswith(VISION)}
    projector = {m[1]: raw for name, raw in parts.items() if (m := ADAPTER.fullmatch(name))}
    body = {n: r for n, r in parts.items() if n not in inside and not ADAPTER.fullmatch(n)}
    origins: tuple[tuple[Path, ...], ...] = ((source,) if source.is_file() else shards,)
    notes: tuple[str, ...] = ()
    voice = read_voice(language, config)
    if body:
        body, notes = _language(source, body, facts, int(text["vocab_size"]))
        voice = replace(voice, config={**voice.config, "tie_word_embeddings": facts.tied})
    else:  # NeMo leaves out what it froze
        body, files = language_tensors(language)
        origins += (files,)
        notes = (f"the archive holds no language model (it was frozen), so {language}'s is taken",)
    tower = read_tower(vision, facts.clip, inside, source)
    return Found(
        source=source,
        voice=voice,
        tower=tower,
        tensors=body | projector_tensors(source, facts.projector, projector),
        projector=facts.projector,
        layer=facts.layer,
        aspect=facts.aspect,
        made={
            "imported": "NeMo",
            "source": source_name(source),
            "vision": source_name(tower.source),
            "language": source_name(language),
        },
        template=facts.template,
        origins=(*origins, tower.origin),
        notes=notes + tower_doubts(said, tower.config, tower.source),
    )


def _language(
    source: Path, body: dict[str, Raw], facts: NemoFacts, vocabulary: int
) -> tuple[dict[str, Raw], tuple[str, ...]]:
    """The language model without its padded rows, and a note of them."""
    notes: tuple[str, ...] = ()
    if facts.tied and HEAD in body:
        head = body.pop(HEAD)
        words = body.get(WORDS)
        if words is None or words.shape != head.shape or not torch.equal(words.read(), head.read()):
            raise CheckpointError(
                f"{source}: it says that head and word embedding are one, and holds two; copy it "
                "again."
            )
    for name in (WORDS, HEAD):
        if name not in body:
            continue
        padded = body[name].shape[0]
        if padded < vocabulary:
            raise CheckpointError(
                f"{body[name].place} has {padded} rows, and the vocabulary of --language has "
                f"{vocabulary}; give the language model that NeVA was made of."
            )
        body[name] = rows(body[name], 0, vocabulary)
        if padded > vocabulary:
            notes = (
                f"of {padded} rows of the vocabulary the {vocabulary} of --language are taken; the "
                "rest is NeMo's padding, and tokens that --language does not have",
            )
    return body, notes
