"""A small set of questions, answered greedily while a run goes on, to see what it has learned.

With the weights as they are, through the model that trains, about images in the places that the run
learns from. Nothing here draws a random number, so a run with a probe learns what it learns without
one. Answers and thumbnails stay in RUN/probe.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import DynamicCache, LlavaForConditionalGeneration

from neva.data.batch import Picture
from neva.errors import DataError, ImageError
from neva.images import RGBImage
from neva.model.arrays import as_tensor
from neva.model.features import image_features
from neva.prompts import Encoded, ask, encode, stop_ids
from neva.train.folder import RunFolder
from neva.train.learner import Learner
from neva.train.questions import Question, read_questions
from neva.train.story import read_lines

if TYPE_CHECKING:
    from neva.train.feed import Feed

MAX_TOKENS = 32  # of an answer
THUMBNAIL = 160  # pixels
MOST_LIVE_IMAGES = 8  # through CLIP at once


@dataclass(frozen=True)
class Asked:
    """A question and its pictures as they are stored, read before anything else is loaded."""

    question: Question
    pictures: tuple[RGBImage, ...]

    def squeezed(self, number: int) -> list[tuple[str, Image.Image]]:
        """Thumbnails by the names of their files."""
        found = []
        for place, picture in enumerate(self.pictures):
            small = Image.fromarray(picture.array)
            small.thumbnail((THUMBNAIL, THUMBNAIL))
            found.append((f"{number}-{place}.jpg", small))
        return found


def look_up(path: Path, feed: "Feed") -> list[Asked]:
    """The questions of a file, their images out of the run's own stores. DataError."""
    found = []
    for question in read_questions(path):
        try:
            pictures = tuple(feed.store_of(name).read(name) for name in question.images)
        except ImageError as error:
            raise DataError(f"{path}, question {question.text[:60]!r}: {error}") from None
        found.append(Asked(question, pictures))
    return found


@dataclass(frozen=True)
class Prompt:
    """A question made ready: its tokens, and the frozen features (N, P, Dv) of its images."""

    encoded: Encoded
    features: Tensor | None


class Probe:
    """Opened once, before the first step, so that a bad file does not end a run hours in.

    Where every rank has the whole model they share the questions; else all of them ask each.
    """

    def __init__(self, asked: Sequence[Asked], learner: Learner, feed: "Feed") -> None:
        """`feed` is attached. DataError for whatever cannot be asked."""
        self._learner, self._template, self.asked = learner, feed.template, asked
        ranks = learner.ranks
        share = slice(None) if learner.grid.divided else slice(ranks.rank, None, ranks.world)
        encoded = [self._encode(one.question) for one in asked]
        self._prompts = [
            Prompt(words, self._features([feed.picture(name) for name in one.question.images]))
            for one, words in list(zip(asked, encoded, strict=True))[share]
        ]

    @property
    def questions(self) -> list[Question]:
        """What is asked, in the file's order."""
        return [one.question for one in self.asked]

    def _encode(self, question: Question) -> Encoded:
        parent = self._learner.parent
        conversation = ask(question.text, len(question.images))
        encoded = encode(
            conversation, self._template, parent.tokenizer, parent.image_token_id,
            parent.image_tokens, answer=True,
        )  # fmt: skip
        if not 0 < len(encoded) <= parent.context - MAX_TOKENS:
            raise DataError(
                f"The probe's question {question.text[:60]!r} is {len(encoded)} tokens long; with "
                f"an answer of {MAX_TOKENS} it must fit the model's {parent.context}, and not be "
                "empty: shorten it or leave it out."
            )
        return encoded

    def _features(self, pictures: Sequence[Picture]) -> Tensor | None:
        """(N, P, Dv) on the CPU, out of the cache or by the frozen tower."""
        cached = [as_tensor(one.features) for one in pictures if one.features is not None]
        squares = [torch.from_numpy(one.square) for one in pictures if one.square is not None]
        if cached or not squares:
            return torch.stack(cached) if cached else None
        learner = self._learner
        parts = torch.split(torch.stack(squares), MOST_LIVE_IMAGES)
        pixels = learner.parent.pixels
        return torch.cat([image_features(learner.model, part, pixels).cpu() for part in parts])

    def answers(self) -> list[str]:
        """Every question's greedy answer with the weights as they are. All ranks must ask."""
        with calm(self._learner.model), torch.no_grad():
            mine = [self._answer(prompt) for prompt in self._prompts]
        if self._learner.grid.divided:
            return mine
        answers = [""] * len(self.asked)
        for rank, said in enumerate(self._learner.ranks.gather(mine)):
            answers[rank :: self._learner.ranks.world] = said
        return answers

    def _answer(self, prompt: Prompt) -> str:
        parent = self._learner.parent
        tokens = self._learner.whole.call(
            greedy,
            torch.tensor(prompt.encoded.ids),
            prompt.features,
            frozenset(parent.stop_ids) | frozenset(stop_ids(self._template, parent.tokenizer)),
        )
        text: str = parent.tokenizer.decode(tokens, skip_special_tokens=True)
        for stop in self._template.stop:
            text = text.partition(stop)[0]
        return text.strip()


def greedy(
    model: LlavaForConditionalGeneration,
    ids: Tensor,
    features: Tensor | None,
    stops: frozenset[int],
) -> list[int]:
    """The likeliest tokens after a prompt (T,), at most MAX_TOKENS, without what ends them."""
    cache, tokens = DynamicCache(), list[int]()
    device = model.lm_head.weight.device
    step = _embedded(model, ids.to(device), features)
    while len(tokens) < MAX_TOKENS:
        hidden = model.model.language_model(
            inputs_embeds=step, past_key_values=cache, use_cache=True
        ).last_hidden_state
        logits = model.lm_head(hidden[0, -1:])[0].float()
        if model.config.image_token_id < len(logits):
            logits[model.config.image_token_id] = -torch.inf
        token = int(logits.argmax())
        if token in stops:
            break
        tokens.append(token)
        step = model.get_input_embeddings()(torch.tensor([[token]], device=device))
    return tokens


def _embedded(model: LlavaForConditionalGeneration, ids: Tensor, features: Tensor | None) -> Tensor:
    """(T,) -> (1, T, D), projected features in the places of the image tokens."""
    embeddings = model.get_input_embeddings()(ids)
    if features is not None:
        projector = model.model.multi_modal_projector
        given = features.to(embeddings.device, projector.linear_1.weight.dtype)
        projected = projector(given).flatten(0, 1).to(embeddings.dtype)
        places = (ids == model.config.image_token_id).nonzero()[:, 0]
        embeddings = embeddings.index_copy(0, places, projected)
    whole: Tensor = embeddings[None]
    return whole


@contextmanager
def calm(model: nn.Module) -> Iterator[None]:
    """Without an adapter's dropout and without recomputing, whatever the training has set."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def begin_sheet(folder: RunFolder, probe: Probe, done: int) -> None:
    """Questions and thumbnails in RUN/probe; answers of steps after `done` are forgotten."""
    folder.probe.mkdir(exist_ok=True)
    kept = [line for line in read_lines(folder.probe / "answers.jsonl") if line["step"] <= done]
    entries: list[dict[str, Any]] = []
    for number, one in enumerate(probe.asked, 1):
        thumbnails = one.squeezed(number)
        for file, small in thumbnails:
            small.save(folder.probe / file, "JPEG", quality=85)
        entries.append({**vars(one.question), "thumbnails": [file for file, _ in thumbnails]})
    folder.write("probe/questions.json", {"questions": entries})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
    (folder.probe / "answers.jsonl").write_text(text, encoding="utf-8")


def add_answers(folder: RunFolder, step: int, answers: Sequence[str]) -> None:
    """A line of RUN/probe/answers.jsonl."""
    with (folder.probe / "answers.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "answers": list(answers)}, ensure_ascii=False) + "\n")
