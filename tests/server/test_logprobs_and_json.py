"""Log probabilities and JSON schemas through the server, on the real engines with a tiny model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from server_house import CHAT, WEB, Live, serving

from neva.engine import open_engine

SCHEMA = {
    "type": "object",
    "properties": {
        "animal": {"enum": ["cat", "dog"]},
        "legs": {"type": "integer", "minimum": 0, "maximum": 8},
        "tail": {"type": "boolean"},
    },
    "required": ["animal", "legs"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}


@pytest.fixture(scope="module", params=["openvino", "torch"])
def real(request: pytest.FixtureRequest, checkpoint: Path) -> Iterator[tuple[str, Live]]:
    sizes = {"cache_mib": 64} if request.param == "openvino" else {"device": "cpu"}
    engine = open_engine(checkpoint, request.param, "fp32", **sizes)  # type: ignore[arg-type]
    try:
        with serving(engine) as live:
            yield request.param, live
    finally:
        engine.close()


def asked(live: Live, path: str = CHAT, **fields: Any) -> Any:
    said = {"messages": [{"role": "user", "content": "What?"}]}
    return WEB.post(live.url + path, json={**said, "seed": 3, "max_tokens": 24, **fields})


def test_logprobs_spell_the_answer(real: tuple[str, Live]) -> None:
    _, live = real
    response = asked(live, logprobs=True, temperature=1.5, top_p=1.0)
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    tokens = choice["logprobs"]["content"]
    spelled = b"".join(bytes(token["bytes"]) for token in tokens)
    text = choice["message"]["content"]  # half a character at the end is a token, but no text
    assert spelled.decode("utf-8", "replace").rstrip("\ufffd") == text.rstrip("\ufffd")
    assert all(token["logprob"] < 0 for token in tokens)
    assert len(tokens) == response.json()["usage"]["completion_tokens"]
    plain = asked(live, temperature=1.5, top_p=1.0).json()["choices"][0]
    assert (plain["logprobs"], plain["message"]) == (None, choice["message"])
    raw = asked(live, logprobs=True, temperature=1.5, top_p=1.0, stream=True).text
    events = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]
    pieces = [event["choices"][0]["logprobs"]["content"] for event in events]
    assert [token for piece in pieces for token in piece] == tokens


def test_the_engines_agree_on_logprobs(checkpoint: Path) -> None:
    """Greedy: both engines give the same tokens, and log probabilities to four digits."""
    heard = []
    for name in ("openvino", "torch"):
        engine = open_engine(checkpoint, name, "fp32")
        try:
            with serving(engine) as live:
                answer = asked(live, logprobs=True, temperature=0, max_tokens=8).json()
        finally:
            engine.close()
        heard.append(answer["choices"][0]["logprobs"]["content"])
    assert [t["bytes"] for t in heard[0]] == [t["bytes"] for t in heard[1]]
    assert [t["logprob"] for t in heard[0]] == pytest.approx(
        [t["logprob"] for t in heard[1]], abs=1e-3
    )


def test_alternatives_where_the_engine_knows_them(real: tuple[str, Live]) -> None:
    name, live = real
    response = asked(live, logprobs=True, top_logprobs=3, temperature=0)
    if name == "openvino":
        assert response.status_code == 400
        assert "--engine torch" in response.json()["error"]["message"]
        return
    for token in response.json()["choices"][0]["logprobs"]["content"]:
        top = [other["logprob"] for other in token["top_logprobs"]]
        assert len(top) == 3 and top == sorted(top, reverse=True)
        assert top[0] == pytest.approx(token["logprob"]), "greedy: the chosen one is the likeliest"
    assert asked(live, top_logprobs=3).status_code == 422, "it needs logprobs: true"


def test_answers_keep_the_schema(real: tuple[str, Live]) -> None:
    name, live = real
    both = asked(live, response_format=FORM, max_tokens=90, temperature=1.5, top_p=1.0, n=4)
    if name == "torch":
        assert both.status_code == 400 and "openvino" in both.json()["error"]["message"]
        return
    for choice in both.json()["choices"]:
        assert choice["finish_reason"] == "stop"
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)
    body = {
        "input": "What?",
        "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}},
    }
    said = WEB.post(f"{live.url}/v1/responses", json=body).json()
    jsonschema.validate(json.loads(said["output"][0]["content"][0]["text"]), SCHEMA)
    assert said["text"]["format"]["schema"] == SCHEMA
    (model,) = WEB.get(f"{live.url}/v1/models").json()["data"]
    assert model["neva"]["json_schema"] is True and model["permission"][0]["allow_logprobs"] is True


@pytest.mark.parametrize(
    ("form", "status"),
    [
        (
            {"type": "json_schema", "json_schema": {"schema": {"type": "string", "pattern": "a"}}},
            400,
        ),
        ({"type": "json_schema", "json_schema": {"name": "a"}}, 422),
        ({"type": "xml"}, 422),
        ({"type": "text"}, 200),
    ],
)
def test_other_formats(real: tuple[str, Live], form: Any, status: int) -> None:
    response = asked(real[1], response_format=form, max_tokens=2)
    assert response.status_code == status, response.text
    if status == 400:
        assert "pattern" in response.json()["error"]["message"]
