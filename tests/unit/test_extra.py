"""The objects that a user brings: what is taken, in every way of delivery, and what is refused."""

import re

import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery
from ansible_collections.modelyard.core.plugins.plugin_utils.files import layout, tree
from rendering import ROOT, rendered

PROJECT = {"argocd_apps_project": "models", "argocd_apps_project_create": True}


def config_map(name="mine", **more):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **more}, "data": {"key": "value"}}


def cron_job(name="night", env=()):
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "registry.example/a:1", "env": list(env)}]}
    spec = {"schedule": "0 4 * * *", "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec}


def found(*roles, **variables):
    result = rendered(roles, **variables)
    assert result["problems"] == []
    return result


def part(result, role, name):
    (one,) = (one for one in result["parts"] if (one["role"], one["name"]) == (role, name))
    return one


def named(items, kind):
    return [item["metadata"]["name"] for item in items if item["kind"] == kind]


def applied(result):
    return [item for one in result["parts"] if one["enabled"] for item in one["objects"]]


def test_the_platforms_are_a_part_of_their_own():
    one = part(found(platform_extra_objects=[config_map()], platform_extra_labels={"team": "ml"}), "platform", "extra")
    (item,) = one["objects"]
    assert item["data"] == {"key": "value"}
    assert item["metadata"]["namespace"] == "ml-models"
    assert item["metadata"]["labels"] == {
        "team": "ml",
        "app.kubernetes.io/managed-by": "modelyard",
        "modelyard/component": "platform",
        "modelyard/cluster": "here",
    }
    assert not [one for one in found()["parts"] if one["role"] == "platform"]


def test_a_servers_come_and_go_with_it_and_are_no_part_of_its_patch():
    twin = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "twin"}, "spec": {"replicas": 1}}
    given = {"vllm_extra_objects": [twin], "vllm_patch": {"spec": {"minReadySeconds": 7}}}
    items = part(found(**given), "vllm", "vllm")["objects"]
    specs = {item["metadata"]["name"]: item["spec"] for item in items if item["kind"] == "Deployment"}
    assert (specs["vllm"]["minReadySeconds"], specs["twin"]) == (7, {"replicas": 1})
    assert named(items, "Deployment") == ["vllm", "twin"]
    assert "twin" not in named(applied(found(**given, vllm_enabled=False)), "Deployment")


def test_a_profile_has_its_own():
    profiles = {"gpu": {"extra_objects": [config_map()]}}
    result = found(triton_profiles=profiles)
    assert named(part(result, "triton", "triton-inference-gpu")["objects"], "ConfigMap") == ["mine"]
    assert named(part(result, "triton", "triton-inference")["objects"], "ConfigMap") == []


def test_a_run_prunes_their_kinds_but_no_claims():
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": spec}
    prune = delivery.options(found(platform_extra_objects=[cron_job(), claim, config_map()]))["prune"]
    assert prune == [
        *({**kind, "namespace": "ml-models"} for kind in delivery.KINDS),
        {"api_version": "batch/v1", "kind": "CronJob", "namespace": "ml-models"},
    ]


def test_argocd_gets_an_application_for_the_platforms_and_a_project_that_allows_the_kinds():
    given = {"platform_extra_objects": [cron_job()], "vllm_autoscaling": {"maxReplicas": 2}, **PROJECT}
    for roles in ((), ("argocd_apps",)):
        items = part(found(*roles, **given), "argocd_apps", "applications")["objects"]
        (application,) = (item for item in items if item["metadata"]["name"] == "ml-models-extra")
        assert application["spec"]["source"]["path"] == "infra/k8s/extra"
        (project,) = (item for item in items if item["kind"] == "AppProject")
        allowed = project["spec"]["namespaceResourceWhitelist"]
        assert [item for item in allowed if item not in _allowed_anyway()] == [
            {"group": "autoscaling", "kind": "HorizontalPodAutoscaler"},
            {"group": "batch", "kind": "CronJob"},
        ]
    items = part(found(**PROJECT), "argocd_apps", "applications")["objects"]
    assert "ml-models-extra" not in named(items, "Application")


def _allowed_anyway():
    items = part(found("argocd_apps", **PROJECT), "argocd_apps", "applications")["objects"]
    return next(item for item in items if item["kind"] == "AppProject")["spec"]["namespaceResourceWhitelist"]


def test_a_list_of_clusters_has_those_that_have_some():
    hosts = {
        "one": {"platform_extra_objects": [config_map()], "argocd_apps_destination_name": "one"},
        "two": {"argocd_apps_destination_name": "two"},
    }
    generator = {"argocd_apps_generator": "list", "argocd_apps_hosts": ["one", "two"]}
    items = part(found("argocd_apps", others=hosts, **generator), "argocd_apps", "applications")["objects"]
    (sets,) = (item for item in items if item["metadata"]["name"] == "ml-models-extra")
    (element,) = sets["spec"]["generators"][0]["list"]["elements"]
    assert element["cluster"] == "one"


def test_the_tree_has_a_folder_for_them_and_writes_a_server_with_some_in_full():
    # Its name has the suffix of the overlay: kustomize would rename what it names, too.
    profiles = {"gpu": {"extra_objects": [config_map("mine-gpu")], "ingress": {"hosts": ["a.example.com"]}}}
    result = found(platform_extra_objects=[cron_job()], triton_profiles=profiles, off=True)
    files = tree.compose(layout.folders(result), "here", "a test")
    assert "k8s/extra/cronjob-night.yaml" in files
    assert "- extra\n" in files["k8s/kustomization.yaml"]
    gpu = {path.rpartition("/")[2] for path in files if path.startswith("k8s/triton/overlays/gpu/")}
    assert {
        "configmap-mine-gpu.yaml",
        "deployment-triton-inference-gpu.yaml",
        "ingress-triton-inference-gpu.yaml",
    } <= gpu


BAD = {
    "no version": ({"kind": "ConfigMap", "metadata": {"name": "a"}}, "0.apiVersion is None: must be a text"),
    "no kind": ({"apiVersion": "v1", "metadata": {"name": "a"}}, "0.kind is None: must be a text"),
    "no name": (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a-"}},
        "0.metadata.name is None: must be the object's name",
    ),
    "no metadata": ({"apiVersion": "v1", "kind": "ConfigMap"}, "0.metadata.name is None: must be the object's name"),
    "secret": (
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": {"k": "hush"}},
        "0.kind is 'Secret': a Secret's values would be in the inventory",
    ),
    "list": ({"apiVersion": "v1", "kind": "List", "items": []}, "0.kind is 'List': is a list"),
    "typed list": ({"apiVersion": "v1", "kind": "ConfigMapList", "items": []}, "is a list"),
    "cluster": (
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "a"}},
        "0.kind is 'ClusterRole': belongs to no namespace",
    ),
    "namespace": (
        config_map(namespace="other"),
        "0.metadata.namespace is 'other': must be ml-models (platform_namespace)",
    ),
    "label": (
        config_map(labels={"modelyard/cluster": "x"}),
        "0.metadata.labels.modelyard/cluster is 'x': is set by every run",
    ),
    "annotation": (config_map(annotations={"a": 1}), "0.metadata.annotations.a is 1: must be a text"),
    "application": (
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": "a"}},
        "come from argocd_apps_extra",
    ),
    "endpoints": ({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "a"}}, "use an EndpointSlice"),
    "lease": (
        {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "modelyard"}},
        "a Lease belongs to the program",
    ),
    "environment": (
        cron_job(env=[{"name": "DB_PASSWORD", "value": "hush"}]),
        "containers.0.env.0.value is (hidden): must come from a Secret",
    ),
    "data": (
        {**config_map(), "data": {"API_KEY": "hush"}},
        "0.data.API_KEY is (hidden): must come from a Secret",
    ),
}


@pytest.mark.parametrize("variable", ["platform_extra_objects", "vllm_extra_objects"])
@pytest.mark.parametrize("case", BAD)
def test_what_can_not_be_one_is_refused(case, variable):
    item, message = BAD[case]
    (line,) = rendered(**{variable: [item, config_map("right")]})["problems"]
    assert line.startswith(variable)
    assert message in line
    assert "hush" not in line


@pytest.mark.parametrize(
    ("variables", "messages"),
    [
        (
            {"vllm_extra_objects": [{**config_map("vllm-startup")}]},
            ["vllm_extra_objects.0.metadata.name is 'vllm-startup': ConfigMap of this name comes from vllm_profiles.vllm (vllm) too"],
        ),
        (
            {"platform_extra_objects": [config_map()], "vllm_extra_objects": [config_map()]},
            [
                "platform_extra_objects.0.metadata.name is 'mine': ConfigMap of this name comes from vllm_extra_objects too",
                "vllm_extra_objects.0.metadata.name is 'mine': ConfigMap of this name comes from platform_extra_objects too",
            ],
        ),
        (
            {"platform_extra_objects": [config_map(), config_map()]},
            ["platform_extra_objects.0.metadata.name is 'mine': ConfigMap of this name comes from platform_extra_objects too",
             "platform_extra_objects.1.metadata.name is 'mine': ConfigMap of this name comes from platform_extra_objects too"],
        ),
        (
            {"triton_extra_objects": [config_map()]},
            ["triton_extra_objects.0.metadata.name is 'mine': every server that is on would have this ConfigMap"],
        ),
    ],
    ids=["ours", "two variables", "twice", "two servers"],
)  # fmt: skip
def test_two_objects_of_one_name_are_refused(variables, messages):
    lines = rendered(**variables)["problems"]
    assert [message in line for message, line in zip(messages, lines, strict=True)] == [True] * len(messages), lines


def test_a_number_may_be_as_large_as_the_api_takes():
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"bytes": 2**40}}
    assert part(found(platform_extra_objects=[widget]), "platform", "extra")["objects"][0]["spec"] == {"bytes": 2**40}


def test_another_group_is_another_kind():
    gateways = [
        {"apiVersion": f"{group}/v1", "kind": "Gateway", "metadata": {"name": "models"}, "spec": {}}
        for group in ("gateway.networking.k8s.io", "networking.istio.io")
    ]
    assert len(part(found(platform_extra_objects=gateways), "platform", "extra")["objects"]) == 2


def _examples():
    text = (ROOT / "docs/own-objects.md").read_text(encoding="utf-8")
    return [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


@pytest.mark.parametrize("example", _examples(), ids=lambda example: next(iter(example)))
def test_the_documents_examples_render(example):
    base = {"vllm_judge_variant": "judge"}
    without = applied(found(**base))
    result = found(**base | example)
    assert [item for item in applied(result) if item not in without]
    assert result["warnings"] == found(**base)["warnings"]
