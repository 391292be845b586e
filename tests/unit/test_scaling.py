"""What changes a server's number of pods."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import rollout
from rendering import computed, rendered

PROMETHEUS = "http://prometheus.example:9090"
MODELS = {
    "mlserver_enabled_profiles": ["mlserver"],
    "mlserver_models": {"a": {"registered_model": "a", "alias": "live"}},
}
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}


def server(role, **given):
    found, problems = computed(role, **given)
    assert problems == []
    return found[0]


def test_the_least_is_a_maximum():
    spec = server("vllm", vllm_autoscaling={"maxReplicas": 4})["autoscaling"]
    target = {"type": "AverageValue", "averageValue": "5"}
    assert spec == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm"},
        "minReplicas": 1,
        "maxReplicas": 4,
        "metrics": [{"type": "Pods", "pods": {"metric": {"name": "vllm:num_requests_waiting"}, "target": target}}],
    }


def test_numbers_from_the_command_line_are_numbers():
    spec = server("vllm", vllm_autoscaling={"minReplicas": "2", "maxReplicas": "4"})["autoscaling"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 4)


def test_each_kind_is_measured_by_its_own():
    (metric,) = server("triton", triton_autoscaling={"maxReplicas": 4, "averageValue": 20})["autoscaling"]["metrics"]
    assert metric["pods"]["metric"] == {"name": "nv_inference_pending_request_count"}
    assert metric["pods"]["target"]["averageValue"] == "20"
    assert server("mlserver", mlserver_autoscaling={"maxReplicas": 4}, **MODELS)["autoscaling"]["metrics"] == [CPU]
    given = {"maxReplicas": 4, "minReplicas": 2, "metrics": [CPU], "behavior": {"scaleUp": {}}}
    spec = server("vllm", vllm_autoscaling=given)["autoscaling"]
    assert {key: spec[key] for key in given} == given


def test_keda_asks_prometheus_for_the_server_alone():
    given = {"maxReplicaCount": 3, "serverAddress": PROMETHEUS, "threshold": 2, "cooldownPeriod": 600}
    spec = server("vllm", vllm_scaled_object=given)["scaled_object"]
    assert spec["triggers"] == [
        {
            "type": "prometheus",
            "metadata": {
                "serverAddress": PROMETHEUS,
                "query": 'sum(vllm:num_requests_waiting{namespace="ml-models", job="vllm-service"})',
                "threshold": "2",
            },
        }
    ]
    # KEDA's own default is 0, from which a metric of the pods never leads back.
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["cooldownPeriod"]) == (1, 3, 600)
    assert not {"serverAddress", "threshold"} & spec.keys()
    triggers = [{"type": "cron", "metadata": {"timezone": "UTC", "start": "0 8 * * *", "end": "0 18 * * *"}}]
    spec = server("vllm", vllm_scaled_object={"minReplicaCount": 0, "maxReplicaCount": 3, "triggers": triggers})[
        "scaled_object"
    ]
    assert (spec["minReplicaCount"], spec["triggers"]) == (0, triggers)
    (trigger,) = server("mlserver", mlserver_scaled_object={"maxReplicaCount": 4}, **MODELS)["scaled_object"][
        "triggers"
    ]
    assert (trigger["type"], trigger["metadata"]) == ("cpu", {"value": "80"})


@pytest.mark.parametrize(
    ("key", "given", "template"),
    [
        ("autoscaling", {"maxReplicas": 4}, "horizontalpodautoscaler.yaml.j2"),
        ("scaled_object", {"maxReplicaCount": 4, "serverAddress": PROMETHEUS}, "scaledobject.yaml.j2"),
    ],
)
def test_replicas_are_left_out_by_themselves(key, given, template):
    found = server("vllm", **{f"vllm_{key}": given, "vllm_replicas": 3})
    assert found["replicas"] is None
    assert {template, "poddisruptionbudget.yaml.j2"} <= set(found["templates"])
    assert found["topology_spread_constraints"]
    result = rendered(**{f"vllm_{key}": given, f"vllm_judge_{key}": given, "vllm_judge_variant": "judge"})
    assert result["problems"] == []
    items = [item for part in result["parts"] for item in part["objects"]]
    (deployment,) = (i for i in items if i["kind"] == "Deployment" and i["metadata"]["name"] == "vllm")
    assert "replicas" not in deployment["spec"]
    (application,) = (i for i in items if i["kind"] == "Application" and i["metadata"]["name"] == "vllm-inference")
    assert application["spec"]["ignoreDifferences"][0]["jsonPointers"] == ["/spec/replicas"]
    # A parked judge has nothing that would wake it.
    parked = computed(
        "vllm_judge", **{f"vllm_judge_{key}": given, "vllm_judge_variant": "judge", "vllm_judge_parked": True}
    )
    assert parked[0][0]["replicas"] == 0
    assert template not in parked[0][0]["templates"]


def test_a_server_that_is_scaled_to_zero_is_rolled_out():
    zero = {"metadata": {"generation": 2}, "spec": {"replicas": 0}, "status": {"observedGeneration": 2}}
    assert rollout.is_complete(zero)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"vllm_autoscaling": {"maxReplicas": 2}, "vllm_scaled_object": {"maxReplicaCount": 2, "triggers": [{}]}},
            "KEDA makes an autoscaler of its own: leave vllm_autoscaling out",
        ),
        ({"vllm_autoscaling": {"minReplicas": 2}}, "needs maxReplicas"),
        (
            {"vllm_autoscaling": {"minReplicas": 3, "maxReplicas": 2}},
            "vllm_autoscaling.minReplicas is 3: must not be above maxReplicas, 2",
        ),
        (
            {"vllm_autoscaling": {"maxReplicas": 2}, "vllm_monitoring_enabled": False},
            "without a ServiceMonitor (vllm_monitoring_enabled) nobody reads vllm:num_requests_waiting: needs metrics",
        ),
        (
            {"vllm_autoscaling": {"maxReplicas": 2, "averageValue": 3, "metrics": [CPU]}},
            "vllm_autoscaling.averageValue is 3: belongs to the number of waiting requests",
        ),
        ({"vllm_scaled_object": {"maxReplicaCount": 2}}, "vllm_scaled_object.serverAddress is None: must be the URL"),
        (
            {"vllm_scaled_object": {"minReplicaCount": 0, "maxReplicaCount": 2, "serverAddress": PROMETHEUS}},
            "a server without pods has no metric: needs triggers",
        ),
        (
            {"mlserver_autoscaling": {"maxReplicas": 2, "averageValue": 3}, **MODELS},
            "mlserver_autoscaling.averageValue",
        ),
        (
            {"vllm_cache": {"type": "claim", "size": "20Gi"}, "vllm_autoscaling": {"maxReplicas": 2}},
            "as many as an autoscaler wants",
        ),
    ],
)
def test_refusals(given, message):
    (line,) = rendered(**given)["problems"]
    assert message in line
