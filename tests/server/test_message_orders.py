"""Orders of messages that OpenAI answers and no template knows; NVIDIA's route keeps its own."""

from typing import Any

import pytest
from server_house import CHAT, NVIDIA, House, data_uri, png

from neva.prompts.conversation import Conversation, assistant, user
from neva.prompts.render import render, text_of
from neva.prompts.templates import TEMPLATES

PICTURE = {"type": "image_url", "image_url": {"url": data_uri(png())}}
ORDERS: list[tuple[list[tuple[str, Any]], str]] = [
    (
        [("assistant", "Hello!"), ("user", "Hi")],
        "system=None | user:  | assistant: 'Hello!' | user: 'Hi'",
    ),
    (
        [("system", "Be kind."), ("assistant", "Hello!"), ("user", [PICTURE])],
        "system='Be kind.' | user:  | assistant: 'Hello!' | user: [(8, 6) [255, 0, 0]]",
    ),
    (
        [("user", "a"), ("assistant", "b"), ("system", "c"), ("user", "d")],
        "system='c' | user: 'a' | assistant: 'b' | user: 'd'",
    ),
    (
        [("system", "One."), ("user", "a"), ("developer", "Two.")],
        "system='One.\\n\\nTwo.' | user: 'a'",
    ),
    (
        [("user", [{"type": "text", "text": "What?"}, PICTURE]), ("system", "Short.")],
        "system='Short.' | user: [(8, 6) [255, 0, 0]] '\\nWhat?'",
    ),
    ([("system", "Say hi")], "system='Say hi' | user: "),
    ([("assistant", "Well,")], "system=None | user:  | assistant: 'Well,'"),
]


def messages(order: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in order]


@pytest.mark.parametrize(("order", "heard"), ORDERS)
def test_openais_routes_answer(house: House, order: list[tuple[str, Any]], heard: str) -> None:
    body = {"messages": messages(order), "seed": 0}
    answer = house.client.post(CHAT, json=body)
    assert answer.status_code == 200, answer.text
    said = answer.json()["choices"][0]["message"]["content"]
    assert said == f"{heard} | seed=0 "
    body = {"input": messages(order), "seed": 0}
    answer = house.client.post("/v1/responses", json=body).json()
    assert answer["output"][0]["content"][0]["text"] == said


@pytest.mark.parametrize("order", [order for order, _ in ORDERS])
def test_nvidias_route_keeps_its_order(house: House, order: list[tuple[str, Any]]) -> None:
    refused = house.client.post(NVIDIA, json={"messages": messages(order)})
    assert refused.status_code == 422
    assert "must" in refused.json()["error"]["message"] and house.engine.streams == []


def test_a_system_message_holds_no_image(house: House) -> None:
    order = messages([("user", "Hi"), ("system", [PICTURE])])
    refused = house.client.post(CHAT, json={"messages": order})
    assert refused.status_code == 422 and "image" in refused.json()["error"]["message"]


def test_a_placeholder_in_late_system_text_is_text(house: House) -> None:
    order = messages([("user", "Hi"), ("system", "<image> is text")])
    assert house.client.post(CHAT, json={"messages": order}).status_code == 200
    (stream,) = house.engine.streams
    assert stream.request.images == () and stream.request.conversation.system == "<image> is text"


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_takes_an_empty_turn(name: str) -> None:
    template = TEMPLATES[name]
    alone = text_of(render(Conversation((user(),), "Be kind."), template, answer=True))
    greeted = Conversation((user(), assistant("Hello!"), user("Hi")), "Be kind.")
    told = text_of(render(greeted, template, answer=True))
    if template.keeps_question:
        assert "Be kind." in alone
        assert told.index("Be kind.") < told.index("Hello!") < told.index("Hi")
