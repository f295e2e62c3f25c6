"""No page of another origin changes anything: forms and files need no leave of CORS to be sent."""

from collections.abc import Callable

import pytest
from echo_engine import EchoEngine
from server_house import CHAT, House, png

from neva.server.settings import Settings

HERE = "testserver"
EVIL = "https://evil.example"
FOREIGN = [
    {"origin": EVIL, "sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "cross-site"},
    {"origin": f"http://{HERE}:3000", "sec-fetch-site": "same-site"},
    {"origin": f"http://{HERE}", "sec-fetch-site": "cross-site"},
    {"origin": EVIL},
    {"origin": f"{EVIL}/{HERE}"},
    {"origin": f"http://{HERE}.evil.example"},
    {"origin": f"http://{HERE}@evil.example"},
    {"origin": f"http://{HERE}:3000"},
    {"origin": f"https://{HERE}:80"},
    {"origin": "null"},
    {"origin": "http://"},
    {"origin": "http://[::1"},
    {"origin": f"http://{HERE}:x"},
    {"origin": EVIL, "sec-fetch-site": "none"},
]
OURS = [
    {},
    {"origin": f"http://{HERE}"},
    {"origin": f"https://{HERE}"},  # TLS ends in a proxy
    {"origin": f"https://{HERE}:443"},
    {"origin": f"https://{HERE.upper()}"},
    {"origin": f"http://{HERE}", "sec-fetch-site": "same-origin"},
    {"origin": "https://chat.example", "sec-fetch-site": "same-origin"},  # the Host is the proxy's
    {"origin": "https://chat.example", "x-forwarded-host": "chat.example"},
    {"origin": "null", "sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},
]


def upload(house: House, headers: dict[str, str]) -> int:
    form = {"files": {"file": ("a.png", png())}, "data": {"purpose": "vision"}}
    return int(house.client.post("/v1/files", headers=headers, **form).status_code)


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_foreign_pages_are_refused(house: House, headers: dict[str, str]) -> None:
    held = house.client.get("/v1/files").json()["data"]
    assert upload(house, headers) == 403
    said = {"messages": [{"role": "user", "content": "Hi"}]}
    asked = house.client.post(CHAT, json=said, headers=headers)
    assert asked.status_code == 403 and "another origin" in asked.json()["detail"]
    assert house.client.delete("/v1/responses", headers=headers).status_code == 403
    assert house.client.get("/v1/files").json()["data"] == held and not house.engine.streams
    assert house.client.get("/v1/models", headers=headers).status_code == 200, "it cannot read it"


@pytest.mark.parametrize("headers", OURS, ids=str)
def test_our_pages_and_tools_are_not(house: House, headers: dict[str, str]) -> None:
    assert upload(house, headers) == 200


def test_a_port_is_part_of_it(house_of: Callable[..., House]) -> None:
    house = house_of(engine=EchoEngine())
    there = {"host": "localhost:8000"}
    assert upload(house, {**there, "origin": "http://localhost:8000"}) == 200
    assert upload(house, {**there, "origin": "http://localhost:3000"}) == 403


@pytest.mark.parametrize("named", [EVIL, "*"])
def test_named_origins_may(house_of: Callable[..., House], named: str) -> None:
    house = house_of(Settings(cors=("https://other.example", named)))
    assert upload(house, FOREIGN[0]) == 200
