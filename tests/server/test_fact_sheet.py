"""NVIDIA's, OpenAI's and NIM's bodies and headers, literally as their clients read them.

What the hosted API and NIM's documents show (the project's fact sheet, api.md 1, 3.3 and 4).
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from server_house import CHAT, NVIDIA, WEB, House, data_uri, png, serving

from neva.engine import open_engine
from neva.prompts import labels_text
from neva.prompts.templates import STEER_LABELS

PICTURE = data_uri(png())
ASKED = {
    "messages": [{"role": "user", "content": f'What animal is this? <img src="{PICTURE}" />'}],
    "max_tokens": 64,
    "temperature": 0.2,
    "top_p": 0.7,
    "seed": 0,
    "stream": False,
}
LABELS = {"creativity": 6, "helpfulness": 6, "humor": 0, "quality": 6}


def test_the_sheets_example(house: House) -> None:
    headers = {"Authorization": "Bearer nvapi-x", "Accept": "application/json"}
    answer = house.client.post(NVIDIA, json=ASKED, headers=headers)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    said = answer.json()
    assert said["id"] and said["object"] == "chat.completion" and said["created"] > 1.7e9
    assert said["model"] == "nvidia/neva-22b"
    (choice,) = said["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert choice["message"]["role"] == "assistant"
    assert isinstance(choice["message"]["content"], str)
    assert set(said["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert all(isinstance(count, int) for count in said["usage"].values())
    assert answer.headers["nvcf-reqid"] and answer.headers["nvcf-status"] == "fulfilled"


def test_the_sheets_stream(house: House) -> None:
    raw = house.client.post(NVIDIA, json={**ASKED, "stream": True}).text
    *events, done, rest = raw.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    for chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk["model"] == "nvidia/neva-22b" and chunk["choices"][0]["index"] == 0
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert set(chunks[-1]["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}


@pytest.mark.parametrize("path", [NVIDIA, CHAT])
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "*/*", "text/html"])
def test_the_body_decides_not_the_accept_header(house: House, path: str, accept: str) -> None:
    for stream, kind in ((True, "text/event-stream"), (False, "application/json")):
        answer = house.client.post(
            path, json={**ASKED, "stream": stream}, headers={"accept": accept}
        )
        assert answer.headers["content-type"].startswith(kind)


def test_headers_that_clients_send_are_let_through(house: House) -> None:
    headers = {
        "X-BILLING-SOURCE": "langchain-nvidia-ai-endpoints",
        "User-Agent": "langchain-nvidia-ai-endpoints",
        "x-stainless-lang": "python",
        "x-correlation-id": "1",
        "x-session-affinity": "2",
        "NVCF-INPUT-ASSET-REFERENCES": "2f0a, 7c9e",
    }
    assert house.client.post(NVIDIA, json=ASKED, headers=headers).status_code == 200


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**63 - 1])
def test_seeds_are_signed_64_bits(house: House, seed: int) -> None:
    assert house.client.post(NVIDIA, json={**ASKED, "seed": seed}).status_code == 200
    given = house.engine.streams[-1].request.sampling.seed
    assert 0 <= given < 2**63 and given % 2**63 == seed % 2**63


def test_images_beyond_nvidias_inline_limit_are_taken(house: House) -> None:
    """Hosted, 180 KB were the most; a phone's photograph has megabytes."""
    large = png(9, 9) + os.urandom(6_000_000)  # a valid picture with a tail
    said = house.text(f'<img src="{data_uri(large)}" />')
    assert "[(9, 9) [" in said


def test_a_null_content_is_for_a_last_assistant_only(house: House) -> None:
    user = {"role": "user", "content": "Hi"}
    last = {"messages": [user, {"role": "assistant", "content": None}]}
    assert house.client.post(NVIDIA, json=last).status_code == 200
    early = {"messages": [user, {"role": "assistant", "content": None}, user]}
    assert house.client.post(NVIDIA, json=early).status_code == 422


def test_the_responses_apis_fields(house: House) -> None:
    said = house.client.post("/v1/responses", json={"input": "Hi"}).json()
    assert said["id"].startswith("resp_") and said["object"] == "response"
    assert said["created_at"] > 1.7e9 and (said["status"], said["model"]) == ("completed", "echo")
    (item,) = said["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    (part,) = item["content"]
    assert item["id"] and part["type"] == "output_text" and isinstance(part["text"], str)
    assert part["annotations"] == []
    assert (said["parallel_tool_calls"], said["tool_choice"], said["tools"]) == (False, "auto", [])
    assert said["previous_response_id"] is None
    counts = {"input_tokens", "output_tokens", "total_tokens"}
    assert set(said["usage"]) == counts | {"input_tokens_details", "output_tokens_details"}


def test_nims_endpoints(house: House) -> None:
    ready, live = (house.client.get(f"/v1/health/{name}").json() for name in ("ready", "live"))
    assert ready == {"object": "health.response", "message": "Service is ready."}
    assert live["message"] == "Service is live."
    listed = house.client.get("/v1/models").json()
    (model,) = listed["data"]
    assert listed["object"] == "list" and model["object"] == "model"
    assert model["owned_by"] == "system" and model["created"] > 1.7e9
    assert (model["root"], model["parent"], model["max_model_len"]) == ("echo", None, 4096)
    (permission,) = model["permission"]
    assert permission["id"].startswith("modelperm-")
    assert permission["object"] == "model_permission" and permission["organization"] == "*"
    allowed = {name for name in permission if name.startswith("allow_")}
    what = "create_engine sampling logprobs search_indices view fine_tuning"
    assert allowed == {f"allow_{name}" for name in what.split()}
    assert set(house.client.get("/v1/version").json()) >= {"release", "api"}
    assert "Apache License" in house.client.get("/v1/license").json()["content"]
    about = house.client.get("/v1/metadata").json()
    assert about["modelInfo"][0]["shortName"] == "echo" and about["licenseInfo"]["name"]
    for path in ("/v1/metrics", "/metrics"):
        assert "num_requests_running" in house.client.get(path).text


@pytest.mark.parametrize("template", ["nvgpt", "chatml"])
def test_labels_steer_nvgpt_and_nothing_else(
    checkpoint: Path, tmp_path: Path, template: str
) -> None:
    """In the last message or beside the messages: the same prompt, longer with nvgpt only."""
    folder = tmp_path / template
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("openvino"))
    about = json.loads((folder / "neva.json").read_text())
    (folder / "neva.json").write_text(json.dumps({**about, "template": template}))
    question: dict[str, Any] = {"role": "user", "content": "What is it?"}
    plain = {"messages": [question], "max_tokens": 4, "temperature": 0}
    trailing = {**plain, "messages": [question, {"role": "assistant", "labels": LABELS}]}
    engine = open_engine(folder, "openvino", "fp32", cache_mib=64)
    try:
        with serving(engine) as live:
            said = [
                WEB.post(live.url + NVIDIA, json=body, timeout=60).json()
                for body in (plain, trailing, {**plain, "labels": LABELS})
            ]
    finally:
        engine.close()
    without, last, beside = (answer["usage"]["prompt_tokens"] for answer in said)
    texts = [answer["choices"][0]["message"]["content"] for answer in said]
    assert last == beside and texts[1] == texts[2]
    if template == "nvgpt":
        assert without - last == len(labels_text(STEER_LABELS)) - len(labels_text(LABELS)), (
            "a byte is a token here; the template has labels of its own"
        )
    else:
        assert last == without and texts[0] == texts[1]
