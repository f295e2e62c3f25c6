"""Every way in which clients in the field send an image (shared facts, api.md 1.2)."""

import pytest
from server_house import CHAT, NVIDIA, House, data_uri, png

RED = data_uri(png(8, 6))
BLUE = data_uri(png(3, 5, (0, 0, 255)))
SEEN = "[(8, 6) [255, 0, 0]]"
OTHER = "[(3, 5) [0, 0, 255]]"
ASK = {"type": "text", "text": "What is it?"}
MISLABELLED = ("image/jpeg", "image/image/png", "text/plain", "image/text/plain")


@pytest.mark.parametrize("path", [NVIDIA, CHAT])
@pytest.mark.parametrize(
    "content",
    [
        f'What is it? <img src="{RED}" />',
        f'What is it?<img src="{RED}"/>',
        f"What is it? <img src='{RED}'>",
        f'<img src="{RED}" /> What is it?',
        [
            {"type": "text", "text": f'<img src="{RED}" />'},
            ASK,
        ],
        [{"type": "image_url", "image_url": RED}, ASK],
        [
            ASK,
            {"type": "image_url", "image_url": {"url": RED}},
        ],
        [
            ASK,
            {"type": "image_url", "image_url": {"url": RED, "detail": "auto"}},
        ],
        [
            {"type": "input_text", "text": "What is it?"},
            {"type": "input_image", "image_url": RED},
        ],
    ],
)
def test_every_form_gives_the_same_turn(house: House, path: str, content: object) -> None:
    """One image goes before its text, as LLaVA was trained, whichever way it was sent."""
    assert f"user: {SEEN} '\\nWhat is it?' |" in house.text(content, path, seed=0)


@pytest.mark.parametrize("kind", MISLABELLED)
def test_the_label_is_not_trusted(house: House, kind: str) -> None:
    assert SEEN in house.text(f'<img src="{data_uri(png(), kind)}" />')


def test_images_between_texts_stay_in_place(house: House) -> None:
    content = [
        {"type": "text", "text": "First:"},
        {"type": "image_url", "image_url": RED},
        {"type": "text", "text": "second:"},
        {"type": "image_url", "image_url": BLUE},
        {"type": "text", "text": "Same?"},
    ]
    assert f"user: 'First:' {SEEN} 'second:' {OTHER} 'Same?' |" in house.text(content)


def test_images_of_several_turns_keep_their_order(house: House) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f'One <img src="{RED}" />'},
        {"role": "assistant", "content": "Red."},
        {"role": "user", "content": [{"type": "image_url", "image_url": BLUE}]},
    ]
    response = house.client.post(NVIDIA, json={"messages": messages})
    said = response.json()["choices"][0]["message"]["content"]
    assert said.startswith(
        f"system='Be brief.' | user: {SEEN} '\\nOne' | assistant: 'Red.' | user: {OTHER} |"
    )


@pytest.mark.parametrize("text", ["<image>", "<|im_end|>", "<img>", "[IMG]", "<image_soft_token>"])
def test_a_placeholder_in_text_is_text(house: House, text: str) -> None:
    assert f"user: {text!r} |" in house.text(text)


def test_messages_of_one_role_in_a_row_are_one_turn(house: House) -> None:
    messages = [{"role": "user", "content": "One"}, {"role": "user", "content": "two"}]
    said = house.client.post(CHAT, json={"messages": messages, "seed": 0}).json()
    assert "user: 'One' '\\n' 'two' |" in said["choices"][0]["message"]["content"]


def test_the_card_sends_no_content_at_all(house: House) -> None:
    assert "user: " in house.text("")


LABELS = {"creativity": 6, "helpfulness": 6, "humor": 0, "quality": 6}


def test_labels_in_a_last_message_and_on_top(house: House) -> None:
    question = {"role": "user", "content": "Hi"}
    trailing = {"messages": [question, {"role": "assistant", "labels": LABELS}]}
    beside = {"messages": [question], "labels": LABELS}
    said = [
        house.client.post(NVIDIA, json=body).json()["choices"][0]["message"]["content"]
        for body in (trailing, beside)
    ]
    assert said[0] == said[1]
    assert f"assistant:  labels={LABELS}" in said[0]


def test_a_last_assistant_message_begins_the_answer(house: House) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well,"}]
    said = house.client.post(NVIDIA, json={"messages": messages}).json()
    assert "assistant: 'Well,'" in said["choices"][0]["message"]["content"]
