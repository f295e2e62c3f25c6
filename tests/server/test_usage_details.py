"""What the engine had computed before is told where OpenAI tells it, and nowhere else."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from echo_engine import KnowingEngine
from server_house import CHAT, NVIDIA, House

from neva.engine.protocol import Usage
from neva.server.completion import Tally

PLAIN = {"prompt_tokens", "completion_tokens", "total_tokens"}


@pytest.fixture
def knowing(house_of: Callable[..., House]) -> House:
    return house_of(engine=KnowingEngine(pause=0.001))


def events(raw: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]


def test_chat_completions_tell_it_whole_and_streamed(knowing: House) -> None:
    usage = knowing.ask("Hi", CHAT).json()["usage"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 6, "cached_images": 1}
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    told = events(knowing.ask("Hi", CHAT, stream=True, stream_options={"include_usage": True}).text)
    assert told[-1]["choices"] == [] and told[-1]["usage"] == usage


def test_the_responses_api_tells_it(knowing: House) -> None:
    body = {"input": "Hi", "seed": 0}
    usage = knowing.client.post("/v1/responses", json=body).json()["usage"]
    assert usage["input_tokens_details"] == {"cached_tokens": 6, "cached_images": 1}
    raw = knowing.client.post("/v1/responses", json={**body, "stream": True}).text
    assert events(raw)[-1]["response"]["usage"] == usage


def test_nvidias_usage_has_three_numbers(knowing: House) -> None:
    assert set(knowing.ask("Hi", NVIDIA).json()["usage"]) == PLAIN
    assert set(events(knowing.ask("Hi", NVIDIA, stream=True).text)[-1]["usage"]) == PLAIN


def test_an_engine_that_cannot_tell_tells_nothing(house: House) -> None:
    assert set(house.ask("Hi", CHAT).json()["usage"]) == PLAIN
    usage = house.client.post("/v1/responses", json={"input": "Hi"}).json()["usage"]
    assert usage["input_tokens_details"] == {"cached_tokens": 0}, "OpenAI's clients need the field"


def test_the_log_and_the_metrics_know_it(knowing: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "neva")
    knowing.ask("Hi", CHAT)
    (record,) = [r for r in caplog.records if r.getMessage() == "request"]
    assert (record.prompt_tokens, record.cached_tokens, record.cached_images) == (10, 6, 1)


def test_of_several_choices_the_least_counts() -> None:
    tally = Tally()
    for cached in ((0, 1), (32, 1)):
        tally.add(Usage(40, 5, *cached))
    told = tally.as_dict()
    assert (told["prompt_tokens"], told["completion_tokens"]) == (40, 10)
    assert told["prompt_tokens_details"] == {"cached_tokens": 0, "cached_images": 1}
