"""The chat template of a checkpoint, rendered by transformers, gives our text and our ids."""

from typing import Any

import pytest
from PIL import Image
from tokenizers import Tokenizer

from neva.prompts import (
    TEMPLATES,
    Conversation,
    ImageSlot,
    Turn,
    assistant,
    encode,
    jinja_template,
    render,
    text_of,
    user,
)
from neva.prompts.render import labels_text

transformers = pytest.importorskip("transformers")
clip = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")

CONVERSATIONS = [
    Conversation((user(ImageSlot(0), "\nWhat is in this picture?"), assistant("Two cats."))),
    Conversation(
        (
            user("How many dogs are there? ", ImageSlot(0), ImageSlot(1)),
            assistant("There are 3 dogs:\n- 2 brown\n- 1 red, über-schön 🐱"),
            user("1 + 1 = \"two\" or '2'? {{ braces }} {% raw %} \\n"),
            assistant("42"),
            user("Why?"),
            assistant("Because."),
        ),
        system='Answer "briefly".\nThen stop.',
    ),
    Conversation((user("Hello there"), assistant("Hi")), system=""),
    Conversation((user("Rate it."), Turn("assistant", ("Good.",), labels={"quality": 1}))),
]


def messages(conversation: Conversation) -> list[dict[str, Any]]:
    """The conversation as Hugging Face's and OpenAI's clients write it."""
    system = conversation.system
    told: list[dict[str, Any]] = []
    if system is not None:
        told.append({"role": "system", "content": system})
    for turn in conversation.turns:
        parts = [
            {"type": "image"} if isinstance(part, ImageSlot) else {"type": "text", "text": part}
            for part in turn.parts
        ]
        plain = turn.text if len(parts) == 1 and "text" in parts[0] else parts
        label = {"label": labels_text(turn.labels)} if turn.labels else {}
        told.append({"role": turn.role, "content": plain, **label})
    return told


@pytest.fixture(scope="session")
def theirs(real: Tokenizer) -> Any:
    return transformers.PreTrainedTokenizerFast(tokenizer_object=real)


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_same_text_and_same_ids(
    name: str, conversation: Conversation, real: Tokenizer, theirs: Any
) -> None:
    template = TEMPLATES[name]
    theirs.chat_template = jinja_template(template, real)
    question = Conversation(conversation.turns[:-1], conversation.system)
    for told, prompt in ((conversation, False), (question, True)):
        ids = theirs.apply_chat_template(
            messages(told), tokenize=True, add_generation_prompt=prompt, return_dict=False
        )
        ours = encode(told, template, real, real.token_to_id("<image>"), 1, answer=prompt)
        assert ids == list(ours.ids)


@pytest.mark.parametrize("name", TEMPLATES)
def test_continued_answer(name: str, smol: Tokenizer) -> None:
    told = CONVERSATIONS[0]
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=smol)
    theirs.chat_template = jinja_template(TEMPLATES[name], smol)
    text = theirs.apply_chat_template(messages(told), tokenize=False, continue_final_message=True)
    assert text == text_of(render(told, TEMPLATES[name], answer=True))


def test_image_url_parts_and_listed_system() -> None:
    """OpenAI's clients name images "image_url" and may send the system text in parts."""
    told = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "x"}},
                {"type": "text", "text": "?"},
            ],
        },
    ]
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(jinja_template(TEMPLATES["chatml"], image_token="<img>")).render(
        messages=told, add_generation_prompt=True
    )
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<img>?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.fixture(scope="session")
def processor(real: Tokenizer, theirs: Any) -> Any:
    theirs.bos_token = "<s>" if real.token_to_id("<s>") is not None else None
    theirs.image_token, theirs.image_token_id = "<image>", real.token_to_id("<image>")
    return transformers.LlavaProcessor(
        clip.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=28),
        theirs,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_whole_processor_gives_our_ids(name: str, real: Tokenizer, processor: Any) -> None:
    """LlavaProcessor expands images and adds BOS in its own way, and must end up where we are."""
    told = Conversation(
        (user(ImageSlot(0), "\nWhat?"), assistant("Two cats."), user("Why? ", ImageSlot(1)))
    )
    asked = messages(told)
    asked[1]["content"] = [{"type": "text", "text": "Two cats."}]  # it wants lists only
    for message in asked:
        for part in message["content"]:
            if part["type"] == "image":
                part["image"] = Image.new("RGB", (30, 20))
    processor.chat_template = jinja_template(TEMPLATES[name], real)
    found = processor.apply_chat_template(
        asked, tokenize=True, return_dict=True, add_generation_prompt=True
    )
    ours = encode(told, TEMPLATES[name], real, real.token_to_id("<image>"), 4, answer=True)
    assert list(found["input_ids"][0]) == list(ours.ids)
    assert len(found["pixel_values"]) == len(ours.images) == 2
