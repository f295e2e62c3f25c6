"""The real base LM behind a random CLIP: both engines write the same greedy text in float32."""

from pathlib import Path

import numpy as np
import pytest

from neva.engine import open_engine
from neva.engine.protocol import Request, Sampling, collect
from neva.images.image import RGBImage
from neva.nano.base import write_base
from neva.prompts import Conversation, ImageSlot, ask, assistant, user

GREEDY = Sampling(temperature=0, max_tokens=48)


def picture(seed: int) -> RGBImage:
    values = np.random.default_rng(seed).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    return RGBImage(values, f"picture {seed}")


REQUESTS = (
    Request(ask("What is in this picture?"), (picture(0),), GREEDY),
    Request(ask("Compare them.", images=2), (picture(1), picture(2)), GREEDY),
    Request(ask("Name three fruits.", images=0), (), GREEDY),
    Request(ask("What is the capital of France?", images=0), (), GREEDY),
    Request(
        Conversation(
            (user("Hi"), assistant("Hello! How can I help you?"), user(ImageSlot(0), "Look!"))
        ),
        (picture(2),),
        GREEDY,
    ),
)


@pytest.mark.slow
def test_greedy_text_is_the_reference_engines(tmp_path: Path) -> None:
    import torch
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    from neva.model.compose import compose

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=3,
        image_size=96,
        patch_size=16,
    )
    CLIPVisionModel(config).save_pretrained(tmp_path / "clip")
    both = {"height": 96, "width": 96}
    CLIPImageProcessor(size={"shortest_edge": 96}, crop_size=both).save_pretrained(
        tmp_path / "clip"
    )
    base = write_base(tmp_path / "base")
    checkpoint = compose(tmp_path / "clip", base, "mlp2x_gelu", tmp_path / "x", template="chatml")
    answers = []
    for name in ("torch", "openvino"):
        engine = open_engine(checkpoint, name, "fp32")
        answers.append([collect(stream) for stream in engine.generate(REQUESTS)])
        engine.close()
    assert answers[0] == answers[1]
    assert "Paris" in answers[0][3][0]
    engine = open_engine(checkpoint)
    assert "Paris" in collect(engine.generate(REQUESTS[3:4])[0])[0]
    engine.close()
