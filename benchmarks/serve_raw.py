"""openvino-genai without HTTP, in one process: the ceiling that our server is held to.

    python serve_raw.py CHECKPOINT PRECISION LOAD-AS-JSON    # measures itself
    python serve_raw.py CHECKPOINT PRECISION                 # answers lines of JSON: serve_start.py

The same graphs, embeddings, properties and caches as our engine, driven by the shortest loop there
is: no process between, no checks, no text, no events. Tokens are stamped as `step` returns them.
Prints one JSON object, or one for each line it is given.
"""

import base64
import json
import resource
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
import openvino_genai as genai
from openvino import Core, Tensor
from serve_client import Answer
from serve_load import Load, body, measure, picture, warm

from neva.engine.graphs import export
from neva.engine.precision import PRECISIONS
from neva.images import read_image
from neva.model.checkpoint import Checkpoint
from neva.prompts import Conversation, ImageSlot, assistant, encode, user

CACHE_BLOCKS = 1456  # what our engine gives this LM by default: 2 GiB of float32 keys and values


@dataclass
class _Asked:
    """A body made ready: ids, the picture's name and floats, where it goes."""

    ids: np.ndarray
    name: str
    pixels: np.ndarray
    start: int
    tokens: int


@dataclass
class _Live:
    """A request under way; `embeds` must outlive it."""

    handle: Any
    answer: Answer
    embeds: Any
    tokens: list[int]


class RawAsker:
    """See `Asker` in serve_load.py. Pictures are decoded and cut before the clock starts."""

    def __init__(self, path: Path, precision: str) -> None:
        row = PRECISIONS[precision]
        self._checkpoint = Checkpoint.open(path)
        made, core = export(self._checkpoint, row.weights), Core()
        self._text = core.compile_model(made.text, "CPU", {"EXECUTION_MODE_HINT": "ACCURACY"})
        self._vision = core.compile_model(made.vision, "CPU", dict(row.vision))
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = CACHE_BLOCKS
        scheduler.enable_prefix_caching = True
        self._pipeline = genai.ContinuousBatchingPipeline(
            str(made.folder), scheduler, "CPU", dict(row.language)
        )
        self._features: dict[str, np.ndarray] = {}
        self._keys = 0

    def ask(
        self, bodies: Sequence[dict[str, object]], clients: int, seconds: float
    ) -> list[Answer]:
        """One thread embeds, this one steps; a new request starts when another ends."""
        waiting = deque(self._ready(one) for one in bodies)
        to_embed: SimpleQueue[Any] = SimpleQueue()
        embedded: SimpleQueue[Any] = SimpleQueue()
        embedder = Thread(target=self._embed, args=(to_embed, embedded), daemon=True)
        embedder.start()
        answers: list[Answer] = []
        live: dict[int, _Live] = {}
        begun = time.perf_counter()

        def send() -> None:
            if waiting:
                answers.append(Answer(time.perf_counter()))
                to_embed.put((waiting.popleft(), answers[-1]))

        for _ in range(clients):
            send()
        ended = 0
        while ended < len(bodies) and time.perf_counter() - begun < seconds:
            while not live or not embedded.empty():
                asked, answer, embeds = embedded.get()
                self._keys += 1
                handle = self._pipeline.add_request(self._keys, Tensor(embeds), _config(asked))
                live[self._keys] = _Live(handle, answer, embeds, [])
            self._pipeline.step()
            now = time.perf_counter()
            for key, one in list(live.items()):
                if _read(one, now):
                    one.answer.text = self._checkpoint.tokenizer.decode(one.tokens)
                    del live[key]
                    ended += 1
                    send()
        for one in live.values():
            one.handle.cancel()
        if live:
            self._pipeline.step()
        while not to_embed.empty():  # what a crowd that was cut off left: nobody waits for it
            to_embed.get()
        to_embed.put(None)
        embedder.join()  # a thread inside OpenVINO when the process ends takes the process down
        return answers

    def _ready(self, asked: dict[str, Any]) -> _Asked:
        parts: list[Any] = []
        for message in asked["messages"]:
            content = message["content"]
            if isinstance(content, str):
                parts.append(user(content) if message["role"] == "user" else assistant(content))
                continue
            uri = content[0]["image_url"]["url"]
            parts.append(user(ImageSlot(0), "\n" + content[1]["text"]))
        image = read_image(base64.b64decode(uri.split(",")[1]))
        known = self._checkpoint
        encoded = encode(
            Conversation(tuple(parts)), known.template, known.tokenizer,
            known.image_token_id, known.image_tokens, answer=True,
        )  # fmt: skip
        ids = np.array(encoded.ids, dtype=np.int64)
        pixels = known.pixels.pixels(image)
        return _Asked(ids, image.digest, pixels, encoded.images[0], int(asked["max_tokens"]))

    def _embed(self, to_embed: "SimpleQueue[Any]", embedded: "SimpleQueue[Any]") -> None:
        while (item := to_embed.get()) is not None:
            asked, answer = item
            if asked.name not in self._features:
                features = self._vision(asked.pixels[None])[0][0]
                self._features[asked.name] = np.array(features, dtype=np.float32)
            embeds = np.array(self._text(asked.ids[None])[0], dtype=np.float32)
            features = self._features[asked.name]
            embeds[0, asked.start : asked.start + len(features)] = features
            embedded.put((asked, answer, embeds))


def _config(asked: _Asked) -> Any:
    config = genai.GenerationConfig()
    config.max_new_tokens = asked.tokens
    config.do_sample = False
    return config


def _read(live: _Live, now: float) -> bool:
    """Stamp the new tokens; whether that was the end."""
    finished = False
    while live.handle.can_read():
        for output in live.handle.read().values():
            live.tokens += output.generated_ids
            live.answer.stamps += [now] * len(output.generated_ids)
            finished = output.finish_reason != genai.GenerationFinishReason.NONE
    if finished:
        live.answer.counted = len(live.tokens)
    return finished


def main() -> None:
    """Load; then measure and print, or answer what is asked until the input ends."""
    path, precision = Path(sys.argv[1]), sys.argv[2]
    started = time.perf_counter()
    asker = RawAsker(path, precision)
    if sys.argv[3:]:
        print(json.dumps(_measured(asker, started, Load(**json.loads(sys.argv[3])))))
        return
    for line in sys.stdin:
        print(json.dumps([asdict(one) for one in asker.ask(**json.loads(line))]), flush=True)


def _measured(asker: RawAsker, started: float, load: Load) -> dict[str, Any]:
    asker.ask([body(picture(1), ["Hi."], 2)], 1, load.patience)
    seconds = round(time.perf_counter() - started, 2)
    warm(asker, load)
    found = measure(asker, load)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"load_s": seconds, "peak_mb": round(peak, 1), **found}


if __name__ == "__main__":
    main()
