"""Grammars are compiled in a thread of their own, before a request that needs one joins the batch.

openvino-genai compiles a grammar in the step that chooses the first token under it, and for that
long (seconds, for a large schema and vocabulary) nobody gets a token. The compiler and its cache
belong to the tokenizer, though. So a second pipeline with the same tokenizer, whose model is a few
nodes that say nothing, generates one token under the grammar in the other thread, without Python's
lock; the step then finds the grammar compiled.
"""

import contextlib
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from threading import Thread, get_native_id
from typing import Any

import numpy as np
import openvino_genai as genai
from openvino import Core, Model, Tensor, opset15

from neva.engine.spelling import serialized

NICE = 10
"""The compiler takes eight threads: it shall leave the cores to the steps where both want them."""
MOST = 64
"""Compiled grammars that are kept: genai's cache has no bound. Beyond it all are forgotten."""


class Grammars:
    """Compiles one grammar at a time. For one thread, but for what it does beside."""

    def __init__(self, tokenizer: Any, language: Path, most: int = MOST) -> None:
        """`tokenizer`: the one of the pipeline in use; `language`: that pipeline's graph."""
        self._tokenizer, self._language, self._most = tokenizer, language, most
        self._silent: Any = None
        self._known: set[bytes] = set()
        self._work: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        self._done: SimpleQueue[Any] = SimpleQueue()
        self.descriptor, self._bell = os.pipe()
        self.asked: str | None = None  # the grammar under way
        self.compiled = 0
        Thread(target=self._run, name="neva-grammars", daemon=True).start()

    def knows(self, grammar: str) -> bool:
        """A step will find it compiled."""
        return _digest(grammar) in self._known

    def compile(self, grammar: str) -> None:
        """Begin, when `asked` is None; `descriptor` can be read when there is news."""
        self.asked = grammar
        fresh = self._silent is None or len(self._known) >= self._most
        self._work.put(self._make if fresh else lambda: self._compile(grammar))

    def heard(self) -> Exception | None:
        """The news: `asked` is None again if it is over, with the reason if it failed."""
        os.read(self.descriptor, 1)
        news, grammar = self._done.get(), self.asked
        if isinstance(news, tuple):  # of pipelines
            for pipeline in news:  # in this thread: it gives the tokenizer a new compiler
                _generate(pipeline, None)
            self._silent = news[-1]
            self._known.clear()
            self._work.put(lambda: self._compile(str(grammar)))
            return None
        self.asked = None
        if isinstance(news, Exception):
            return news
        self._known.add(_digest(str(grammar)))
        self.compiled += 1
        return None

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # this thread and those that the compiler starts from it
            os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)
        while True:
            work = self._work.get()
            try:
                self._done.put(work())
            except Exception as error:
                self._done.put(error)
            os.write(self._bell, b".")

    def _make(self) -> tuple[Any, ...]:
        """Pipelines to give the tokenizer a compiler that knows nothing.

        It makes a new one when the vocabulary's size is not that of the last, so a pipeline with
        another size comes between.
        """
        size = int(
            Core().read_model(self._language).output("logits").partial_shape[-1].get_length()
        )
        sizes = (size,) if self._silent is None else (size + 1, size)
        return tuple(silent_pipeline(self._tokenizer, vocabulary) for vocabulary in sizes)

    def _compile(self, grammar: str) -> None:
        _generate(self._silent, grammar)


def silent_pipeline(tokenizer: Any, vocabulary: int) -> Any:
    """A pipeline that gives every token the same chance."""
    model, weights = serialized(silence(vocabulary))
    config = genai.GenerationConfig()
    how = {"ATTENTION_BACKEND": "SDPA", "INFERENCE_NUM_THREADS": 1}
    return genai.LLMPipeline(model, weights, tokenizer, "CPU", config, **how)


def silence(vocabulary: int) -> Model:
    """input_ids (B, T), attention_mask, beam_idx -> logits (B, T, vocabulary), all 0."""
    kinds = {"input_ids": np.int64, "attention_mask": np.int64, "beam_idx": np.int32}
    inputs = []
    for name, kind in kinds.items():
        given = opset15.parameter([-1] if name == "beam_idx" else [-1, -1], kind, name=name)
        given.output(0).tensor.add_names({name})
        inputs.append(given)
    nothing = [opset15.multiply(opset15.convert(one, "f32"), np.float32(0)) for one in inputs]
    rest = opset15.add(
        opset15.reduce_sum(nothing[1], np.array([0, 1]), False),
        opset15.reduce_sum(nothing[2], np.array([0]), False),
    )
    flat = opset15.unsqueeze(opset15.add(nothing[0], rest), np.int64(2))
    logits = opset15.add(flat, np.zeros((1, 1, vocabulary), np.float32))
    logits.output(0).tensor.add_names({"logits"})
    return Model([logits], inputs, "silence")


def _generate(pipeline: Any, grammar: str | None) -> None:
    """One token."""
    config = genai.GenerationConfig()
    config.max_new_tokens = 1
    if grammar is not None:
        config.structured_output_config = genai.StructuredOutputConfig(grammar=grammar)
    pipeline.generate(Tensor(np.zeros((1, 1), np.int64)), config)


def _digest(grammar: str) -> bytes:
    return sha256(grammar.encode()).digest()
