"""The reference engine: any checkpoint, any device, in transformers' own model class.

Requests under way take turns, one token each, every one with its own KV cache and its own random
generator. So a request's text never depends on its neighbours; throughput is not the point here.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import torch
from transformers import DynamicCache

from neva.engine.admission import Admission, Limits, check_able
from neva.engine.decode import AnswerText
from neva.engine.logprobs import LogprobTape
from neva.engine.precision import torch_type
from neva.engine.protocol import Chunk, EngineInfo, Finish, Request, Stream, Usage
from neva.engine.stream import ChunkStream
from neva.engine.torch_sample import choose, scored
from neva.errors import EngineError
from neva.model.checkpoint import Checkpoint
from neva.model.load import load_model
from neva.prompts import Encoded

_log = logging.getLogger("neva.engine")
MOST_LOGPROBS = 20  # as at OpenAI


@dataclass
class _Answer:
    """One answer under way."""

    request: Request
    prompt: Encoded
    text: AnswerText
    tape: LogprobTape | None
    stream: ChunkStream
    cancelled: Event
    generator: torch.Generator
    said: Counter[int] = field(default_factory=Counter)
    cache: Any = None
    last: int = -1
    tokens: int = 0
    ended: bool = False

    def end(self, finish: Finish, text: str = "", error: str | None = None) -> None:
        """Push the last chunk."""
        self.ended = True
        usage = Usage(len(self.prompt.ids), self.tokens, 0, 0)  # it keeps nothing
        logprobs = self.tape.take(text, not self.text.stopped) if self.tape else ()
        self.stream.push(Chunk(text, finish, usage, error, logprobs))


class TorchEngine:
    """See `Engine` in protocol.py."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        precision: str | None = None,
        device: str | None = None,
        name: str | None = None,
    ) -> None:
        """Load the model. `precision` is one of TORCH_TYPES, float32 unless said otherwise.

        `device` is torch's word for it: CUDA if there is one, else the CPU.
        """
        self._dtype: torch.dtype = getattr(torch, torch_type(precision))
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._checkpoint = checkpoint
        self._model = load_model(checkpoint, self._device, self._dtype, attention="sdpa")
        limits = Limits(checkpoint.context, "the model's context")
        self._admission = Admission(checkpoint, limits)
        self._stop_ids = self._admission.stop_ids
        vocabulary = checkpoint.tokenizer.get_vocab_size(with_added_tokens=True)
        self._vocabulary = min(vocabulary, self._model.get_input_embeddings().weight.shape[0])
        self._info = EngineInfo(
            name=name or checkpoint.path.name,
            engine="torch",
            precision=str(self._dtype).removeprefix("torch."),
            context=checkpoint.context,
            image_tokens=checkpoint.image_tokens,
            weights=checkpoint.fingerprint,
            reproducible=True,
            device=str(self._device),
            top_logprobs=None if self._admission.spelled is None else MOST_LOGPROBS,
        )
        self._inbox: SimpleQueue[_Answer | None] = SimpleQueue()
        self._closed = False
        self._thread = Thread(target=self._run, name="neva-torch", daemon=True)
        self._thread.start()

    @property
    def info(self) -> EngineInfo:
        """What is being served."""
        return self._info

    def generate(self, requests: Sequence[Request]) -> list[Stream]:
        """Start answering; NevaError, and nothing started, if one of them never can be."""
        if self._closed:
            raise EngineError("the engine is closed")
        for request in requests:
            check_able(request.sampling, self._info)
        prompts = [self._admission.admit(request) for request in requests]
        answers = [
            self._answer(request, prompt) for request, prompt in zip(requests, prompts, strict=True)
        ]
        for answer in answers:
            self._inbox.put(answer)
        return [answer.stream for answer in answers]

    def close(self) -> None:
        """Stop; answers under way end with finish "error"."""
        self._closed = True
        self._inbox.put(None)
        self._thread.join()

    def _answer(self, request: Request, prompt: Encoded) -> _Answer:
        cancelled = Event()
        return _Answer(
            request=request,
            prompt=prompt,
            text=self._admission.text(request.sampling),
            tape=self._admission.tape(request.sampling),
            stream=ChunkStream(cancelled.set),
            cancelled=cancelled,
            generator=torch.Generator().manual_seed(request.sampling.seed),
        )

    def _run(self) -> None:
        """The one thread that touches the model: a token for each answer in turn."""
        live: list[_Answer] = []
        while True:
            while not live or not self._inbox.empty():
                answer = self._inbox.get()
                if answer is None:
                    self._end_all(live)
                    return
                live.append(answer)
            for answer in live:
                _guarded(answer, self._advance)
            live = [answer for answer in live if not answer.ended]

    def _end_all(self, live: list[_Answer]) -> None:
        while not self._inbox.empty():
            waiting = self._inbox.get()
            if waiting is not None:
                live.append(waiting)
        for answer in live:
            answer.end("error", error="the engine was closed")

    @torch.inference_mode()
    def _advance(self, answer: _Answer) -> None:
        """One more token of one answer."""
        if answer.cancelled.is_set():
            answer.end("cancelled")
            return
        logits, sampling = self._logits(answer), answer.request.sampling
        token = choose(logits, sampling, answer.generator, answer.said)
        answer.said[token] += 1
        answer.tokens, answer.last = answer.tokens + 1, token
        if token in self._stop_ids:
            answer.end("stop", answer.text.flush(token))
            return
        if answer.tape:
            answer.tape.feed([scored(logits, token, sampling.top_logprobs)])
        shown = answer.text.feed([token])
        if answer.text.stopped:
            answer.end("stop", shown)
        elif answer.tokens == answer.request.sampling.max_tokens:
            answer.end("length", shown + answer.text.flush())
        elif shown:
            answer.stream.push(
                Chunk(shown, logprobs=answer.tape.take(shown) if answer.tape else ())
            )

    def _logits(self, answer: _Answer) -> torch.Tensor:
        """Logits (V,) of the next token; the image token and padding rows can never win."""
        if answer.cache is None:
            answer.cache = DynamicCache()
            inputs = self._prompt(answer)
        else:
            inputs = {"input_ids": torch.tensor([[answer.last]], device=self._device)}
        output = self._model(
            **inputs, past_key_values=answer.cache, use_cache=True, logits_to_keep=1
        )
        logits: torch.Tensor = output.logits[0, -1, : self._vocabulary].float()
        if self._checkpoint.image_token_id < self._vocabulary:
            logits[self._checkpoint.image_token_id] = -torch.inf
        return logits

    def _prompt(self, answer: _Answer) -> dict[str, torch.Tensor]:
        request = answer.request
        inputs = {"input_ids": torch.tensor([answer.prompt.ids], device=self._device)}
        slots = request.conversation.slots
        if slots:
            recipe = self._checkpoint.pixels
            images = [torch.from_numpy(recipe.pixels(request.images[s.index])) for s in slots]
            inputs["pixel_values"] = torch.stack(images).to(self._device, self._dtype)
        return inputs


def _guarded(answer: _Answer, advance: Callable[[_Answer], None]) -> None:
    """A fault in one answer ends that answer and no other."""
    try:
        advance(answer)
    except torch.OutOfMemoryError:
        answer.end("error", error="the device's memory is full: shorten the conversation")
    except Exception as error:
        _log.exception("an answer failed")
        answer.end("error", error=f"the engine failed: {type(error).__name__}")
