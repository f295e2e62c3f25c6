"""Template -> Jinja, so that other programs (transformers, vLLM, ...) render the same text.

The Jinja is plain: no macros, no namespaces, no extensions, since engines outside Python parse
it with small reimplementations. Images are content parts of type "image" (or "image_url").
"""

import json

from tokenizers import Tokenizer

from neva.prompts.encode import begin_text
from neva.prompts.render import labels_text
from neva.prompts.templates import Template


def jinja_template(
    template: Template, tokenizer: Tokenizer | None = None, image_token: str = "<image>"
) -> str:
    """The template in Jinja, for `chat_template.jinja` of a checkpoint.

    With `tokenizer`, the text starts with what that tokenizer puts in front ("<s>"), so that
    programs which tokenise the rendered text without special tokens get the same ids as those that
    add them. An assistant's message may carry `label` ("quality:4,...") where the template has
    labels.
    """
    begin = begin_text(tokenizer) if tokenizer else ""
    user = _user(template, image_token)
    return (
        "{%- set start = 1 if messages[0]['role'] == 'system' else 0 -%}"
        f"{{%- set system = messages[0]['content'] if start else {_quote(template.system)} -%}}"
        "{%- if system is not string -%}"
        "{%- set system = system | map(attribute='text') | join('') -%}"
        "{%- endif -%}"
        + _write(begin)
        + (_opening(template) if template.keeps_question else "")
        + "{%- for message in messages[start:] -%}"
        "{%- if message['role'] == 'user' -%}"
        + user
        + "{%- else -%}"
        + _assistant(template)
        + "{%- endif -%}{%- endfor -%}"
        "{%- if add_generation_prompt -%}"
        + _write(template.reply)
        + _default_label(template)
        + "{%- endif -%}"
    )


def _opening(template: Template) -> str:
    return (
        "{%- if system -%}"
        + _write(template.opening[0])
        + "{{- system -}}"
        + _write(template.opening[1])
        + "{%- else -%}"
        + _write(template.bare)
        + "{%- endif -%}"
    )


def _user(template: Template, image_token: str) -> str:
    text = "{{- part['text'] -}}" if template.keeps_question else ""
    whole = "{{- message['content'] -}}" if template.keeps_question else ""
    return (
        "{%- if loop.first -%}"
        + _write(template.first_user)
        + "{%- else -%}"
        + _write(template.next_user)
        + "{%- endif -%}"
        f"{{%- if message['content'] is string -%}}{whole}{{%- else -%}}"
        "{%- for part in message['content'] -%}"
        f"{{%- if part['type'] == 'text' -%}}{text}{{%- else -%}}"
        + _write(image_token)
        + "{%- endif -%}{%- endfor -%}{%- endif -%}"
        + _write(template.after_user)
    )


def _assistant(template: Template) -> str:
    label = ""
    if template.label:
        label = (
            "{%- if message['label'] -%}"
            + _write(template.label[0])
            + "{{- message['label'] -}}"
            + _write(template.label[1])
            + ("{%- else -%}" + _default_label(template) if template.default_labels else "")
            + "{%- endif -%}"
        )
    return (
        _write(template.reply)
        + label
        + _write(template.lead)
        + "{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}"
        "{%- for part in message['content'] -%}{{- part['text'] -}}{%- endfor -%}{%- endif -%}"
        + _write(template.end + template.after)
    )


def _default_label(template: Template) -> str:
    if not (template.label and template.default_labels):
        return ""
    return _write(template.label[0] + labels_text(template.default_labels) + template.label[1])


def _write(text: str) -> str:
    return f"{{{{- {_quote(text)} -}}}}" if text else ""


def _quote(text: str) -> str:
    """A Jinja string literal; JSON's escapes are Jinja's."""
    return json.dumps(text, ensure_ascii=False)
