"""A real Prometheus that scrapes a server as its rendered ServiceMonitor says, and evaluates its rendered PrometheusRule."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import subprocess
import time
from pathlib import Path

import urllib3
import yaml
from services import ROOT, free_port, stop, wait_for

# The label that says which of a Service's ports a target is, and the others that prometheus-operator makes of what it discovers.
PORT = "__meta_kubernetes_endpointslice_port_name"
DISCOVERED = {"namespace": "namespace", "service_name": "service", "pod_name": "pod", "pod_container_name": "container"}


def program(name: str) -> Path:
    """Where Prometheus, or its promtool, is; built when it is asked for the first time, which takes minutes."""
    found = subprocess.run(
        [ROOT / "controlplane/cluster", "prometheus"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    return Path(found).with_name(name)


def published() -> set[str]:
    """The names of all samples that the servers, and what else is asked of a cluster, are known to have."""
    lists = [source["metrics"] for source in yaml.safe_load((ROOT / "tests/metrics.yml").read_text()).values()]
    lists.append(json.loads((ROOT / "tests/vllm/facts/0.14.1.json").read_text())["metrics"])
    ends = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("", "_count", "_sum")}
    return {f"{name}{end}" for found in lists for name, kind in found.items() for end in ends.get(kind, ("",))}


def shortened(groups: list[dict], window: int, pending: int) -> list[dict]:
    """Rules with windows of WINDOW seconds and a `for` of PENDING: what they ask, for a test that can't wait ten minutes for it."""
    groups = copy.deepcopy(groups)
    for rule in [rule for group in groups for rule in group["rules"]]:
        rule["for"] = f"{pending}s"
        rule["expr"] = re.sub(r"\[\d+[smh]\]", f"[{window}s]", rule["expr"])
    return groups


def scrape_config(monitor: dict, service: dict, address: str, seconds: int) -> dict:
    """What prometheus-operator makes of a ServiceMonitor without jobLabel, for a pod of the Service that listens at ADDRESS.

    Two things differ: the interval is SECONDS, and the targets stand here instead of being discovered; as EndpointSlices give them,
    one for each port of the Service.
    """
    (endpoint,) = monitor["spec"]["endpoints"]
    assert set(monitor["spec"]) == {"selector", "endpoints"}, "what else it says would have to be done here, too"
    assert set(endpoint) == {"port", "path", "interval"}
    found = {
        "__meta_kubernetes_namespace": service["metadata"]["namespace"],
        "__meta_kubernetes_service_name": service["metadata"]["name"],
        "__meta_kubernetes_pod_name": "pod",
        "__meta_kubernetes_pod_container_name": "container",
    }
    for name, value in service["metadata"]["labels"].items():
        found[f"__meta_kubernetes_service_label_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}"] = value
    keep = [
        {
            "action": "keep",
            "source_labels": [f"__meta_kubernetes_service_label_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}"],
            "regex": re.escape(value),
        }
        for name, value in monitor["spec"]["selector"]["matchLabels"].items()
    ]
    return {
        "job_name": f"serviceMonitor/{monitor['metadata']['namespace']}/{monitor['metadata']['name']}/0",
        "metrics_path": endpoint["path"],
        "scrape_interval": f"{seconds}s",
        "scrape_timeout": f"{seconds}s",
        "static_configs": [
            {"targets": [address], "labels": {**found, PORT: port["name"]}} for port in service["spec"]["ports"]
        ],
        "relabel_configs": [
            *keep,
            {"action": "keep", "source_labels": [PORT], "regex": endpoint["port"]},
            *[
                {"source_labels": [f"__meta_kubernetes_{name}"], "target_label": label}
                for name, label in DISCOVERED.items()
            ],
            {"source_labels": ["__meta_kubernetes_service_name"], "target_label": "job"},
            {"target_label": "endpoint", "replacement": endpoint["port"]},
        ],
    }


class Prometheus:
    """A running Prometheus.

    Attributes:
        url: its address.
    """

    def __init__(self, url: str):
        self.url = url
        self._http = urllib3.PoolManager()

    def _get(self, path: str, **fields: str) -> dict:
        answer = self._http.request("GET", f"{self.url}/api/v1/{path}", fields=fields).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[tuple[dict, float]]:
        """The instant vector that an expression gives: labels and value of each element. An invalid one is an error."""
        data = self._get("query", query=expression)
        assert data["resultType"] == "vector", data
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def metrics(self, job: str) -> set[str]:
        """The names of all metrics of a job."""
        return set(self._get("label/__name__/values", **{"match[]": f'{{job="{job}"}}'}))

    def alerts(self) -> dict[str, tuple[str, str]]:
        """The alerts that are not inactive: name to state (pending or firing) and summary."""
        found = self._get("alerts")["alerts"]
        return {one["labels"]["alertname"]: (one["state"], one["annotations"]["summary"]) for one in found}

    def unhealthy(self) -> list[dict]:
        """The rules that were not evaluated, or with an error."""
        groups = self._get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"] if rule["health"] != "ok"]

    def wait(self, what: str, true) -> None:
        """Wait until something is true; the time only ends a test that fails."""
        deadline = time.monotonic() + 300
        while not true():
            assert time.monotonic() < deadline, f"{what}: {self.alerts()}"
            time.sleep(0.5)

    def wait_for(self, alert: str) -> str:
        """Wait until an alert fires; its summary."""
        self.wait(f"{alert} does not fire", lambda: self.alerts().get(alert, ("",))[0] == "firing")
        return self.alerts()[alert][1]


@contextlib.contextmanager
def running(folder: Path, scrape: dict, groups: list[dict], seconds: int = 1):
    """Run Prometheus with a scrape configuration and groups of rules, evaluated every SECONDS; its data and log are in FOLDER."""
    config = {
        "global": {"evaluation_interval": f"{seconds}s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [scrape],
    }
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus"),
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address={address}",
    ]
    log = folder / "prometheus.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_for(f"http://{address}/-/ready", process, log)
        yield Prometheus(f"http://{address}")
    finally:
        stop(process)
