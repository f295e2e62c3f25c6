"""openvino-genai's tokenizer, made from how our tokens are spelled, for its grammars only.

genai builds a grammar's token masks from the vocabulary of its detokenizer. Ours never leaves
`tokenizers`, so genai gets a detokenizer that holds the spellings and a tokenizer that is never
asked (we submit embeddings). No transformers, no files: 0.1 s for 49,000 tokens.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
import openvino_tokenizers
from openvino import opset15


def spelling_tokenizer(spelled: Sequence[bytes], end: int) -> Any:
    """genai's Tokenizer; `end` is the token with which a grammar's text ends."""
    models = (_encoder(), _decoder(spelled))
    for model in models:
        model.set_rt_info(end, "eos_token_id")
    (encoder, weights), (decoder, strings) = map(serialized, models)
    return genai.Tokenizer(encoder, weights, decoder, strings)


def _decoder(spelled: Sequence[bytes]) -> ov.Model:
    """Ids (B, T) to strings (B,), by OpenVINO's own operator for vocabularies."""
    ids = opset15.parameter([-1, -1], np.int64)
    make = openvino_tokenizers._get_factory().create
    narrow = opset15.convert(ids, "i32")
    *texts, letters = make("VocabDecoder", [*narrow.outputs(), *_strings(spelled)]).outputs()
    joined = [*make("FuzeRagged", texts).outputs(), letters]
    packed = openvino_tokenizers._get_opset_factory("opset15").create("StringTensorPack", joined)
    packed.output(0).tensor.add_names({"string_output"})
    return ov.Model(packed.outputs(), [ids], "detokenizer")


def _strings(spelled: Sequence[bytes]) -> list[Any]:
    """The spellings as OpenVINO packs strings: where each begins and ends, and all their bytes."""
    ends = np.cumsum([len(text) for text in spelled], dtype=np.int32)
    begins = np.concatenate([np.zeros(1, np.int32), ends[:-1]])
    letters = np.frombuffer(b"".join(spelled), np.uint8)
    return [opset15.constant(array).output(0) for array in (begins, ends, letters)]


def _encoder() -> ov.Model:
    """A graph of a tokenizer's shape: strings (B,) to ids (B, 1)."""
    text = opset15.parameter([-1], ov.Type.string)
    factory = openvino_tokenizers._get_opset_factory("opset15")
    unpacked = factory.create("StringTensorUnpack", text.outputs())
    outputs = []
    for name in ("input_ids", "attention_mask"):
        begins = opset15.unsqueeze(unpacked.output(0), np.int64(1))
        wide = opset15.convert(begins, "i64")
        wide.output(0).tensor.add_names({name})
        outputs.append(wide.output(0))
    return ov.Model(outputs, [text], "tokenizer")


def serialized(model: ov.Model) -> tuple[str, ov.Tensor]:
    """A graph as genai takes it: its text and its weights."""
    with tempfile.TemporaryDirectory(prefix="neva-tokens-") as folder:
        graph = Path(folder) / "model.xml"
        ov.save_model(model, graph, compress_to_fp16=False)
        weights = np.fromfile(graph.with_suffix(".bin"), dtype=np.uint8)
        return graph.read_text(encoding="utf-8"), ov.Tensor(weights)
