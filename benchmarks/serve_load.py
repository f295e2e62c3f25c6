"""The load that every peer gets, and the figures made of it.

Per sample, one client: a picture that was never sent, a second question about the same picture, and
a second turn of the first conversation. Then one long answer, then 1, 8 and 32 clients who all send
pictures of their own at once. All greedy, all streamed.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image
from serve_client import Answer

FIRST = "What is in this picture? Describe what you see."
OTHER = "Which colours are there, and where in the picture are they?"
AGAIN = "Tell me more about the upper left corner."
SHARES = (50, 95, 99)


class Asker(Protocol):
    """Something that answers bodies of OpenAI's chat API."""

    def ask(
        self, bodies: Sequence[dict[str, object]], clients: int, seconds: float
    ) -> list[Answer]:
        """Answer all with `clients` under way; what is not done after `seconds` is cut off."""
        ...


@dataclass(frozen=True)
class Load:
    """How much is asked. `samples` of each time to first token; `patience`: seconds per step."""

    samples: int = 5
    short: int = 12
    long: int = 128
    crowd: int = 64
    clients: tuple[int, ...] = (1, 8, 32)
    patience: float = 45.0


QUICK = Load(samples=2, short=6, long=32, crowd=16, patience=20.0)


def picture(seed: int) -> str:
    """A data URI: coloured noise, coarse and fine, 640 x 480, as JPEG of a photo's size."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC))
    fine = rng.integers(-12, 13, pixels.shape)
    sink = io.BytesIO()
    Image.fromarray((pixels + fine).clip(0, 255).astype(np.uint8)).save(sink, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode()


def body(shown: str, turns: Sequence[str], tokens: int) -> dict[str, object]:
    """A request about one picture; `turns` are the user's, the assistant's and so on."""
    content = [
        {"type": "image_url", "image_url": {"url": shown}},
        {"type": "text", "text": turns[0]},
    ]
    messages: list[dict[str, object]] = [{"role": "user", "content": content}]
    for index, text in enumerate(turns[1:]):
        messages.append({"role": "user" if index % 2 else "assistant", "content": text})
    return {
        "messages": messages,
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def warm(asker: Asker, load: Load) -> None:
    """Everything once, unmeasured: kernels are chosen, caches made."""
    shown = picture(1)
    _whole(asker, [body(shown, [FIRST], load.short)], load)
    _whole(asker, [body(shown, [FIRST, "Colours.", AGAIN], load.short)], load)


def measure(asker: Asker, load: Load) -> dict[str, Any]:
    """Every figure but those of the process; milliseconds and tokens a second."""
    new, same, turn = [], [], []
    for sample in range(load.samples):
        shown = picture(100 + sample)
        (first,) = _whole(asker, [body(shown, [FIRST], load.short)], load)
        (other,) = _whole(asker, [body(shown, [OTHER], load.short)], load)
        turns = [FIRST, first.text or "Colours.", AGAIN]
        (second,) = _whole(asker, [body(shown, turns, load.short)], load)
        new.append(first.ttft)
        same.append(other.ttft)
        turn.append(second.ttft)
    found: dict[str, Any] = {
        "ttft_new_image_ms": spread(new),
        "ttft_same_image_ms": spread(same),
        "ttft_turn_2_ms": spread(turn),
        "decode_tokens_per_s": _decode(asker, load),
    }
    for clients in load.clients:
        found[f"clients_{clients}"] = crowd(asker, load, clients)
    return found


def crowd(asker: Asker, load: Load, clients: int) -> dict[str, Any]:
    """All clients at once, each with a picture of its own; tokens a second include everything.

    Zero where no answer began within the load's patience.
    """
    count = max(2, clients)
    bodies = [body(picture(1000 * clients + n), [FIRST], load.crowd) for n in range(count)]
    answers = asker.ask(bodies, clients, load.patience)
    _check(answers)
    heard = [one for one in answers if one.stamps]
    sent = min(one.sent for one in answers)
    wall = max((one.stamps[-1] for one in heard), default=sent + load.patience) - sent
    return {
        "requests": len(answers),
        "finished": sum(one.counted is not None for one in answers),
        "tokens_per_s": round(sum(one.tokens for one in heard) / wall, 2),
        "ttft_ms": spread([one.ttft for one in heard]),
        "gap_ms": spread([gap for one in heard for gap in one.gaps]),
    }


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles in milliseconds."""
    if not seconds:
        return {}
    return {f"p{share}": round(1000 * float(np.percentile(seconds, share)), 2) for share in SHARES}


def _decode(asker: Asker, load: Load) -> float:
    """Tokens a second of one answer alone, after its first; the better of two."""
    rates = []
    for _ in range(2):
        (answer,) = _whole(asker, [body(picture(1), [FIRST], load.long)], load)
        rates.append((answer.tokens - 1) / (answer.stamps[-1] - answer.stamps[0]))
    return round(max(rates), 2)


def _whole(asker: Asker, bodies: Sequence[dict[str, object]], load: Load) -> list[Answer]:
    """Answers that must come in full."""
    answers = asker.ask(bodies, 1, load.patience)
    _check(answers)
    if not all(len(one.stamps) > 1 for one in answers):
        raise RuntimeError(f"an answer of {answers[0].tokens} tokens came in no pieces, or late")
    return answers


def _check(answers: Sequence[Answer]) -> None:
    errors = [one.error for one in answers if one.error is not None]
    if errors:
        raise RuntimeError(f"{len(errors)} of {len(answers)} answers failed: {errors[0]}")
