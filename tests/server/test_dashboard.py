"""The Grafana dashboard and the alerts ask for what /metrics really gives.

Names and labels are compared; where `prometheus` and `promtool` are installed, a real Prometheus
scrapes a server and evaluates all of it too.
"""

import itertools
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from echo_engine import EchoEngine, wait_until
from prometheus_client.parser import text_string_to_metric_families
from server_house import CHAT, WEB, House, data_uri, png, serving

from neva.server.metrics import names_of

GRAFANA = files("neva.deploy") / "grafana"
FUNCTIONS = {
    *("sum", "max", "rate", "increase", "histogram_quantile", "vector", "by", "or"),
}
SCRAPED = {"instance", "job"}
"""Labels that Prometheus adds."""
ADDED = {"up"}
"""Metrics that Prometheus adds."""

ASKED = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": data_uri(png())}},
            ],
        }
    ]
}


@cache
def board() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((GRAFANA / "neva.json").read_text())
    return loaded


def panels() -> list[dict[str, Any]]:
    return [panel for panel in board()["panels"] if panel["type"] != "row"]


def alerts() -> list[str]:
    return re.findall(r"^ +expr: (.+)$", (GRAFANA / "alerts.yml").read_text(), re.M)


def expressions() -> list[str]:
    said = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [*said, *alerts()]


def selectors(expression: str) -> list[tuple[str, str]]:
    """Each metric of an expression, as often as it is there, and what stands in its braces."""
    bare = re.sub(r"\bby \([^)]*\)|\[[^]]*\]", "", expression)
    found = re.findall(r"([a-z_:][\w:]*)(?:\{([^}]*)\})?", bare)
    return [(name, matchers) for name, matchers in found if name not in FUNCTIONS]


def used(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric of an expression and the labels that are asked of it."""
    grouped = {
        label.strip()
        for labels in re.findall(r"\bby \(([^)]*)\)", expression)
        for label in labels.split(",")
    }
    for name, matchers in selectors(expression):
        yield name, (set(re.findall(r"(\w+)=", matchers)) | grouped) - SCRAPED


@pytest.fixture(scope="module")
def given(shared_house: House) -> dict[str, set[str]]:
    """Sample name -> labels, as a server gives them that was asked about a picture."""
    assert shared_house.client.post(CHAT, json=ASKED).status_code == 200
    assert shared_house.client.post(CHAT, json={**ASKED, "stream": True}).status_code == 200
    text = shared_house.client.get("/v1/metrics").text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_metric_and_label_is_given(given: dict[str, set[str]]) -> None:
    asked = [one for expression in expressions() for one in used(expression)]
    assert len({name for name, _ in asked}) > 20
    missing = {
        f"{name}{sorted(labels - given.get(name, set()))}"
        for name, labels in asked
        if name not in ADDED and not labels <= given.get(name, {"?"}) | SCRAPED
    }
    missing |= {name for name, _ in asked if name not in given.keys() | ADDED}
    assert missing == set()


def test_a_name_that_is_not_given_would_be_found(given: dict[str, set[str]]) -> None:
    (one,) = used('sum by (le) (rate(no_such_thing_bucket{model_name=~"$model"}[5m]))')
    assert one == ("no_such_thing_bucket", {"le", "model_name"})
    assert one[0] not in given


def test_variables_ask_for_what_is_there(given: dict[str, set[str]]) -> None:
    """And for what no other server has: "All" is every value of NeVA's, not every value."""
    variables = {v["name"]: v for v in board()["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    for name in ("job", "model", "instance"):
        metric, label = labels_of(variables[name]["query"]["query"])
        assert metric == "neva_info" and label in given[metric] | SCRAPED
        assert variables[name]["definition"] == variables[name]["query"]["query"]
        assert "allValue" not in variables[name], "All would be other people's servers too"
    everything = json.dumps(panels())
    asked = set(re.findall(r"\$\{?(\w+)", everything))
    assert asked == {"datasource", "job", "model", "instance", "__rate_interval"}


def labels_of(query: str) -> tuple[str, str]:
    """The metric and the label of a variable's query."""
    found = re.fullmatch(r'label_values\((\w+)(?:\{job=~"\$job"\})?, (\w+)\)', query)
    assert found is not None, query
    return found[1], found[2]


def test_only_nevas_servers_are_asked_about() -> None:
    """Half the names are NIM's too, and every process in a Prometheus has `process_*`."""
    for panel in panels():
        for target in panel["targets"]:
            for name, matchers in selectors(target["expr"]):
                asked = set(matchers.split(","))
                assert {'job=~"$job"', 'instance=~"$instance"'} <= asked, (panel["title"], name)
    assert len(alerts()) == 5
    for expression in alerts():
        for name, matchers in selectors(expression):
            assert 'job="neva"' in matchers.split(","), (name, expression)


def test_the_board_is_one_that_grafana_takes() -> None:
    """What Grafana's importer needs: ids, a grid without overlaps, one data source variable."""
    assert board()["uid"] and board()["title"] and board()["schemaVersion"] >= 36
    assert "id" not in board(), "an id would replace another board"
    ids = [panel["id"] for panel in board()["panels"]]
    assert len(ids) == len(set(ids))
    squares: set[tuple[int, int]] = set()
    for panel in board()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        mine = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
        )
        assert not mine & squares, panel["title"]
        squares |= mine
    for panel in panels():
        refs = [target["refId"] for target in panel["targets"]]
        assert refs and len(refs) == len(set(refs))
        assert all(t["datasource"]["uid"] == "${datasource}" for t in panel["targets"])


def test_nims_and_vllms_names(given: dict[str, set[str]]) -> None:
    """The names that NIM's and vLLM's own dashboards and agents scrape (facts/api.md, 4)."""
    nim = """gpu_cache_usage_perc num_requests_running num_requests_waiting num_request_max
        prompt_tokens_total generation_tokens_total time_to_first_token_seconds_bucket
        time_per_output_token_seconds_bucket e2e_request_latency_seconds_bucket
        request_prompt_tokens_bucket request_generation_tokens_bucket request_success_total
        request_finish_total"""
    vllm = """num_requests_running num_requests_waiting kv_cache_usage_perc prompt_tokens_total
        gpu_cache_usage_perc generation_tokens_total time_to_first_token_seconds_bucket
        inter_token_latency_seconds_bucket time_per_output_token_seconds_bucket
        e2e_request_latency_seconds_bucket request_queue_time_seconds_bucket
        request_prefill_time_seconds_bucket request_decode_time_seconds_bucket
        request_success_total prefix_cache_queries_total prefix_cache_hits_total
        mm_cache_queries_total mm_cache_hits_total"""
    names = {*nim.split(), *(f"vllm:{name}" for name in vllm.split())}
    assert names - given.keys() == set()
    assert all("model_name" in given[name] for name in names)
    assert names_of("neva_images") == ("neva_images",)


def test_what_is_counted(house_of: Callable[..., House]) -> None:
    house = house_of()
    for _ in range(2):
        assert house.client.post(CHAT, json=ASKED).status_code == 200
    assert house.client.post(CHAT, json={"messages": 1}).status_code == 422
    assert house.client.get("/nowhere/at/all").status_code == 404
    text = house.client.get("/metrics").text
    for line in (
        'prompt_tokens_total{model_name="echo"} 118.0',
        'vllm:prompt_tokens_total{model_name="echo"} 118.0',
        'request_success_total{finished_reason="stop",model_name="echo"} 2.0',
        'mm_cache_queries_total{model_name="echo"} 2.0',
        'vllm:mm_cache_hits_total{model_name="echo"} 1.0',
        'kv_cache_usage_perc{model_name="echo"} 0.25',
        'neva_engine_restarts{model_name="echo"} 0.0',
        'time_to_first_token_seconds_count{model_name="echo"} 2.0',
        'request_prefill_time_seconds_count{model_name="echo"} 2.0',
        "neva_images_total 2.0",
        "neva_image_decode_seconds_count 2.0",
        f'neva_http_responses_total{{route="{CHAT}",status="200"}} 2.0',
        f'neva_http_responses_total{{route="{CHAT}",status="422"}} 1.0',
        'neva_http_responses_total{route="unknown",status="404"} 1.0',
    ):
        assert f"\n{line}\n" in text, line
    assert "nowhere" not in text, "a path is not a label: anybody could make a million of them"
    assert not re.search(r"^(vllm:|request|num_|prompt_)\w*_created", text, re.M)


prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="prometheus is not installed",
)


@prometheus
def test_promtool_takes_the_alerts() -> None:
    with_files = subprocess.run(
        ["promtool", "check", "rules", str(GRAFANA / "alerts.yml")], capture_output=True, text=True
    )
    assert with_files.returncode == 0, with_files.stderr


@prometheus
@pytest.mark.parametrize("job", ["neva", "nim"])
def test_alerts_are_of_nevas_job_alone(job: str, tmp_path: Path) -> None:
    """All that goes wrong here raises each alert for NeVA's servers, and none for others'."""
    bad = {
        f'up{{job="{job}",instance="a"}}': "0x40",
        f'request_failure_total{{job="{job}",instance="a"}}': "0+1x40",
        f'neva_requests_refused_total{{job="{job}",instance="a"}}': "0+1x40",
        f'neva_http_responses_total{{job="{job}",instance="a",status="500"}}': "0+1x40",
    }
    for upto, values in (("10", "0x40"), ("30", "0+9x40"), ("+Inf", "0+9x40")):
        slow = f'time_to_first_token_seconds_bucket{{job="{job}",instance="a",le="{upto}"}}'
        bad[slow] = values
    names = re.findall(r"- alert: (\w+)", (GRAFANA / "alerts.yml").read_text())
    silent = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in bad.items()],
        "alert_rule_test": [{"eval_time": "30m", "alertname": n, "exp_alerts": []} for n in names],
    }
    file = tmp_path / "test.yml"  # JSON is YAML
    file.write_text(json.dumps({"rule_files": [str(GRAFANA / "alerts.yml")], "tests": [silent]}))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True)
    raised = set(re.findall(r"alertname: (\w+)", done.stdout + done.stderr))
    assert raised == (set(names) if job == "neva" else set()), done.stderr
    assert (done.returncode == 0) == (job == "nim")


@prometheus
def test_a_real_prometheus_evaluates_all_of_it(tmp_path: Path) -> None:
    """Beside another process of the same `instance`, as a scrape configuration may name a host."""
    with serving(EchoEngine(pause=0.002)) as live, scraping(live.port, tmp_path) as url:
        until = time.monotonic() + 8
        while time.monotonic() < until:
            WEB.post(live.url + CHAT, json=ASKED)
            time.sleep(0.1)
        assert len(query(url, "process_open_fds")) == 2
        values = chosen(url)
        empty = []
        for expression in expressions():
            said = query(url, expression, values)
            if not said and expression not in alerts():
                empty.append(expression)
            assert all(one["metric"].get("job", "neva") == "neva" for one in said), expression
        assert empty == []


def chosen(url: str) -> dict[str, str]:
    """What Grafana puts in place of the variables while they are at "All"."""
    values = {"__rate_interval": "6s"}
    for variable in board()["templating"]["list"][1:]:
        metric, label = labels_of(variable["query"]["query"])
        answer = httpx.get(f"{url}/api/v1/label/{label}/values", params={"match[]": metric}).json()
        found = "|".join(value.replace(".", r"\\.") for value in answer["data"])
        values[variable["name"]] = variable.get("allValue", f"({found})")
    return values


def query(url: str, expression: str, values: Mapping[str, str] = MappingProxyType({})) -> list[Any]:
    """What a Grafana panel would get now."""
    for name, value in values.items():
        expression = expression.replace(f"${name}", value)
    answer = httpx.get(f"{url}/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", (expression, answer)
    found: list[Any] = answer["data"]["result"]
    return found


class scraping:
    """A Prometheus that scrapes a port every second, and itself."""

    def __init__(self, port: int, folder: Path) -> None:
        config = folder / "prometheus.yml"
        self.url = f"http://127.0.0.1:{port + 1 if port < 65000 else port - 1}"
        own = self.url.removeprefix("http://")
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            f"rule_files: ['{GRAFANA / 'alerts.yml'}']\n"
            "scrape_configs:\n"
            "- {job_name: neva, metrics_path: /v1/metrics, "
            f"static_configs: [{{targets: ['127.0.0.1:{port}'], labels: {{instance: host}}}}]}}\n"
            "- {job_name: prometheus, "
            f"static_configs: [{{targets: ['{own}'], labels: {{instance: host}}}}]}}\n"
        )
        self.command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={own}",
        ]

    def __enter__(self) -> str:
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

        def scraped() -> bool:
            try:
                return bool(query(self.url, 'up{job="neva"} == 1'))
            except (httpx.TransportError, ValueError):  # it is not ready yet
                return False

        assert wait_until(scraped, 30)
        return self.url

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)
