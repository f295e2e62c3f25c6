"""What was said to a stored response, as the items that OpenAI's clients read.

A message is stored as it came: a string, or parts of chat completions' or the Responses API's kind.
It is shown in the Responses API's form, whose content is always a list.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from neva.server.errors import ApiError


class Window(BaseModel):
    """Which of the items: so many, in an order, behind one of them."""

    order: Literal["asc", "desc"] = "desc"
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: str | None = None


def items_of(name: str, said: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages of the response `name` as items, oldest first."""
    return [
        {
            "type": "message",
            "id": f"{name}-{number}",
            "role": message["role"],
            "status": "completed",
            "content": _parts(message),
        }
        for number, message in enumerate(said)
    ]


def page(items: list[dict[str, Any]], window: Window) -> dict[str, Any]:
    """The items in the window as OpenAI's list; ApiError 404 if `after` is none of them."""
    items = items if window.order == "asc" else items[::-1]
    if window.after is not None:
        names = [item["id"] for item in items]
        if window.after not in names:
            raise ApiError(404, f"item {window.after[:120]!r} is none of this response's", "after")
        items = items[names.index(window.after) + 1 :]
    data = items[: window.limit]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    more = len(items) > window.limit
    return {"object": "list", "data": data, "first_id": "", "last_id": "", **ends, "has_more": more}


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content") or []
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    return [_part(part, message["role"]) for part in content]


def _part(part: Mapping[str, Any], role: str) -> dict[str, Any]:
    if "text" in part:
        if role == "assistant":
            return {"type": "output_text", "text": part["text"], "annotations": []}
        return {"type": "input_text", "text": part["text"]}
    if "file" in part:
        return {"type": "input_file", **part["file"]}
    if "file_id" in part:
        return {"type": "input_image", "file_id": part["file_id"], "detail": "auto"}
    image = part["image_url"]
    url = image["url"] if isinstance(image, dict) else image
    return {"type": "input_image", "image_url": url, "detail": "auto"}
