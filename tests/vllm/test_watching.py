"""The rendered alerts, by a real Prometheus that watches a real server as the rendered ServiceMonitor says: first silent, then provoked.

The tests are in order: the last two break the server.
"""

import contextlib
import os
import re
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import dashboards
import prometheus
import promql_parser
import pytest
import urllib3
from test_rendering import selectors
from vllm import facts

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = {
    "vllm_adapter_slots": {},
    # A KV cache of six blocks, one of them vLLM's own; four requests of LENGTH want twelve.
    "vllm_max_model_len": 512,
    "vllm_extra_args": {"max-num-seqs": 4, "num-gpu-blocks-override": 6, "block-size": 128},
    # Else it ends some seconds after its engine, before anybody sees what it answered.
    "vllm_env": {"VLLM_KEEP_ALIVE_ON_ENGINE_DEATH": "1"},
    "vllm_alert_thresholds": {
        "waiting": 3,
        "kv_cache_usage": 0.3,
        "preemptions_per_second": 0.01,
        "aborted_share": 0.1,
        "errors_per_second": 0.1,
        # How quick a CPU is beside others' work is no question here.
        "first_token_seconds": 600,
        "latency_seconds": 600,
    },
}
LENGTH = 300
# Seconds instead of minutes, in the rules that Prometheus evaluates here; the rendered ones are asked as they are beside.
SCRAPE, WINDOW, PENDING = 2, 60, 5


@pytest.fixture(scope="module")
def watched(start, tmp_path_factory):
    """A server (`server`), Prometheus (`prometheus`), and the rendered rules (`rules`: alert to expression)."""
    with start(**VARIABLES) as server:
        objects = {item["kind"]: item for item in server.objects}
        groups = objects["PrometheusRule"]["spec"]["groups"]
        scrape = prometheus.scrape_config(
            objects["ServiceMonitor"], objects["Service"], server.url.removeprefix("http://"), SCRAPE
        )
        folder = tmp_path_factory.mktemp("prometheus")
        with prometheus.running(folder, scrape, prometheus.shortened(groups, WINDOW, PENDING)) as running:
            rules = {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}
            yield SimpleNamespace(server=server, prometheus=running, rules=rules, name="vllm", job="vllm-service")
            assert running.unhealthy() == []


@contextlib.contextmanager
def load(server, clients: int, hang_up: bool = False):
    """Clients that ask one long question after the other; with `hang_up` each leaves at the first word."""
    done = threading.Event()

    def client() -> None:
        http = urllib3.PoolManager(retries=False)
        body = {"model": server.model, "prompt": "a", "max_tokens": LENGTH, "ignore_eos": True, "stream": hang_up}
        while not done.is_set():
            answer = http.request("POST", f"{server.url}/v1/completions", json=body, preload_content=False)
            if hang_up:
                next(answer.stream(1))
                answer.close()
            else:
                answer.read()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def left(expression: str) -> str:
    """What a rule compares with its threshold."""
    compared, _, _ = re.split(r" (>|==) (?=[0-9.]+$)", expression)
    return compared


# Those that have something to compare as soon as a request was answered.
COMPARED = (
    *("VLLMSlowFirstToken", "VLLMSlowRequests", "VLLMRequestsWaiting", "VLLMCacheFull"),
    *("VLLMPreemptions", "VLLMRequestsAborted", "VLLMRequestsFailed"),
)


def values(watched, alert: str) -> list[float]:
    """What the rule, as it is rendered, compares now."""
    return [value for _, value in watched.prometheus.query(left(watched.rules[alert]))]


def test_a_quiet_server_raises_no_alert(watched):
    status, body = facts.chat(watched.server.url, watched.server.model)
    assert status == 200, body
    watched.prometheus.wait(
        "the rules have something to compare", lambda: values(watched, "VLLMPreemptions") and scraped(watched)
    )
    assert watched.prometheus.alerts() == {}
    assert watched.prometheus.unhealthy() == []
    for alert, expression in watched.rules.items():
        # Valid, and not true.
        assert watched.prometheus.query(expression) == [], alert
    for alert in COMPARED:
        assert len(values(watched, alert)) == 1, alert


def scraped(watched) -> set[str]:
    """The metrics that Prometheus has of this job, once the request above is among them."""
    found = watched.prometheus.metrics(watched.job)
    return found if "http_requests_total" in found else set()


def test_every_metric_that_we_name_is_in_the_scrape(watched):
    watched.prometheus.wait("the request is counted", lambda: scraped(watched))
    asked = [one for rule in watched.rules.values() for one in selectors(promql_parser.parse(rule))]
    # What kube-state-metrics has is not this server's.
    assert {one.name for one in asked if not one.name.startswith("kube_")} <= scraped(watched)
    # docs/vllm-versions.md is about another version, too.
    documents = {*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")} - {ROOT / "docs/vllm-versions.md"}
    named = {name for file in documents for name in re.findall(r"\bvllm:[a-z_]+[a-z]\b", file.read_text())}
    assert named - scraped(watched) == set()


def test_every_panel_of_every_dashboard_is_answered(watched):
    """Of other kinds, and of what a cluster has beside, there is nothing here; a query that is no query is an error."""

    def empty() -> set[str]:
        answers = {where: watched.prometheus.query(query) for where, query in dashboards.queries()}
        assert len(answers) > 60
        return {where for where, found in answers.items() if where.startswith("vllm: ") and not found}

    # Of what begins to be counted, two scrapes make a rate.
    watched.prometheus.wait("vLLM's panels show it", lambda: empty() == set())
    for query in dashboards.variables():
        assert watched.prometheus.query(query) or "vllm:" not in query


def test_requests_for_an_adapter_that_is_missing(watched):
    def fires() -> bool:
        assert facts.chat(watched.server.url, "nosuch")[0] == 404
        return watched.prometheus.alerts().get("VLLMRequestsRefused", ("",))[0] == "firing"

    watched.prometheus.wait("VLLMRequestsRefused does not fire", fires)
    assert watched.prometheus.query(watched.rules["VLLMRequestsRefused"])


def test_the_drain_finds_its_counts_in_the_scrape(watched):
    _, _, _, _, *metrics = watched.server.pod.main["lifecycle"]["preStop"]["exec"]["command"]
    assert [watched.server.metric(name) for name in metrics] == [0, 0]


def test_more_requests_than_it_can_take(watched):
    with load(watched.server, clients=12):
        for alert in ("VLLMRequestsWaiting", "VLLMCacheFull", "VLLMPreemptions"):
            assert watched.prometheus.wait_for(alert).startswith(f"{watched.name}: ")
            assert values(watched, alert)[0] > 0
    # All have been answered: nobody gave up, and a burst of load must not look as if.
    watched.prometheus.wait("the last one is counted", lambda: values(watched, "VLLMRequestsWaiting") == [0])
    watched.prometheus.wait("nothing runs", lambda: abs(values(watched, "VLLMRequestsAborted")[0]) < 0.01)
    assert watched.prometheus.query(watched.rules["VLLMRequestsAborted"]) == []


def test_clients_that_give_up(watched):
    with load(watched.server, clients=2, hang_up=True):
        assert watched.prometheus.wait_for("VLLMRequestsAborted").startswith(f"{watched.name}: clients give up")
        assert watched.prometheus.query(watched.rules["VLLMRequestsAborted"])
    assert "VLLMDown" not in watched.prometheus.alerts()


def test_a_dead_engine(watched):
    (engine,) = [number for number, name in watched.server.pod.processes().items() if "Engine" in name]
    os.kill(engine, signal.SIGKILL)
    facts.until("it says so", lambda: facts.ask(f"{watched.server.url}/health")[0] == 503)
    known = facts.known("0.14.1")["behaviours"]
    assert facts.dead_engine(watched.server.url, watched.server.model).items() <= known.items()

    def fires() -> bool:
        facts.chat(watched.server.url, watched.server.model)
        return watched.prometheus.alerts().get("VLLMServerErrors", ("",))[0] == "firing"

    watched.prometheus.wait("VLLMServerErrors does not fire", fires)
    assert watched.prometheus.alerts()["VLLMServerErrors"][1] == f"{watched.name} answers with HTTP 5xx"
    # Of five minutes some seconds.
    assert values(watched, "VLLMServerErrors")[0] > 0


def test_a_server_that_is_gone(watched):
    watched.server.pod.kill()
    assert watched.prometheus.wait_for("VLLMDown") == f"{watched.name} does not answer Prometheus"
    assert watched.prometheus.query(watched.rules["VLLMDown"])
