"""Whole answers: defaults, models, choices, and what a fleet asks of a server."""

import re
from collections.abc import Callable
from dataclasses import replace
from threading import Event

import pytest
from echo_engine import EchoEngine, wait_until
from server_house import CHAT, NVIDIA, House
from starlette.testclient import TestClient

from neva.engine.protocol import Sampling
from neva.server.app import create_app


def test_nvidias_defaults(house: House) -> None:
    house.text("Hi")
    assert house.engine.streams[0].request.sampling == Sampling(0.2, 0.7, 1024, 0, ())


def test_null_is_the_default(house: House) -> None:
    house.text("Hi", temperature=None, top_p=None, seed=None, stop=None, max_tokens=None)
    assert house.engine.streams[0].request.sampling == Sampling()


def test_sampling_reaches_the_engine(house: House) -> None:
    given = {"temperature": 1, "top_p": 0.5, "max_tokens": 7, "seed": 9, "stop": ["a", "b"]}
    house.text("Hi", **given)
    assert house.engine.streams[0].request.sampling == Sampling(1, 0.5, 7, 9, ("a", "b"))


def test_openais_sampling_reaches_the_engine(house: House) -> None:
    house.text("Hi", CHAT, top_k=5, presence_penalty=1, frequency_penalty=-0.5, seed=1)
    house.text("Hi", CHAT, top_k=-1, presence_penalty=None, seed=1)
    first, second = (stream.request.sampling for stream in house.engine.streams)
    assert (first.top_k, first.presence_penalty, first.frequency_penalty) == (5, 1, -0.5)
    assert second == replace(first, top_k=0, presence_penalty=None, frequency_penalty=None)


def test_a_small_context_halves_the_default(house_of: Callable[..., House]) -> None:
    house = house_of(engine=EchoEngine(context=512))
    house.text("Hi")
    assert house.engine.streams[0].request.sampling.max_tokens == 256


def test_openai_names_win_and_seeds_are_drawn(house: House) -> None:
    house.text("Hi", CHAT, max_tokens=9, max_completion_tokens=5)
    house.text("Hi", CHAT)
    first, second = (stream.request.sampling for stream in house.engine.streams)
    assert first.max_tokens == 5
    assert first.seed != second.seed


def test_no_top_p_is_greedy(house: House) -> None:
    house.text("Hi", top_p=0)
    assert house.engine.streams[0].request.sampling.temperature == 0


def test_n_choices(house: House) -> None:
    said = house.ask("Hi", CHAT, n=3, seed=5).json()
    assert [choice["index"] for choice in said["choices"]] == [0, 1, 2]
    seeds = [choice["message"]["content"].split("seed=")[1].strip() for choice in said["choices"]]
    assert seeds == ["5", "6", "7"]
    assert said["usage"]["prompt_tokens"] == 10, "the prompt counts once"


@pytest.mark.parametrize("model", [None, "echo", "nvidia/neva-22b", "playground_neva_22b"])
def test_names_of_the_model(house: House, model: str | None) -> None:
    said = house.ask("Hi", CHAT, model=model).json()
    assert said["model"] == (model or "echo")
    assert said["system_fingerprint"] == "echo-echo-fp32"


def test_any_model_name_is_tolerated_on_nvidias_route(house: House) -> None:
    assert house.ask("Hi", NVIDIA, model="whatever").status_code == 200


def test_models_tell_the_truth(house: House) -> None:
    (model,) = house.client.get("/v1/models").json()["data"]
    assert (model["id"], model["root"], model["max_model_len"]) == ("echo", "echo", 4096)
    truth = model["neva"]
    assert (truth["image_tokens"], truth["precision"], truth["reproducible"]) == (49, "fp32", True)
    assert truth["penalties"] is True
    assert truth["weights"] is None, "an engine that does not know"
    assert house.client.get("/v1/models/nvidia/neva-22b").json()["root"] == "echo"
    assert house.client.get("/v1/models/gpt-9").status_code == 404


def test_health_before_and_after_loading() -> None:
    finished = Event()

    def load() -> EchoEngine:
        finished.wait(60)
        return EchoEngine()

    with TestClient(create_app(load)) as client:
        assert client.get("/v1/health/live").status_code == 200
        assert client.get("/v1/health/ready").status_code == 503
        assert client.get("/v1/models").status_code == 503
        refused = client.post(NVIDIA, json={"messages": [{"role": "user", "content": "Hi"}]})
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert client.get("/metrics").status_code == 200
        finished.set()
        assert wait_until(lambda: client.get("/v1/health/ready").status_code == 200)
        ready = client.get("/v1/health/ready").json()
        assert ready == {"object": "health.response", "message": "Service is ready."}
        assert client.get("/v1/models").status_code == 200


def test_a_model_that_cannot_be_loaded() -> None:
    failures: list[Exception | None] = []

    def load() -> EchoEngine:
        raise ValueError("/secret/path is broken")

    with TestClient(create_app(load, opened=failures.append)) as client:
        assert wait_until(lambda: bool(failures))
        ready = client.get("/v1/health/ready")
        assert ready.status_code == 503
        assert "secret" not in ready.text
        assert client.get("/v1/health/live").status_code == 200
    assert isinstance(failures[0], ValueError)


def test_what_an_app_opens_it_closes() -> None:
    given, opened = EchoEngine(), EchoEngine()
    with TestClient(create_app(given)):
        pass
    with TestClient(create_app(lambda: opened)):
        pass
    assert (given.closed, opened.closed) == (False, True)


def test_metadata_version_and_licence(house: House) -> None:
    assert house.client.get("/v1/version").json()["release"]
    assert house.client.get("/v1/license").json()["name"] == "Apache-2.0"
    profile = house.client.get("/v1/metadata").json()["profile"]
    assert profile["engine"] == "echo"


def test_metrics_under_both_names(house_of: Callable[..., House]) -> None:
    house = house_of()
    house.text("Hi")
    house.ask("Hi", stream=True)
    text = house.client.get("/v1/metrics").text
    for name in (
        "num_requests_running",
        "num_requests_waiting",
        "prompt_tokens_total",
        "generation_tokens_total",
        "time_to_first_token_seconds_count",
        "time_per_output_token_seconds_count",
        "e2e_request_latency_seconds_count",
        "request_success_total",
    ):
        assert f"\n{name}{{" in text
        assert f"\nvllm:{name}{{" in text
    assert 'prompt_tokens_total{model_name="echo"} 20.0' in text
    assert 'e2e_request_latency_seconds_count{model_name="echo"} 2.0' in text


def test_pages_come_from_here_only(house: House) -> None:
    for path in ("/", "/docs"):
        response = house.client.get(path)
        assert response.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "http://" not in response.text and "https://" not in response.text
    assert house.client.get("/web/..%2fapp.py").status_code == 404
    assert house.client.get("/web/chat.js").headers["content-type"].startswith("text/javascript")


def test_every_part_that_a_page_names_is_there(house: House) -> None:
    for path in ("/", "/docs"):
        parts = re.findall(r'"(/web/[^"]+)"', house.client.get(path).text)
        assert parts and all(house.client.get(part).status_code == 200 for part in parts)


def test_openapi_names_every_route(house: House) -> None:
    paths = house.client.get("/openapi.json").json()["paths"]
    assert {NVIDIA, CHAT, "/v1/models", "/v1/health/ready", "/v2/nvcf/assets"} <= paths.keys()
    assert paths[NVIDIA]["post"]["operationId"] == "invokeFunction"
