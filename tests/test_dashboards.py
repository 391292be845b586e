"""The dashboards: that they are current, what is in them, and by promtool that each query brings something from series as servers have them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import dashboards
import prometheus
import promql_parser
import pytest
import yaml
from rendering import ROOT, rendered
from test_rendering import selectors

# Labels of each source's series; where they are several, in turn.
PLACE = {"cluster": ["one", ""], "namespace": ["ml-models"]}
TARGET = {**PLACE, "instance": ["10.0.0.1:8000"]}
LABELS = {
    "vllm": {**TARGET, "job": ["vllm-service"], "pod": ["vllm-1"], "engine": ["0"], "finished_reason": ["stop"]},
    "http": {
        **TARGET,
        "job": ["vllm-service"],
        "pod": ["vllm-1"],
        "handler": ["/v1/completions"],
        "status": ["2xx", "5xx"],
    },
    "nv": {**TARGET, "job": ["triton-inference"], "pod": ["triton-1"], "model": ["resnet"], "reason": ["BACKEND", ""]},
    "model": {**TARGET, "job": ["mlserver"], "pod": ["mlserver-1"], "model": ["iris"]},
    "rest": {**TARGET, "job": ["mlserver"], "pod": ["mlserver-1"], "status_code": ["200"]},
    "grpc": {**TARGET, "job": ["mlserver"], "pod": ["mlserver-1"], "grpc_code": ["OK"]},
    "up": {**TARGET, "job": ["vllm-service", "triton-inference", "mlserver"]},
    "ALERTS": {**PLACE, "alertname": ["VLLMDown", "KubePodCrashLooping"], "alertstate": ["firing", "pending"]},
    "kube": {**PLACE, "pod": ["vllm-1", "judge-1"], "deployment": ["vllm"], "phase": ["Running"]},
}
LABELS["kube"] |= {"resource": ["nvidia_com_gpu", "cpu"], "unit": ["integer"]}


def series() -> list[dict]:
    """A series for each published metric and set of labels; the judge's pod has no request."""
    found = [
        {"series": 'vllm:request_success_total{cluster="one", namespace="ml-models", pod="judge-1"}', "values": "7x90"}
    ]
    for name in sorted(prometheus.published()):
        labels = dict(LABELS.get(name.replace(":", "_").split("_")[0], {}))
        if name.endswith("_bucket"):
            labels["le"] = ["1", "+Inf"]
        ready = name == "kube_deployment_status_replicas_ready"
        gauge = name.startswith(("kube", "up", "ALERTS")) or name.endswith(("running", "waiting", "perc", "bytes"))
        for values in itertools.product(*labels.values()):
            inside = ", ".join(f"{key}={json.dumps(value)}" for key, value in zip(labels, values, strict=True) if value)
            found.append(
                {"series": f"{name}{{{inside}}}", "values": "0+0x90" if ready else "1+0x90" if gauge else "0+60x90"}
            )
    return found


def test_they_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "tools/dashboards.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "the dashboards are up to date\n"), "run: make dashboards"


def test_there_is_one_for_each_kind_and_one_for_all() -> None:
    assert set(dashboards.FILES) == {"vllm", "triton", "mlserver", "platform"}
    assert len({dashboards.board(role)["uid"] for role in dashboards.FILES}) == 4


@pytest.mark.parametrize("role", dashboards.FILES)
def test_panels_have_a_place_of_their_own(role: str) -> None:
    taken = set()
    for panel in dashboards.board(role)["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboards.board(role)["panels"]]
    assert len(set(ids)) == len(ids)


def test_they_ask_for_metrics_that_exist() -> None:
    for where, query in [*dashboards.queries(), *(("variable", query) for query in dashboards.variables())]:
        named = {one.name for one in selectors(promql_parser.parse(query)) if one.name}
        assert named - prometheus.published() == set(), where


def test_every_query_brings_something(tmp_path) -> None:
    asked = [
        {"expr": f"count({query}) > bool 0", "eval_time": "80m", "exp_samples": [{"labels": "{}", "value": 1}]}
        for query in [*(query for _, query in dashboards.queries()), *dashboards.variables()]
    ]
    expected = {
        # One GPU of vLLM's and of the judge's, on a cluster with a name and on one without.
        "fleet: GPUs": ("sum", "platform: GPUs in use, A", 4),
        "fleet: idle": ("sum", "platform: Idle per hour, A", 1),
        "fleet: alerts": ("sum", "platform: Alerts that fire, A", 2),
    }
    first = dict(reversed(list(dashboards.queries())))
    asked += [
        {"expr": f"{how}({first[where]})", "eval_time": "80m", "exp_samples": [{"labels": "{}", "value": value}]}
        for how, where, value in expected.values()
    ]
    tests = {"rule_files": [], "tests": [{"interval": "1m", "input_series": series(), "promql_expr_test": asked}]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    command = [prometheus.program("promtool"), "test", "rules", "tests.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --- Objects ---------------------------------------------------------------------------------------


def config_maps(**variables) -> dict[str, dict]:
    result = rendered(**variables)
    assert result["problems"] == []
    objects = [item for part in result["parts"] if part["role"] == "platform" for item in part["objects"]]
    return {item["metadata"]["name"]: item for item in objects}


def test_there_are_none_unless_asked_for() -> None:
    """What stands on a cluster by default is the contract's, and Grafana is not ours."""
    assert config_maps() == {}


def test_the_sidecar_finds_them() -> None:
    found = config_maps(platform_dashboards_enabled=True)
    assert sorted(found) == [f"modelyard-dashboard-{name}" for name in ("fleet", "triton", "vllm")]
    for name, item in found.items():
        metadata = item["metadata"]
        assert (item["kind"], metadata["namespace"]) == ("ConfigMap", "ml-models")
        assert metadata["labels"]["grafana_dashboard"] == "1"
        assert metadata["labels"]["modelyard/component"] == "platform"
        assert metadata["annotations"] == {"grafana_folder": "Model servers"}
        ((key, text),) = item["data"].items()
        assert f"modelyard-dashboard-{key}" == f"{name}.json"
        assert json.loads(text)["title"]
        # kubectl apply -k, and Argo CD without server-side apply, keep the whole in an annotation, which has 256 KiB.
        assert len(json.dumps(item)) < 200 * 1024


def test_labels_and_folder_are_the_inventorys() -> None:
    given = {"dashboards_labels": {"dashboards": "yes"}, "dashboards_annotations": {}, "dashboards_enabled": "true"}
    found = config_maps(**{f"platform_{key}": value for key, value in given.items()})
    metadata = found["modelyard-dashboard-vllm"]["metadata"]
    assert metadata["labels"]["dashboards"] == "yes"
    assert "grafana_dashboard" not in metadata["labels"]
    assert "annotations" not in metadata


def test_a_kind_without_a_server_has_none_and_the_judges_is_vllms() -> None:
    only = {"vllm_enabled": False, "triton_enabled_profiles": [], "platform_dashboards_enabled": True}
    assert list(config_maps(**only, vllm_judge_variant="judge")) == [
        "modelyard-dashboard-vllm",
        "modelyard-dashboard-fleet",
    ]
    models = {"mlserver_models": {"iris": {"registered_model": "iris", "alias": "live"}}}
    assert list(config_maps(**only, mlserver_enabled_profiles=["mlserver"], **models)) == [
        "modelyard-dashboard-mlserver",
        "modelyard-dashboard-fleet",
    ]


def test_argo_cd_delivers_them_with_what_else_belongs_to_no_server() -> None:
    result = rendered(
        platform_delivery="gitops",
        platform_dashboards_enabled=True,
        argocd_apps_project_create=True,
        argocd_apps_project="models",
    )
    assert result["problems"] == []
    applications = {
        item["metadata"]["name"]: item
        for part in result["parts"]
        for item in part["objects"]
        if item["kind"] == "Application"
    }
    assert applications["ml-models-extra"]["spec"]["source"]["path"] == "infra/k8s/extra"
    (part,) = [part for part in result["parts"] if part["role"] == "platform"]
    assert part["folder"] == "extra"
