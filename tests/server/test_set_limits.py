"""Limits that an operator changes are the limits that are kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from echo_engine import EchoEngine
from server_house import CHAT, NVIDIA, House

from neva import cli
from neva.commands.serve import serve
from neva.errors import NevaError
from neva.server.address import check_exposure
from neva.server.app import create_app
from neva.server.settings import Limits, Settings

TALK = [{"role": r, "content": "Hi"} for r in ("user", "assistant", "user")]


@pytest.fixture
def small(house_of: Callable[..., House]) -> House:
    return house_of(Settings(limits=Limits(messages=2, choices=2, nvidia_max_tokens=16)))


@pytest.mark.parametrize(
    ("path", "more", "param"),
    [
        (NVIDIA, {"messages": TALK}, "messages"),
        (CHAT, {"messages": TALK}, "messages"),
        (CHAT, {"n": 3}, "n"),
        (NVIDIA, {"max_tokens": 17}, "max_tokens"),
    ],
)
def test_smaller_limits(small: House, path: str, more: dict[str, Any], param: str) -> None:
    refused = small.client.post(path, json={"messages": TALK[:1], **more})
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == param


def test_a_stored_conversation_counts_whole(small: House) -> None:
    first = small.client.post("/v1/responses", json={"input": "Hi"}).json()
    more = {"input": "And?", "previous_response_id": first["id"]}
    refused = small.client.post("/v1/responses", json=more)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "messages")


def test_larger_limits(house_of: Callable[..., House]) -> None:
    limits = Limits(messages=3000, choices=12, nvidia_max_tokens=3000)
    house = house_of(Settings(limits=limits), EchoEngine(context=100_000))
    long = [TALK[0]] * 2000
    assert house.client.post(CHAT, json={"messages": long}).status_code == 200
    assert house.client.post(NVIDIA, json={"messages": TALK, "max_tokens": 2000}).status_code == 200
    twelve = house.client.post(CHAT, json={"messages": TALK, "n": 12, "seed": 5}).json()["choices"]
    assert [choice["index"] for choice in twelve] == list(range(12))
    seeds = {choice["message"]["content"].rsplit("seed=", 1)[1].strip() for choice in twelve}
    assert len(seeds) == 12, "each choice has a seed of its own"


def test_without_max_tokens_the_limit_holds(small: House) -> None:
    small.engine.streams.clear()
    assert small.client.post(NVIDIA, json={"messages": TALK[:1]}).status_code == 200
    assert small.engine.streams[0].request.sampling.max_tokens == 16


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_a_public_address_needs_keys(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NevaError, match="without API keys"):
        check_exposure(Settings(host=host))
    monkeypatch.delenv("NEVA_API_KEY", raising=False)
    plain = {"api_key_file": None, "cors": [], "images_from": [], "max_running": 1}
    with pytest.raises(NevaError, match="without API keys"):
        serve(host=host, port=1, max_waiting=1, data=None, store=None, keep_days=1, **plain)  # type: ignore[arg-type]


@pytest.mark.parametrize("days", ["inf", "nan", "1e9", "0"])
def test_days_that_no_clock_knows_are_refused(days: str) -> None:
    """With `inf` every upload, and `neva conversations list`, failed for want of a date."""
    with pytest.raises(typer.BadParameter, match="Input should be"):
        cli.load("serve").make_context("serve", ["--keep-days", days])


def test_a_folder_that_cannot_be_written_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(NevaError, match=r"data cannot be written \(.*\): name a folder .* --data"):
        create_app(EchoEngine(), Settings(data=tmp_path / "file" / "data"))
