"""The OpenAPI document says everything of every route, and the answers are as it says."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from server_house import CHAT, NVIDIA, House, data_uri, png

EMPTY = {("put", "/v2/nvcf/uploads/{name}"), ("delete", "/v2/nvcf/assets/{name}")}
"""Routes whose success has no body."""


@pytest.fixture(scope="module")
def document(shared_house: House) -> dict[str, Any]:
    told: dict[str, Any] = shared_house.client.get("/openapi.json").json()
    return told


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            yield verb, path, operation


def test_every_operation_is_told_whole(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1") and document["info"]["version"]
    bearer = document["components"]["securitySchemes"]
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names)) > 20
    for verb, path, told in operations(document):
        place = f"{verb} {path}"
        assert told["summary"] and told["tags"] and told["security"], place
        assert set(told["security"][0]) <= set(bearer), place
        assert {"400", "401", "404", "413", "422", "429", "500", "503"} <= set(told["responses"])
        for status in ("401", "422", "429"):
            content = told["responses"][status]["content"]["application/json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}, place
        bodies = [c for s, c in told["responses"].items() if s[0] == "2" and s != "202"]
        for body in bodies:
            kinds = body.get("content", {})
            assert bool(kinds) != ((verb, path) in EMPTY), place
            assert all(kind["schema"] for kind in kinds.values()), place


def test_every_request_and_field_is_told(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    takes = {path: told for verb, path, told in operations(document) if verb == "post"}
    for path in (NVIDIA, CHAT, "/v1/responses", "/v2/nvcf/assets"):
        (name,) = takes[path]["requestBody"]["content"]["application/json"]["schema"].values()
        fields = schemas[name.rsplit("/", 1)[1]]["properties"]
        assert fields, path
    nvidia = schemas["NvidiaRequest"]["properties"]
    given = "messages model max_tokens temperature top_p seed stream stop labels stream_options"
    assert set(nvidia) == set(given.split())
    assert nvidia["temperature"]["default"] == 0.2 and nvidia["top_p"]["default"] == 0.7
    assert nvidia["seed"]["default"] == 0 and nvidia["stream"]["default"] is False


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from ([node["$ref"]] if isinstance(node.get("$ref"), str) else [])
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(document))
    assert len(found) > 20
    for reference in found:
        node: Any = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_the_answers_are_as_the_document_says(house: House, document: dict[str, Any]) -> None:
    asset = {"contentType": "image/png", "description": ""}
    form: dict[str, Any] = {"files": {"file": ("a", png())}, "data": {"purpose": "vision"}}
    picture = [{"type": "image_url", "image_url": data_uri(png())}]
    ask = {"messages": [{"role": "user", "content": picture}]}
    made = house.client.post("/v1/responses", json={"input": "Hi"}).json()["id"]
    file = house.client.post("/v1/files", **form).json()["id"]
    name = house.client.post("/v2/nvcf/assets", json=asset).json()["assetId"]
    asked: list[tuple[str, str, str, dict[str, Any]]] = [
        ("post", NVIDIA, NVIDIA, {"json": ask}),
        ("post", CHAT, CHAT, {"json": ask}),
        ("post", "/v1/responses", "/v1/responses", {"json": {"input": "Hi"}}),
        ("post", "/v1/files", "/v1/files", form),
        ("post", "/v2/nvcf/assets", "/v2/nvcf/assets", {"json": asset}),
        ("get", "/v1/models/{model}", "/v1/models/echo", {}),
        ("get", "/v1/responses/{name}", f"/v1/responses/{made}", {}),
        ("get", "/v1/responses/{name}/input_items", f"/v1/responses/{made}/input_items", {}),
        ("get", "/v1/files/{name}", f"/v1/files/{file}", {}),
        ("get", "/v2/nvcf/assets/{name}", f"/v2/nvcf/assets/{name}", {}),
        ("delete", "/v1/responses/{name}", f"/v1/responses/{made}", {}),
        ("delete", "/v1/files/{name}", f"/v1/files/{file}", {}),
    ]
    plain = [p for v, p, _ in operations(document) if v == "get" and "{" not in p]
    asked += [("get", path, path, {}) for path in plain]
    asked.append(("delete", "/v1/responses", "/v1/responses", {}))
    for verb, path, real, body in asked:
        answer = house.client.request(verb, real, **body)
        assert answer.status_code == 200, f"{verb} {real}: {answer.text}"
        kind = answer.headers["content-type"].split(";")[0]
        told = document["paths"][path][verb]["responses"]["200"]["content"][kind]["schema"]
        if kind == "application/json":
            jsonschema.validate(answer.json(), {**document, **told})
