"""Triton's tensors become the request that `neva serve` would make of the same words."""

import json
from typing import Any

import numpy as np
import pytest
from server_house import data_uri, png

from neva.deploy.triton.ask import INPUTS, TritonAsk, read_ask
from neva.engine.protocol import EngineInfo, Sampling
from neva.errors import NevaError
from neva.images import read_image
from neva.prompts.conversation import Conversation, ImageSlot, Turn
from neva.server.errors import ApiError
from neva.server.settings import Limits

INFO = EngineInfo("tiny", "openvino", "fp32", context=4096, image_tokens=4, reproducible=True)
URI = data_uri(png())
ABOUT_IT = Conversation((Turn("user", (ImageSlot(0), "\nWhat is it?")),))


def ask(limits: Limits | None = None, **values: Any) -> TritonAsk:
    lists = {k: v if isinstance(v, list) else [v] for k, v in values.items()}
    return read_ask(lists, INFO, limits or Limits())


@pytest.mark.parametrize(
    "values",
    [
        {"text_input": b"What is it?", "image_url": URI.encode()},
        {"text_input": "What is it?", "image": png()},
        {"text_input": f'What is it? <img src="{URI}" />'.encode()},
        {
            "messages": json.dumps(
                [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": URI}},
                                              {"type": "text", "text": "What is it?"}]}]
            )
        },
    ],
    ids=["url", "bytes", "tag", "messages"],
)  # fmt: skip
def test_a_question_about_a_picture_in_every_form(values: dict[str, Any]) -> None:
    asked = ask(**values)
    assert asked.request.conversation == ABOUT_IT
    (image,) = asked.request.images
    assert np.array_equal(image.array, read_image(png()).array)
    assert asked.request.sampling == Sampling() and not asked.streaming


def test_every_setting_arrives() -> None:
    sent = {
        "sampling_param_max_tokens": 7,
        "sampling_param_temperature": float(np.float32(0.3)),
        "sampling_param_top_p": float(np.float32(0.9)),
        "sampling_param_top_k": 9,
        "sampling_param_presence_penalty": 0.5,
        "sampling_param_frequency_penalty": float(np.float32(-0.1)),
        "sampling_param_seed": 11,
        "sampling_param_stop": [b"\n", "ä".encode()],
    }
    expected = Sampling(
        0.3, 0.9, 7, 11, ("\n", "ä"), top_k=9, presence_penalty=0.5, frequency_penalty=-0.1
    )
    asked = ask(text_input="Hello", streaming=True, **sent)
    assert asked.request.sampling == expected and asked.streaming


def test_pictures_of_both_kinds_keep_their_order() -> None:
    other = png(5, 7)
    asked = ask(text_input="Which?", image=[png(), other], image_url=[URI])
    sizes = [image.size for image in asked.request.images]
    assert sizes == [read_image(png()).size, (5, 7), read_image(png()).size]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "text_input is missing"),
        ({"text_input": ["a", "b"]}, "text_input must have one element, not 2"),
        ({"text_input": b"\xff"}, "text_input is not UTF-8"),
        ({"text_input": "a", "sampling_param_temperature": 3.0}, "sampling_param_temperature: "),
        ({"text_input": "a", "sampling_param_temperature": float("nan")}, "finite number"),
        ({"text_input": "a", "sampling_param_top_p": 1.5}, "sampling_param_top_p: "),
        ({"text_input": "a", "sampling_param_max_tokens": 0}, "sampling_param_max_tokens: "),
        ({"text_input": "a", "sampling_param_seed": 2**63}, "sampling_param_seed: "),
        ({"text_input": "a", "sampling_param_stop": [""]}, "sampling_param_stop"),
        ({"text_input": "a", "sampling_param_exclude_input_from_output": False}, "never part"),
        ({"text_input": "a", "messages": "[]"}, "not both"),
        ({"image": png(), "messages": "[]"}, "not both"),
        ({"messages": "[{"}, "not valid JSON"),
        ({"messages": "[" * 100_000}, "not valid JSON"),
        ({"messages": "{}"}, "messages: "),
        ({"messages": "[]"}, "messages: "),
        ({"messages": json.dumps([{"role": "robot", "content": "a"}])}, "messages.0.role: "),
        ({"messages": json.dumps([{"role": "user", "content": [{"type": "image_url",
          "image_url": {"url": "tensor:0"}}]}])}, "fetches no images"),
        ({"text_input": "a", "image_url": "http://169.254.169.254/"}, "fetches no images"),
        ({"text_input": "a", "image_url": "file:///etc/passwd"}, "fetches no images"),
        ({"text_input": "a", "image_url": "tensor:7"}, "fetches no images"),
        ({"text_input": "a", "image_url": "tensor:" + "9" * 5000}, "fetches no images"),
        ({"text_input": "a", "image": [png(), b"GIF89a"]}, "image 2: "),
        ({"text_input": "a", "image": [b""]}, "image 1: "),
        ({"text_input": "a", "image_url": [URI] * 17}, "at most 16 images"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_its_name(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises((NevaError, ApiError)) as caught:
        ask(**values)
    assert sentence in (getattr(caught.value, "detail", "") or str(caught.value))


def test_all_pictures_together_are_bounded() -> None:
    small = Limits(pixels=read_image(png()).size[0] * read_image(png()).size[1])
    assert ask(small, text_input="a", image=png())
    with pytest.raises(ApiError) as caught:
        ask(small, text_input="a", image=[png(), png()])
    assert "too many pixels" in str(caught.value.detail)


def test_inputs_fill_fields_that_there_are() -> None:
    from neva.server.schemas import OpenAIRequest

    assert {one.field for one in INPUTS if one.field} < set(OpenAIRequest.model_fields)
