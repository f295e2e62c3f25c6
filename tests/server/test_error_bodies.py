"""Errors: the hybrid body of every client, the right status, and nothing that leaks."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from echo_engine import EchoEngine
from hostile import refused
from server_house import CHAT, NVIDIA, House, data_uri, png

from neva.engine.protocol import Request, Stream
from neva.errors import NevaError
from neva.server.auth import Keys
from neva.server.settings import Limits, Settings

HI = [{"role": "user", "content": "Hi"}]
BODY = {"error", "type", "title", "status", "detail", "instance", "requestId"}


def check(response: Any, status: int, param: str | None = None) -> str:
    """The status and the hybrid body; gives the message."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == BODY
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["status"] == body["error"]["code"] == status
    assert body["detail"] == body["error"]["message"]
    assert body["type"].startswith("urn:inference-service:problem-details:")
    assert body["requestId"] == response.headers["x-request-id"]
    if param is not None:
        assert body["error"]["param"] == param
    return str(body["error"]["message"])


def test_an_error_is_of_the_form_that_fits_best(house: House) -> None:
    def told(**fields: Any) -> str:
        return check(house.client.post(CHAT, json={"messages": HI, **fields}), 422)

    assert told(stop=[""]).startswith("stop.0: String should have at least 1 character")
    assert told(stop="").startswith("stop: String should have at least 1 character")
    part = [{"type": "image_url", "image_url": {"url": 5}}]
    assert "url" in told(messages=[{"role": "user", "content": part}])


def test_an_engine_names_the_field_that_it_has_not(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(requests: object) -> None:
        raise NevaError("it has no such thing", param="presence_penalty")

    monkeypatch.setattr(house.engine, "generate", refusing)
    answer = house.client.post(CHAT, json={"messages": HI, "presence_penalty": 1})
    check(answer, 400, "presence_penalty")


@pytest.mark.parametrize("path", [NVIDIA, CHAT])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_p": [0.5]}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"seed": "0"}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"stop": ""}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": "x" * 257}, "stop"),
        ({"labels": {"quality": 10}}, "labels.quality"),
        ({"labels": {"a b": 1}}, None),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [[]]}, "messages.0"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "wizard", "content": "Hi"}]}, "messages.0.role"),
        ({"messages": [{"content": "Hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, None),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, None),
        ({"messages": [{"role": "user", "content": None}]}, None),
        ({"messages": HI * 1025}, "messages"),
        ({"messages": HI * 10_000}, "messages"),
    ],
)
def test_what_cannot_be_asked_is_422(
    house: House, path: str, fields: dict[str, Any], param: str | None
) -> None:
    check(house.client.post(path, json={"messages": HI, **fields}), 422, param)
    assert house.engine.streams == []


def test_nvidias_limit_of_tokens(house: House) -> None:
    message = check(house.client.post(NVIDIA, json={"messages": HI, "max_tokens": 1025}), 422)
    assert "max_tokens" in message and "1024" in message
    assert house.client.post(CHAT, json={"messages": HI, "max_tokens": 1025}).status_code == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b'{"messages": [{"role": "user", "content": "Hi"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "Hi"}], "temperature": Infinity}',
        b'{"messages": [{"role": "user", "content": "Hi"}], "temperature": 1e999}',
        b'{"messages": [{"role": "user", "content": "half \\ud83d"}]}',
        b'{"messages": [{"role": "user", "content": "Hi"}], "stop": "\\udc00"}',
        b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"messages": [{"role": "user", "content": "Hi"}], "seed": ' + b"9" * 5000 + b"}",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b'"Hi"',
        b"",
        b"messages=Hi",
    ],
)
@pytest.mark.parametrize("path", [NVIDIA, CHAT])
def test_bodies_that_are_no_request(house: House, path: str, raw: bytes) -> None:
    response = house.client.post(path, content=raw, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    check(response, response.status_code)


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,@@@@",
        "data:image/png;base64,",
        "data:image/png;base64",
        "data:image/png,iVBORw0KGgo=",
        "data:image/image/png;base64,b'iVBORw0KGgo='",
        "data:image/png;base64," + "A" * 1001,
        "data:image/svg+xml;base64,PHN2Zy8+",
        "data:image/png;asset_id,7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "data:image/png;asset_id,../../etc/passwd",
        "http://example.com/cat.png",
        "https://example.com/cat.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://0x7f000001/",
        "HTTP://LOCALHOST/",
        "file:///etc/passwd",
        "/etc/passwd",
        "\\\\host\\share",
        "ftp://example.com/cat.png",
        "gopher://127.0.0.1:6379/_",
        "javascript:alert(1)",
        "cat.png",
        "",
        " ",
    ],
)
@pytest.mark.parametrize("form", ["tag", "string", "object"])
def test_images_that_are_none(house: House, url: str, form: str) -> None:
    part = {"tag": f'<img src="{url}" />', "string": [{"type": "image_url", "image_url": url}]}
    content = part.get(form, [{"type": "image_url", "image_url": {"url": url}}])
    response = house.ask(content)
    assert response.status_code in (404, 422), response.text
    message = check(response, response.status_code)
    assert "passwd" not in message or "asset" in message
    assert house.engine.streams == []


@pytest.mark.parametrize("name", refused())
def test_hostile_images(house: House, name: str) -> None:
    message = check(house.ask(f'<img src="{data_uri(refused()[name])}" />'), 422)
    assert "image 1" in message
    assert "PIL" not in message and "0x" not in message


def test_limits_of_a_request(house_of: Callable[..., House]) -> None:
    house = house_of(Settings(limits=Limits(images=2, body_bytes=5000)))
    check(house.ask([{"type": "image_url", "image_url": data_uri(png())}] * 3), 422)
    assert house.ask([{"type": "image_url", "image_url": data_uri(png())}] * 2).status_code == 200
    assert "5,000" in check(house.ask("x" * 5000), 413)

    small = house_of(Settings(limits=Limits(pixels=100)))
    check(small.ask([{"type": "image_url", "image_url": data_uri(png())}] * 3), 422)

    def pieces():
        yield b'{"messages": [{"role": "user", "content": "'
        for _ in range(10):
            yield b"x" * 1000
        yield b'"}]}'

    headers = {"content-type": "application/json"}
    check(house.client.post(NVIDIA, content=pieces(), headers=headers), 413)


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function"}]},
        {"top_logprobs": 2},
        {"response_format": {"type": "json_schema"}},
        {"logit_bias": {"1": 2}},
        {"presence_penalty": 2.5},
        {"frequency_penalty": -3},
        {"top_k": -2},
        {"n": 9},
        {"n": 0},
    ],
)
def test_openai_fields_that_we_cannot_honour_are_refused(
    house: House, fields: dict[str, Any]
) -> None:
    message = check(house.client.post(CHAT, json={"messages": HI, **fields}), 422)
    assert next(iter(fields)) in message


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function"}]},
        {"presence_penalty": 1},
        {"top_k": 5},
        {"n": 2},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_fields_that_nvidias_route_has_not_are_refused(
    house: House, fields: dict[str, Any]
) -> None:
    (name,) = fields
    check(house.client.post(NVIDIA, json={"messages": HI, **fields}), 422, name)


def test_harmless_and_unknown_fields_are_let_through(house: House) -> None:
    fields = {
        "tools": [],
        "logprobs": False,
        "presence_penalty": 0,
        "response_format": {"type": "text"},
    }
    odd = {"user": "me", "bad": ["word"], "parallel_tool_calls": True, "metadata": {"a": "b"}}
    assert house.client.post(CHAT, json={"messages": HI, **fields, **odd}).status_code == 200
    few = {**odd, **fields, "n": 1, "top_k": -1}
    assert house.client.post(NVIDIA, json={"messages": HI, **few}).status_code == 200


def test_other_models_and_paths_are_404(house: House) -> None:
    check(house.client.post(CHAT, json={"messages": HI, "model": "gpt-9"}), 404, "model")
    check(house.client.post("/v1/nowhere"), 404)
    check(house.client.get(NVIDIA), 405)


def test_a_prompt_beyond_the_context(house_of: Callable[..., House]) -> None:
    house = house_of(engine=EchoEngine(context=16))
    assert "shorten" in check(house.ask("word " * 100), 422)


def test_keys(house_of: Callable[..., House]) -> None:
    house = house_of(Settings(keys=Keys().with_key("ann", "nvapi-ann")))
    for header in (
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer no"},
        {"Authorization": "Basic nvapi-ann"},
        {"Authorization": "nvapi-ann"},
    ):
        response = house.client.post(NVIDIA, json={"messages": HI}, headers=header)
        check(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"
    for path in ("/v1/models", "/metrics", "/v2/nvcf/assets", "/v1/metadata"):
        check(house.client.get(path), 401)
    for path in ("/", "/docs", "/web/chat.js", "/v1/health/live", "/v1/health/ready"):
        assert house.client.get(path).status_code == 200
    header = {"Authorization": "Bearer nvapi-ann"}
    assert house.client.post(NVIDIA, json={"messages": HI}, headers=header).status_code == 200


def test_without_a_key_the_body_is_not_read(house_of: Callable[..., House]) -> None:
    house = house_of(Settings(keys=Keys().with_key("ann", "nvapi-ann")))

    def never():
        raise AssertionError("the body was read")
        yield b""

    check(house.client.post("/v1/nowhere", content=b"x"), 401)


def test_foreign_host_names_are_refused(house_of: Callable[..., House]) -> None:
    house = house_of(Settings(hosts=("127.0.0.1", "localhost", "[::1]")))
    for good in ("127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "[::1]"):
        assert house.client.get("/v1/models", headers={"host": good}).status_code == 200
    for bad in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example"):
        check(house.client.get("/v1/models", headers={"host": bad}), 421)


class BrokenEngine(EchoEngine):
    """A fault of ours, with a secret in its words."""

    def generate(self, requests: list[Request]) -> list[Stream]:
        raise RuntimeError("secret at /home/ann/0x7fffe0")


def test_a_fault_of_ours_tells_nothing(
    house_of: Callable[..., House], caplog: pytest.LogCaptureFixture
) -> None:
    house = house_of(engine=BrokenEngine())
    for stream in (False, True):
        message = check(house.ask("private question", stream=stream), 500)
        assert "secret" not in message
    assert "secret" not in caplog.text
    assert any("RuntimeError" in getattr(record, "fault", "") for record in caplog.records)


def test_logs_have_ids_but_no_content(
    house_of: Callable[..., House], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "neva")
    house = house_of(Settings(keys=Keys().with_key("ann", "nvapi-ann")))
    uri = data_uri(png())
    body = {"messages": [{"role": "user", "content": f'private <img src="{uri}" />'}]}
    headers = {"Authorization": "Bearer nvapi-ann", "x-request-id": "my-id.1"}
    response = house.client.post(NVIDIA, json=body, headers=headers)
    assert response.headers["x-request-id"] == "my-id.1"
    (record,) = [record for record in caplog.records if record.getMessage() == "request"]
    assert (record.request_id, record.owner, record.status) == ("my-id.1", "ann", 200)
    assert (record.finish, record.prompt_tokens) == ("stop", 59)
    assert record.completion_tokens > 0 and record.first_token_seconds >= 0
    everything = json.dumps([vars(r) for r in caplog.records], default=str)
    assert (
        "private" not in everything and "nvapi" not in everything and uri[30:60] not in everything
    )


@pytest.mark.parametrize("given", ["a" * 200, "a b", "{}", "ü", '"><script>'])
def test_a_harmful_request_id_is_replaced(house: House, given: str) -> None:
    answer = house.client.get("/ping", headers={"x-request-id": given.encode()})
    assert len(answer.headers["x-request-id"]) == 36
