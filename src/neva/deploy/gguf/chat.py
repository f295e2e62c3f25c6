"""The chat template inside a GGUF file: our Jinja, with pictures as llama.cpp hands them over.

llama.cpp's server makes one text of a message's parts before the template sees it, each picture a
marker `<__media...__>` in its place. `neva serve` arranges a turn as the model was trained on it:
pictures, a line break, the question. The template does the same, so that the same messages have the
same ids in both. A turn with text before and behind its pictures stays as it is, as it does there.
"""

from neva.model.checkpoint import Checkpoint
from neva.prompts import jinja_template

_STRING = "{%- if message['content'] is string -%}"
_WHOLE = "{{- message['content'] -}}"
MARKER = "<__media"
END = "__>"

_BITS = f"{{%- set bits = message['content'].split('{MARKER}') -%}}"
_RUN = (  # pictures next to each other: as many seams as there are pictures less one
    f"{{%- set seams = message['content'].split('{END}{MARKER}') -%}}"
    f"{{%- set tail = bits[-1].split('{END}') -%}}"
    f"{{%- set behind = tail[1:] | join('{END}') -%}}"
)
_PICTURES = (
    "{%- for bit in bits[1:] -%}"
    f"{{{{- '{MARKER}' + bit.split('{END}')[0] + '{END}' -}}}}"
    "{%- endfor -%}"
)
_TEXT = (
    "{%- set said = (bits[0] + behind) | trim -%}{%- if said -%}{{- '\\n' + said -}}{%- endif -%}"
)
_APART = (
    "bits | length == 1 or seams | length != bits | length - 1 "
    "or (bits[0] | trim and behind | trim)"
)


def gguf_chat_template(source: Checkpoint) -> str:
    """The template that `neva.json` names, for a GGUF file of this checkpoint."""
    template, tokenizer = source.template, source.tokenizer
    ours = jinja_template(template, tokenizer)
    head, found, rest = ours.partition(_STRING)
    if template.keeps_question:
        rest = rest.removeprefix(_WHOLE)
        turn = (
            f"{_BITS}{_RUN}{{%- if {_APART} -%}}{_WHOLE}{{%- else -%}}{_PICTURES}{_TEXT}"
            "{%- endif -%}"
        )
    else:
        turn = _BITS + _PICTURES
    return head + found + turn + rest
