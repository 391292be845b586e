"""The committed tree on a cluster: `kubectl apply -k` and a direct deploy make the same objects, and neither undoes the other's."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
INFRA = ROOT / "infra"
NAMESPACE = "ml-models"
TRACES = ["--server-side", "--field-manager=modelyard"]
WANTED = ["triton/overlays/cpu", "triton/overlays/gpu", "vllm/base", "vllm/judge", "shared"]


def said(done) -> str:
    return " ".join((done.stdout + done.stderr).split())


# The contract's inventory, one part after the other turned on; each on top of the one before.
DEPLOYS = {
    "judge": ({}, WANTED),
    "judge-large": ({"vllm_judge_variant": "judge-large"}, ["vllm/judge-large"]),
    # Every node has a taint, so nothing without a toleration gets one.
    "base": (
        {
            "vllm_judge_variant": "judge-large",
            "triton_enabled_profiles": ["base"],
            "triton_profiles": {"base": {}},
            "apply_wait": False,
        },
        ["triton/base"],
    ),
}


def live(cluster) -> dict[str, dict]:
    """The project's objects without what the API server and controllers write."""
    found = {}
    for key, _, item in cluster.objects():
        metadata = item["metadata"]
        ours = metadata.get("labels", {}).get("app.kubernetes.io/managed-by") == "modelyard"
        ours = ours and metadata["labels"].get("modelyard/component") != "release"
        if not ours or key.split("/")[1] != NAMESPACE or "ownerReferences" in metadata or key.startswith("Endpoints/"):
            continue
        for name in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"):
            metadata.pop(name, None)
        for name in ("deployment.kubernetes.io/revision", "kubectl.kubernetes.io/last-applied-configuration"):
            metadata.get("annotations", {}).pop(name, None)
        if not metadata.get("annotations"):
            metadata.pop("annotations", None)
        for name in ("clusterIP", "clusterIPs"):
            item.get("spec", {}).pop(name, None)
        item.pop("status", None)
        if not key.startswith("Lease/"):
            found[key] = item
    return found


def pods(cluster) -> set[str]:
    return {item["metadata"]["uid"] for item in cluster.get("pods", "-n", NAMESPACE)["items"]}


@pytest.fixture(scope="module")
def deploy(cluster):
    def deploy_(*args, **variables):
        direct = {"platform_connection": {"kubeconfig": str(cluster.kubeconfig)}, "platform_api_server": cluster.url}
        direct["platform_accepted_placeholders"] = ["123456789012"]
        extra = json.dumps(direct | {"platform_delivery": "direct"} | variables)
        return cluster.playbook("site", "-e", extra, *args, inventory="inventories/platform")

    return deploy_


@pytest.fixture(scope="module")
def direct(cluster, deploy) -> dict[str, tuple[dict, dict[str, str]]]:
    """By deploy: what the cluster holds after it, and what kubectl diff says of each folder then."""
    cluster.reset()
    found = {}
    for name, (variables, folders) in DEPLOYS.items():
        deploy(**variables)
        differences = {}
        for folder in folders + (["."] if name == "judge" else []):
            for options in ([], TRACES):
                done = cluster.kubectl("diff", *options, "-k", INFRA / "k8s" / folder, check=False)
                differences[f"{folder} {' '.join(options)}"] = f"{done.returncode} {done.stdout}{done.stderr}"
        found[name] = (live(cluster), differences)
    return found


@pytest.fixture(scope="module")
def applied(cluster, deploy, direct) -> dict[str, tuple[dict, str]]:
    """By deploy: what the cluster holds when its folders are applied instead, and what a dry run of site.yml says then."""
    cluster.reset()
    cluster.kubectl("create", "namespace", NAMESPACE)
    found = {}
    for name, (variables, folders) in DEPLOYS.items():
        if name == "base":
            cluster.kubectl("delete", "-k", INFRA / "k8s/triton/overlays/gpu")
        for folder in folders:
            cluster.kubectl("apply", *TRACES, "-k", INFRA / "k8s" / folder)
        found[name] = (live(cluster), said(deploy("--check", **variables)))
    return found


@pytest.mark.parametrize("name", DEPLOYS)
def test_after_a_direct_deploy_kubectl_finds_no_difference(direct, name):
    _, differences = direct[name]
    assert {folder: text for folder, text in differences.items() if text != "0 "} == {}


@pytest.mark.parametrize("name", DEPLOYS)
def test_kubectl_makes_the_same_objects(direct, applied, name):
    deployed, _ = direct[name]
    by_kubectl, _ = applied[name]
    assert by_kubectl.keys() == deployed.keys()
    assert {key: by_kubectl[key] for key in deployed if by_kubectl[key] != deployed[key]} == {}
    assert any(key.startswith("Deployment/") for key in deployed)


@pytest.mark.parametrize("name", DEPLOYS)
def test_after_kubectl_a_direct_deploy_has_nothing_to_change(applied, name):
    _, text = applied[name]
    assert "nothing to change" in text
    assert "changed=0" in text


def test_what_kubectl_applied_in_its_own_name_is_adopted_and_no_pod_restarts(cluster, clean_platform, deploy, direct):
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("apply", "-k", INFRA / "k8s")
    names = ["triton-inference", "triton-inference-gpu", "vllm", "judge-vllm"]
    cluster.kubectl(
        "-n", NAMESPACE, "wait", "--for=condition=Available", "--timeout=120s", *(f"deploy/{n}" for n in names)
    )
    before = pods(cluster)
    assert before
    assert "adopting it from kubectl-client-side-apply" in said(deploy())
    assert pods(cluster) == before
    assert live(cluster) == direct["judge"][0]
