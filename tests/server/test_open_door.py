"""`neva serve` on every address of the machine: by keys, by the statement about TLS, by neither.

The real server and its real engine; asked at an address of the machine that is not 127.0.0.1.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from real_server import free_port, serving
from server_house import CHAT

KEY = "nvapi-open-door-0123"
EVERYWHERE = ("--host", "0.0.0.0")
FRONTED = "--tls-in-front"
HI = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
MINE = {"Authorization": f"Bearer {KEY}"}
PROXIED = {"Host": "chat.example.org"}
WEB = httpx.Client(verify=False, trust_env=False, timeout=60)
"""Past any proxy that this machine uses for addresses other than 127.0.0.1."""


def other_address() -> str:
    """An address of this machine that a server on 127.0.0.1 alone would not hear."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it asks for the route only
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.2"


def elsewhere(url: str) -> str:
    return url.replace("127.0.0.1", other_address())


def asked(url: str, headers: dict[str, str]) -> int:
    return WEB.post(elsewhere(url) + CHAT, json=HI, headers=headers).status_code


def environment(folder: Path, key: str) -> dict[str, str]:
    return {"NEVA_API_KEY": key, "XDG_DATA_HOME": str(folder)}


def test_neither_keys_nor_a_proxy_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "neva", "serve", "--model", str(checkpoint)]
    made = subprocess.run(
        [*command, "--port", str(port), *EVERYWHERE],
        env={**os.environ, **environment(tmp_path, "")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (made.returncode, made.stdout, made.stderr.count("\n")) == (1, "", 1), made.stderr
    assert made.stderr.startswith("neva: refusing to listen on 0.0.0.0 without API keys")
    with pytest.raises(httpx.TransportError):
        asked(f"http://127.0.0.1:{port}", {})


def test_keys_alone_open_it_with_a_warning(checkpoint: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    with serving(checkpoint, *EVERYWHERE, env=environment(tmp_path, KEY), said=said) as (url, _):
        assert asked(url, {}) == 401
        assert asked(url, {"Authorization": f"Bearer {KEY}4"}) == 401
        assert asked(url, MINE) == 200
    told = said.read_text()
    assert "unencrypted" in told and FRONTED in told
    assert KEY not in told


def test_a_stated_proxy_alone_opens_it_to_all(checkpoint: Path, tmp_path: Path) -> None:
    said, words = tmp_path / "said", (*EVERYWHERE, FRONTED)
    with serving(checkpoint, *words, env=environment(tmp_path, ""), said=said) as (url, _):
        assert asked(url, {}) == 200
        assert asked(url, PROXIED) == 200, "the proxy's name is not ours to know"
    assert "unencrypted" not in said.read_text()


def test_a_stated_proxy_does_not_switch_keys_off(checkpoint: Path, tmp_path: Path) -> None:
    said, words = tmp_path / "said", (*EVERYWHERE, FRONTED)
    with serving(checkpoint, *words, env=environment(tmp_path, KEY), said=said) as (url, _):
        assert asked(url, PROXIED) == 401
        assert asked(url, {**PROXIED, **MINE}) == 200
    assert "unencrypted" not in said.read_text()


def test_without_a_host_it_is_this_machines_alone(checkpoint: Path, tmp_path: Path) -> None:
    with serving(checkpoint, env=environment(tmp_path, "")) as (url, _):
        assert WEB.post(url + CHAT, json=HI).status_code == 200
        assert WEB.post(url + CHAT, json=HI, headers=PROXIED).status_code == 421
        with pytest.raises(httpx.TransportError):
            asked(url, {})
