"""Traces as a collector gets them over OTLP: the parts of a request, and nothing of its content."""

import logging
import socket
import sys
import time
from typing import Any

import pytest
from collector import Collector, attributes, collecting
from echo_engine import EchoEngine, wait_until
from server_house import CHAT, NVIDIA, WEB, data_uri, png, serving

from neva.errors import NevaError
from neva.server.settings import Limits, Settings
from neva.server.tracing import UNDER_WAY, Tracing, endpoint

PARENT = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
SECRET = "nobody may read this question"


def asked(**fields: Any) -> dict[str, Any]:
    content = [
        {"type": "text", "text": SECRET},
        {"type": "image_url", "image_url": {"url": data_uri(png(40, 30))}},
    ]
    return {"messages": [{"role": "user", "content": content}], **fields}


@pytest.fixture(scope="module")
def seen() -> Collector:
    """What a collector sees of a handful of requests."""
    with collecting() as collector:
        with serving(EchoEngine(pause=0.02), Settings(otlp=collector.url)) as live:
            mine = {"traceparent": f"00-{PARENT}-{SPAN}-01", "x-request-id": "mine"}
            assert WEB.post(live.url + NVIDIA, json=asked(), headers=mine).status_code == 200
            answer = WEB.post(live.url + CHAT, json=asked(stream=True, n=2, seed=1))
            assert answer.status_code == 200
            off = {"traceparent": f"00-{'1' * 32}-{SPAN}-00", "x-request-id": "unsampled"}
            assert WEB.post(live.url + CHAT, json=asked(), headers=off).status_code == 200
            odd = {"traceparent": "00-nonsense", "x-request-id": "odd"}
            assert WEB.get(f"{live.url}/v1/models/{SECRET}", headers=odd).status_code == 404
            assert WEB.get(live.url + "/v1/health/ready").status_code == 200
            with WEB.stream("POST", live.url + CHAT, json=asked(stream=True)) as gone:
                lines = gone.iter_lines()
                next(lines)
            waiting = 'running{model_name="echo"} 0.0'
            assert wait_until(lambda: waiting in WEB.get(f"{live.url}/metrics").text)
        return collector


def test_the_parts_of_a_request(seen: Collector) -> None:
    assert seen.paths == {"/v1/traces"} and seen.services == {"neva"}
    (whole,) = [s for s in seen.spans if s.name == f"POST {NVIDIA}"]
    assert whole.trace_id.hex() == PARENT and whole.parent_span_id.hex() == SPAN
    assert attributes(whole) == {
        "neva.request_id": "mine",
        "http.request.method": "POST",
        "http.route": NVIDIA,
        "http.response.status_code": 200,
    }
    parts = [s for s in seen.spans if s.parent_span_id == whole.span_id]
    parts.sort(key=lambda span: span.start_time_unix_nano)
    assert [s.name for s in parts] == ["queue", "image decode", "prefill", "decode"]
    assert {attributes(s)["neva.request_id"] for s in parts} == {"mine"}
    bounds = [whole.start_time_unix_nano]
    for part in parts:
        bounds += [part.start_time_unix_nano, part.end_time_unix_nano]
    assert [*bounds, whole.end_time_unix_nano] == sorted([*bounds, whole.end_time_unix_nano])
    assert abs(bounds[0] / 1e9 - time.time()) < 600
    last = attributes(parts[-1])
    assert parts[-1].end_time_unix_nano - parts[-1].start_time_unix_nano > 0.02 * 1e9
    assert last["gen_ai.response.model"] == "echo"
    assert last["gen_ai.response.finish_reason"] == "stop"
    assert last["gen_ai.usage.input_tokens"] == 59 and last["gen_ai.usage.output_tokens"] > 3
    assert attributes(parts[1])["neva.images"] == 1


def test_every_choice_has_its_own_parts(seen: Collector) -> None:
    trace = {s.trace_id for s in seen.named("decode")} - {bytes.fromhex(PARENT)}
    counts = sorted(
        [sum(s.trace_id == one for s in seen.named(name)) for name in ("queue", "decode")]
        for one in trace
    )
    assert counts == [[1, 1], [1, 2]], "the one that was left early, and the one with n=2"


def test_a_client_that_leaves_is_seen(seen: Collector) -> None:
    ends = [attributes(s)["gen_ai.response.finish_reason"] for s in seen.named("decode")]
    assert sorted(ends) == ["abort", "stop", "stop", "stop"]


def test_what_is_not_traced(seen: Collector) -> None:
    ids = {attributes(s)["neva.request_id"] for s in seen.spans}
    assert "unsampled" not in ids, "the client's sampling decision is kept"
    assert not [s.name for s in seen.spans if "health" in s.name or "metrics" in s.name]
    (odd,) = [s for s in seen.spans if attributes(s)["neva.request_id"] == "odd"]
    assert odd.name == "GET /v1/models/{model:path}", "the route, not what was asked for"
    assert odd.parent_span_id == b"", "a broken traceparent begins a new trace"


def test_no_content(seen: Collector) -> None:
    everything = b"".join(seen.raw)
    assert len(everything) > 1000
    for secret in (SECRET, data_uri(png(40, 30))[40:80], "system=None", "seed=0"):
        assert secret.encode() not in everything


def test_the_log_line_names_the_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "neva")
    with collecting() as collector:
        with serving(EchoEngine(), Settings(otlp=collector.url)) as live:
            WEB.post(live.url + NVIDIA, json=asked(), headers={"x-request-id": "mine"})
        (record,) = [r for r in caplog.records if getattr(r, "request_id", "") == "mine"]
        assert {span.trace_id.hex() for span in collector.spans} == {record.trace_id}


def test_without_the_flag_there_are_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "neva")
    with serving(EchoEngine()) as live:
        WEB.post(live.url + NVIDIA, json=asked())
    assert all(not hasattr(record, "trace_id") for record in caplog.records)
    assert UNDER_WAY.get().request_id == "", "nothing is left over in this thread"


def test_a_collector_that_is_away_costs_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:  # takes connections, says nothing
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        started = time.monotonic()
        with serving(EchoEngine(), Settings(otlp=url, limits=Limits(running=1))) as live:
            for _ in range(3):
                assert WEB.post(live.url + CHAT, json=asked()).status_code == 200
            assert time.monotonic() - started < 20
        assert time.monotonic() - started < 60, "nor does the end wait for it for ever"


def test_where_spans_are_sent() -> None:
    assert endpoint("http://127.0.0.1:4318") == "http://127.0.0.1:4318/v1/traces"
    assert endpoint("https://otel.example.org/a/") == "https://otel.example.org/a/v1/traces"
    assert endpoint("http://localhost:4318/v1/traces") == "http://localhost:4318/v1/traces"


@pytest.mark.parametrize("bad", ["127.0.0.1:4318", "grpc://a:4317", "http://", "http://a:1?key=x"])
def test_what_is_no_collector(bad: str) -> None:
    with pytest.raises(NevaError, match="must be the collector's http or https URL"):
        Tracing(bad)


def test_a_password_in_the_url_is_refused() -> None:
    with pytest.raises(NevaError) as refused:
        Tracing("http://ann:hunter2@collector:4318")
    assert "OTEL_EXPORTER_OTLP_HEADERS" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_without_opentelemetry_the_flag_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, exporter, None)  # as Python does for what is not there
    with pytest.raises(NevaError, match=r"pip install 'neva-vlm\[trace\]'"):
        Tracing("http://127.0.0.1:4318")
    assert Tracing().begin("mine", "/", {}).request_id == "mine", "and without it nothing is asked"
