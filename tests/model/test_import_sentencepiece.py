"""A LLaVA whose tokenizer is sentencepiece's alone, as LLaVA 1.5's is: LLaVA's own ids."""

import io
import json
from pathlib import Path

import pytest
import sentencepiece
from foreign_layouts import whole, write_llava

from neva.errors import CheckpointError
from neva.model import Checkpoint
from neva.model.importing.door import import_checkpoint
from neva.prompts import ask, encode

ROWS = 420
TEXT = """A chat between a curious user and an artificial intelligence assistant. USER: ASSISTANT:
the assistant gives helpful, detailed, and polite answers to the user's questions
what is in this picture? a red circle, two cats and an old man with a hat stand before a house
"""


@pytest.fixture(scope="module")
def folder(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model in LLaVA's layout, with `tokenizer.model` in the place of a tokenizer.json."""
    place = tmp_path_factory.mktemp("pieces")
    made = whole(place, clip, vocab_size=ROWS)
    folder = write_llava(place / "theirs", made)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines() * 20), model_writer=model, vocab_size=ROWS,
        model_type="bpe", byte_fallback=True, character_coverage=1.0, unk_id=0, bos_id=1, eos_id=2,
        normalization_rule_name="identity", split_digits=True, hard_vocab_limit=False,
        remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "LlamaTokenizer", "add_bos_token": True,
                    "add_eos_token": False, "bos_token": "<s>", "eos_token": "</s>",
                    "unk_token": "<unk>", "model_max_length": 2048, "legacy": False})
    )  # fmt: skip
    return folder


def test_a_prompt_has_llavas_ids(folder: Path, tmp_path: Path) -> None:
    """LLaVA tokenises what is before and behind the picture apart, each with the library itself."""
    checkpoint = import_checkpoint(folder, tmp_path / "ours", template="v1").checkpoint
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    conversation = ask("what is in this Bild?", images=1)
    system = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    before = f"{system} USER: "
    after = "\nwhat is in this Bild? ASSISTANT:"
    image = [checkpoint.image_token_id] * checkpoint.image_tokens
    expected = [1, *pieces.encode(before), *image, *pieces.encode(after)]
    encoded = encode(
        conversation, checkpoint.template, checkpoint.tokenizer, checkpoint.image_token_id,
        checkpoint.image_tokens, answer=True,
    )  # fmt: skip
    assert list(encoded.ids) == expected
    assert any(pieces.is_byte(i) for i in pieces.encode(after)), "bytes are among them"
    assert Checkpoint.open(tmp_path / "ours").image_token_id == ROWS


def test_what_cannot_be_read_names_the_extra(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.model").rename(tmp_path / "kept")
    try:
        (folder / "tokenizer.model").write_bytes(b"no model")
        with pytest.raises(CheckpointError, match=r"neva-vlm\[import\]"):
            import_checkpoint(folder, tmp_path / "ours")
    finally:
        (tmp_path / "kept").replace(folder / "tokenizer.model")
