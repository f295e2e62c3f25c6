"""The server on the embedded engine, with a tiny random model: the double told no lies."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from server_house import CHAT, NVIDIA, WEB, Live, data_uri, png, serving

from neva.engine import open_engine
from neva.engine.openvino_engine import OpenVinoEngine
from neva.engine.prefixes import BLOCK
from neva.server.settings import Settings


@pytest.fixture(scope="module")
def real(checkpoint: Path) -> Iterator[Live]:
    engine = open_engine(checkpoint, "openvino", "fp32", served_name="tiny", cache_mib=64)
    try:
        with serving(engine) as live:
            yield live
    finally:
        engine.close()


def body(colour: int, **fields: Any) -> dict[str, Any]:
    picture = data_uri(png(20, 30, (colour, 90, 200)))
    question = [{"type": "image_url", "image_url": picture}, {"type": "text", "text": "What?"}]
    plain = {"max_tokens": 24, "temperature": 1.0, "top_p": 1.0, "seed": colour}
    return {"messages": [{"role": "user", "content": question}], **plain, **fields}


def whole(real: Live, colour: int, path: str = CHAT, **fields: Any) -> dict[str, Any]:
    response = WEB.post(real.url + path, json=body(colour, **fields), timeout=60)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def text_of(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize("path", [NVIDIA, CHAT])
def test_streamed_is_whole(real: Live, path: str) -> None:
    answer = whole(real, 1, path)
    lines = WEB.post(real.url + path, json=body(1, stream=True), timeout=60).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert "".join(e["choices"][0]["delta"]["content"] for e in events) == text_of(answer)
    assert events[-1]["usage"] == answer["usage"]
    assert answer["usage"]["completion_tokens"] <= 24
    assert answer["usage"]["prompt_tokens"] > 16, "image tokens count as prompt"


def test_same_seed_same_text_whatever_runs_beside(real: Live) -> None:
    alone = [text_of(whole(real, colour)) for colour in range(4)]
    with ThreadPoolExecutor(8) as pool:
        beside = list(pool.map(lambda n: text_of(whole(real, n % 4)), range(16)))
    assert beside == alone * 4
    assert len(set(alone)) > 1


def test_greedy_needs_no_seed_and_top_p_0_is_greedy(real: Live) -> None:
    greedy = text_of(whole(real, 1, temperature=0, seed=1))
    assert text_of(whole(real, 1, temperature=0, seed=2)) == greedy
    assert text_of(whole(real, 1, top_p=0, seed=3)) == greedy


def test_stop_and_length(real: Live) -> None:
    answer = whole(real, 1, temperature=0, max_tokens=5)
    assert answer["choices"][0]["finish_reason"] in ("length", "stop")
    assert answer["usage"]["completion_tokens"] <= 5


def test_what_does_not_fit_is_a_sentence(real: Live) -> None:
    long = {"messages": [{"role": "user", "content": "a" * 600}]}
    refused = WEB.post(real.url + NVIDIA, json=long)
    assert refused.status_code == 422
    assert "context" in refused.json()["detail"] or "shorten" in refused.json()["detail"]


def test_the_card_with_no_content(real: Live) -> None:
    answer = WEB.post(
        real.url + NVIDIA, json={"messages": [{"role": "user", "content": ""}]}, timeout=60
    )
    assert answer.status_code == 200, answer.text


def test_a_client_that_leaves_frees_the_engine(real: Live) -> None:
    before = figure(real, "generation_tokens_total")
    long = body(7, stream=True, max_tokens=400, temperature=0)
    with WEB.stream("POST", real.url + CHAT, json=long, timeout=60) as response:
        lines = response.iter_lines()
        next(lines)
    quiet = threading.Event()
    for _ in range(100):
        if 'num_requests_running{model_name="tiny"} 0.0' in WEB.get(real.url + "/metrics").text:
            break
        quiet.wait(0.02)
    else:
        pytest.fail("the answer went on")
    left = 'request_finish_total{finished_reason="abort",model_name="tiny"} 1.0'
    assert left in WEB.get(real.url + "/metrics").text
    made = figure(real, "generation_tokens_total") - before
    assert 0 < made < 400, "most of it was never made"
    assert whole(real, 1)["usage"]["completion_tokens"] > 0


def test_a_killed_engine_process_is_told_and_comes_back(checkpoint: Path, tmp_path: Path) -> None:
    """kill -9 in the middle of an answer: a clean end, the next answer right, memory intact."""
    engine = open_engine(checkpoint, "openvino", "fp32", served_name="tiny", cache_mib=64)
    assert isinstance(engine, OpenVinoEngine)
    try:
        with serving(engine, Settings(data=tmp_path)) as live:
            before = whole(live, 1)
            said = {"input": "Hi", "max_output_tokens": 4}
            stored = WEB.post(live.url + "/v1/responses", json=said, timeout=60).json()
            long = body(2, stream=True, max_tokens=450, temperature=0)
            also = [body(n, max_tokens=450, temperature=0) for n in (3, 4)]
            with (
                ThreadPoolExecutor(2) as pool,
                WEB.stream("POST", live.url + CHAT, json=long, timeout=60) as response,
            ):
                lines = response.iter_lines()
                next(lines)
                others = [
                    pool.submit(WEB.post, live.url + NVIDIA, json=b, timeout=120) for b in also
                ]
                os.kill(engine.pid, signal.SIGKILL)
                rest = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
                ends = [other.result() for other in others]
            for end in ends:  # it was under way, or waited for the next process
                assert end.status_code in (200, 503), end.text
                assert end.status_code == 200 or "started again" in end.json()["detail"]
            assert rest[-1]["choices"][0]["finish_reason"] == "error"
            assert "started again" in rest[-1]["error"]["message"]
            assert text_of(whole(live, 1)) == text_of(before)
            more = {**said, "previous_response_id": stored["id"]}
            answer = WEB.post(live.url + "/v1/responses", json=more, timeout=60)
            assert answer.status_code == 200, answer.text
    finally:
        engine.close()


def figure(real: Live, name: str) -> float:
    (line,) = [
        line for line in WEB.get(real.url + "/metrics").text.splitlines()
        if line.startswith(f"{name}{{")
    ]  # fmt: skip
    return float(line.split()[-1])


def test_the_engines_caches_are_told(real: Live) -> None:
    before = {
        name: figure(real, name) for name in ("mm_cache_queries_total", "mm_cache_hits_total")
    }
    for _ in range(2):
        whole(real, 11, max_tokens=4)
    after = {name: figure(real, name) for name in before}
    assert after["mm_cache_queries_total"] == before["mm_cache_queries_total"] + 2
    assert after["mm_cache_hits_total"] == before["mm_cache_hits_total"] + 1
    assert 0 <= figure(real, "prefix_cache_hits_total") < figure(real, "prefix_cache_queries_total")
    assert 0 <= figure(real, "vllm:kv_cache_usage_perc") <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (2, 3)])
def test_extreme_pictures_are_answered(real: Live, size: tuple[int, int]) -> None:
    part = {"type": "image_url", "image_url": data_uri(png(*size))}
    asked = {"messages": [{"role": "user", "content": [part]}], "max_tokens": 4}
    answer = WEB.post(real.url + NVIDIA, json=asked, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] > 16


@pytest.mark.parametrize("text", ["<image>", "<|im_end|>", "<image><image>", "<|im_start|>user"])
def test_placeholders_in_text_are_letters(real: Live, text: str) -> None:
    """A byte is a token of this model: as many more of them as the text has letters."""

    def tokens(said: str) -> int:
        asked = {"messages": [{"role": "user", "content": said}], "max_tokens": 2}
        answer = WEB.post(real.url + NVIDIA, json=asked, timeout=60)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["usage"]["prompt_tokens"])

    assert tokens(f"a{text}b") - tokens("ab") == len(text)


def test_a_request_tells_what_was_known_of_it(real: Live) -> None:
    """The same question again: its picture is encoded, and all full blocks of its prompt."""
    usages = [whole(real, 12, max_tokens=4)["usage"] for _ in range(2)]
    first, second = (usage["prompt_tokens_details"] for usage in usages)
    assert first["cached_images"] == 0
    prompt = usages[1]["prompt_tokens"]
    known = (prompt - 1) // BLOCK * BLOCK
    assert second == {"cached_tokens": known, "cached_images": 1} and known > 0
    assert first["cached_tokens"] < known, "a new picture is in it"
    assert "prompt_tokens_details" not in whole(real, 12, NVIDIA, max_tokens=4)["usage"]
    said = {"input": "What is the capital of France, and why?", "max_output_tokens": 4}
    turns = [WEB.post(real.url + "/v1/responses", json=said, timeout=60).json()]
    more = {"input": "And?", "previous_response_id": turns[0]["id"], "max_output_tokens": 4}
    turns.append(WEB.post(real.url + "/v1/responses", json=more, timeout=60).json())
    before, after = (turn["usage"] for turn in turns)
    assert after["input_tokens_details"]["cached_tokens"] >= before["input_tokens"] // BLOCK * BLOCK


def test_models_tell_the_truth(real: Live) -> None:
    (model,) = WEB.get(real.url + "/v1/models").json()["data"]
    assert model["id"] == "tiny"
    assert model["max_model_len"] == 512
    assert model["neva"]["image_tokens"] == 16
    assert (model["neva"]["engine"], model["neva"]["precision"]) == ("openvino", "fp32")
