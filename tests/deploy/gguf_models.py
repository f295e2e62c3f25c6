"""Tiny checkpoints for the export to GGUF, and tokenizers of every kind that it takes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from neva.deploy.gguf.export import file_names, write_gguf
from neva.model import Checkpoint

SPECIALS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<image>"]
SPACE = "▁"
WORDS = 2000  # rows of the tiny checkpoint's embedding beyond its own tokenizer's
SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
LLAMA_3 = rf"{LETTERS}|\p{{N}}{{1,3}}|{SYMBOLS}"
QWEN_2 = rf"{LETTERS}|\p{{N}}|{SYMBOLS}"
CORPUS = (
    "What is in this picture? Two cats sleep on a red sofa near the window, aren't they?\n\n"
    "USER: How many dogs are there? ASSISTANT: There are 3 dogs, 12 or 2026 of them brown!!\n"
    "    def indented(code):\n\treturn code[0] + 1.5e10  # comment\r\n"
    "Der Bär läßt grüßen; naïve café déjà-vu. Привет, мир.\n"
    "你好,世界。 日本語テスト 한국어 🐱🐶👩‍👩‍👧\n"
    "I'll we've THEY'RE it's don't ''' \"quoted\" (brackets) [1,2] {x} <y> a_b a-b a/b\\c @#$%^&*\n"
)
TEXTS = [
    "", " ", "  ", "\n", "\n\n", " \n ", "\t\t", "a", " a", "A cat", "the cats sleep ", "\nWhat?",
    "What is in this picture?", "How many dogs are there? 12345 67", "1 22 333 4444 55555",
    "I'll, THEY'RE, don'T it's", "''' \"x\"", "x  y   z    w", "line\r\nline\n\n\nline", "tab\tx",
    "Der Bär läßt grüßen", "naïve café", "Привет, мир!", "你好,世界。", "日本語テスト", "한국어",
    "🐱🐶", "👩‍👩‍👧", "e\u0301", "\u00a0x", "\u200bx", "\ufeffx", "½ ² Ⅷ ٣", "a_b a-b a/b\\c",
    "!!! ??? ...", "<y> <image> <|im", "[1,2] {x}", "x\u0000y", "ﬁ ﬂ", "aaaaaaaaaaaaaaaaaaaaaaa",
    "    def indented(code):\n\treturn", "a          b   c  d", " ,.;:- ",
    "@#$%^&*()", "1.5e10 3,000,000", "▁ ▁x",
]  # fmt: skip


def splitter(kind: str) -> Any:
    byte = pre_tokenizers.ByteLevel
    if kind == "gpt-2":
        return byte(add_prefix_space=False)
    if kind == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, byte(add_prefix_space=False)])
    pattern = {"llama-bpe": LLAMA_3, "qwen2": QWEN_2}[kind]
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, byte(add_prefix_space=False, use_regex=False)])


def byte_level(kind: str) -> Tokenizer:
    """Trained on CORPUS, split as llama.cpp's splitter of that name does."""
    made = Tokenizer(models.BPE(ignore_merges=kind == "llama-bpe"))
    made.pre_tokenizer = splitter(kind)
    made.decoder = decoders.ByteLevel()
    if kind == "qwen2":
        made.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=900, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([CORPUS] * 3, trainer)
    if kind == "llama-bpe":
        made.post_processor = begins()
    return made


def begins() -> Any:
    return TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])


def sentencepiece(legacy: bool) -> Tokenizer:
    """As Llama 2's: bytes as tokens, every pair that makes a token a merge, BOS in front."""
    trained = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(split=True)
    in_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = BpeTrainer(vocab_size=900, special_tokens=[*SPECIALS, *in_bytes], show_progress=False)
    trained.train_from_iterator(CORPUS.splitlines() * 3, trainer)
    state = json.loads(trained.to_str())
    vocab = state["model"]["vocab"]
    pieces = [p for p in sorted(vocab, key=lambda p: vocab[p]) if p not in (*SPECIALS, *in_bytes)]
    merges = []
    for piece in pieces:
        halves = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [half for half in halves if half[0] in pieces and half[1] in pieces]
        merges += sorted(known, key=lambda half: (vocab[half[0]], vocab[half[1]]))
    runs = [SPACE * length for length in range(2, 9)]  # as Llama has them
    vocab |= {run: number for number, run in enumerate(runs, len(vocab))}
    grown = [(left, right) for left in range(8, 0, -1) for right in range(8 - left, 0, -1)]
    merges += [(SPACE * left, SPACE * right) for left, right in grown]
    state["model"]["merges"] = merges
    state["added_tokens"] = [a for a in state["added_tokens"] if a["content"] in SPECIALS]
    made = Tokenizer.from_str(json.dumps(state))
    if legacy:
        made.pre_tokenizer = None
        made.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.post_processor = begins()
    return made


def tokenizer(kind: str) -> Tokenizer:
    if kind.startswith("sentencepiece"):
        return sentencepiece(legacy=kind.endswith("legacy"))
    return byte_level(kind)


Read = dict[str, Any]
KINDS = ("gpt-2", "smollm", "llama-bpe", "qwen2", "sentencepiece", "sentencepiece-legacy")


def tiny(folder: Path, **options: Any) -> Path:
    """tiny_llava's checkpoint: llama-like families, a tokenizer of bytes."""
    from tiny_llava import write_checkpoint

    made: Path = write_checkpoint(folder, **options)
    return made


def tiny_with(folder: Path, made: Tokenizer) -> Path:
    """The tiny llama with another tokenizer."""
    tiny(folder, words=WORDS)
    made.add_special_tokens([AddedToken(text, special=True) for text in SPECIALS])
    made.save(str(folder / "tokenizer.json"))
    change(folder / "config.json", image_token_index=made.token_to_id("<image>"))
    return folder


def change(file: Path, **values: Any) -> None:
    """Change entries of a JSON file; a dictionary is merged into the one that is there."""
    record = json.loads(file.read_text())
    for name, value in values.items():
        merged = isinstance(value, dict) and isinstance(record.get(name), dict)
        record[name] = {**record[name], **value} if merged else value
    file.write_text(json.dumps(record))


def composed(folder: Path, family: str, projector: str = "mlp2x_gelu", **options: Any) -> Path:
    """small.py's language model of the family behind its CLIP, in float32."""
    from small import write_clip, write_language

    from neva.model.compose import compose

    clip = write_clip(folder / "clip")
    language = write_language(folder / "language", family)
    made = compose(clip, language, projector, folder / family, dtype="float32", **options)
    return made.path


def read(file: Path) -> tuple[Read, dict[str, np.ndarray]]:
    """Entries and tensors, in float32."""
    reader = GGUFReader(str(file))
    entries = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {
        tensor.name: np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        for tensor in reader.tensors
    }
    return entries, tensors


def exported(path: Path, out: Path, kind: str = "f32", **options: Any) -> tuple[Path, Path]:
    source = Checkpoint.open(path)
    write_gguf(source, out, kind, **options)
    words, eyes = file_names(source, kind)
    return out / words, out / eyes
