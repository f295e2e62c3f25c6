"""Prompt templates: one literal table of what is written around the turns of a conversation.

A template is data. `encode` turns it into token ids, `chat_template` into Jinja; nothing else in
the house knows where a marker or a space goes. The texts follow LLaVA (v0, v1, llama_2, plain) and
NVIDIA NeMo (llama_3, mistral, nvgpt, nv_dpo). Every text starts with whatever the tokenizer itself
puts in front (BOS for Llama, nothing for GPT-2), so no template names it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

HUMAN_SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
USER_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
VISION_SYSTEM = (
    "You are a helpful language and vision assistant. "
    "You are able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language."
)
STEER_LABELS: Mapping[str, int] = MappingProxyType(
    {
        "quality": 4,
        "toxicity": 0,
        "humor": 0,
        "creativity": 0,
        "helpfulness": 4,
        "correctness": 4,
        "coherence": 4,
        "complexity": 4,
        "verbosity": 4,
    }
)


@dataclass(frozen=True)
class Template:
    """What is written around the turns, in the order of writing.

    A text is: `opening` around the system text (or `bare` if there is none), then per turn
    `first_user` (later turns: `next_user`), the question, `after_user`; `reply`, the label line,
    `lead`, the answer, `end`, `after`. A prompt that asks for an answer stops after the label line.
    Targets of training are `lead`, the answer and `end`; everything else is context.
    """

    name: str
    system: str
    """The system text of a conversation that brings none; "" is no system text."""
    opening: tuple[str, str]
    """Before and after a system text."""
    bare: str
    """Instead of `opening` where there is no system text."""
    first_user: str
    next_user: str
    after_user: str
    reply: str
    """The assistant's header; a prompt ends with it."""
    end: str
    """Closes an answer and is learned with it."""
    stop: tuple[str, ...]
    """Strings that end an answer when the model writes them."""
    lead: str = ""
    """White space between header and answer that the model itself writes, and readers strip."""
    after: str = ""
    """Between a closed answer and what follows; not learned."""
    label: tuple[str, str] | None = None
    """Around SteerLM labels ("quality:4,toxicity:0"), before the answer; None: no labels."""
    default_labels: Mapping[str, int] | None = field(default=None, hash=False)
    """Labels of an answer that brings none; None leaves the line out."""
    keeps_question: bool = True
    """False: of system text and questions only the images are written (captioning, stage 1)."""


_V1 = Template(
    name="v1",
    system=USER_SYSTEM,
    opening=("", " "),
    bare="",
    first_user="USER: ",
    next_user="USER: ",
    after_user=" ",
    reply="ASSISTANT:",
    lead=" ",
    end="</s>",
    stop=("</s>",),
)
_NVGPT = Template(
    name="nvgpt",
    system=USER_SYSTEM,
    opening=("<extra_id_0>System\n", "\n\n<extra_id_1>"),
    bare="<extra_id_0>System\n\n\n<extra_id_1>",
    first_user="User\n",
    next_user="User\n",
    after_user="\n<extra_id_1>",
    reply="Assistant\n",
    end="\n<extra_id_1>",
    stop=("<extra_id_1>",),
    label=("<extra_id_2>", "\n"),
    default_labels=STEER_LABELS,
)
_TABLE = (
    Template(
        name="plain",
        system="",
        opening=("", ""),
        bare="",
        first_user="",
        next_user="",
        after_user="",
        reply="",
        end="\n",
        stop=("\n",),
        keeps_question=False,
    ),
    Template(
        name="v0",
        system=HUMAN_SYSTEM,
        opening=("", "###"),
        bare="###",
        first_user="Human: ",
        next_user="Human: ",
        after_user="###",
        reply="Assistant:",
        lead=" ",
        end="###",
        stop=("###",),
    ),
    _V1,
    replace(_V1, name="llava_v1", system=HUMAN_SYSTEM),
    Template(
        name="llama_2",
        system=VISION_SYSTEM,
        opening=("[INST] <<SYS>>\n", "\n<</SYS>>\n\n"),
        bare="[INST] ",
        first_user="",
        next_user="<s>[INST] ",
        after_user=" [/INST]",
        reply="",
        lead=" ",
        end=" </s>",
        stop=("</s>",),
    ),
    Template(
        name="llama_3",
        system=VISION_SYSTEM,
        opening=("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"),
        bare="",
        first_user="<|start_header_id|>user<|end_header_id|>\n\n",
        next_user="<|start_header_id|>user<|end_header_id|>\n\n",
        after_user="<|eot_id|>",
        reply="<|start_header_id|>assistant<|end_header_id|>\n\n",
        end="<|eot_id|>",
        stop=("<|eot_id|>",),
    ),
    Template(
        name="mistral",
        system="",
        opening=(" [INST] ", "\n\n"),
        bare=" [INST] ",
        first_user="",
        next_user=" [INST] ",
        after_user=" [/INST]",
        reply="",
        end="</s>",
        stop=("</s>",),
    ),
    _NVGPT,
    replace(
        _NVGPT,
        name="nv_dpo",
        system="",
        opening=("<extra_id_0>System\n", "\n<extra_id_1>"),
        bare="<extra_id_0>System\n\n<extra_id_1>",
        default_labels=None,
    ),
    Template(
        name="chatml",
        system="",
        opening=("<|im_start|>system\n", "<|im_end|>\n"),
        bare="",
        first_user="<|im_start|>user\n",
        next_user="<|im_start|>user\n",
        after_user="<|im_end|>\n",
        reply="<|im_start|>assistant\n",
        end="<|im_end|>",
        after="\n",
        stop=("<|im_end|>",),
    ),
)

TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {template.name: template for template in _TABLE} | {"nv_steerlm": _NVGPT}
)
"""Templates by name; nv_steerlm is NVIDIA's other name of nvgpt."""
