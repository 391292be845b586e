"""A cluster that is delivered by GitOps: the Applications are applied and nothing else, and never both for one object."""

import json

import pytest

NAMESPACE = "ml-models"
PATHS = {
    "triton-inference-cpu": "infra/k8s/triton/overlays/cpu",
    "triton-inference-gpu": "infra/k8s/triton/overlays/gpu",
    "vllm-inference": "infra/k8s/vllm/base",
    "vllm-inference-judge": "infra/k8s/vllm/judge",
    "ml-models-shared": "infra/k8s/shared",
}
TRACKING = "argocd.argoproj.io/tracking-id"
# What a run itself leaves: its lock, and what controllers put into a new namespace.
BESIDE = ("Lease/", "ConfigMap/ml-models/kube-root-ca.crt", "ServiceAccount/ml-models/default")


@pytest.fixture
def deliver(cluster, clean_platform):
    """Run site.yml on the local inventory; returns the finished process, with its text on one line."""

    def deliver_(how, check=True, args=(), **variables):
        more = json.dumps({"platform_delivery": how, **variables})
        done = cluster.playbook("site", "-e", more, *args, check=check)
        done.text = " ".join((done.stdout + done.stderr).split())
        return done

    return deliver_


def applications(cluster):
    return {item["metadata"]["name"]: item for item in cluster.get("applications", "-n", "argocd")["items"]}


def versions(cluster, namespace):
    """Resource versions of what stands in a namespace."""
    return {
        key: version
        for key, version in cluster.resource_versions().items()
        if key.split("/")[1] == namespace and not key.startswith(BESIDE)
    }


def test_only_the_applications_are_applied(deliver, cluster):
    before = cluster.resource_versions()
    deliver("gitops")
    after = cluster.resource_versions()
    assert {key for key in after if after[key] != before.get(key)} == {f"Application/argocd/{name}" for name in PATHS}
    assert not before.keys() - after.keys()
    assert NAMESPACE not in cluster.namespaces()


def test_the_applications_are_the_contracts(deliver, cluster):
    deliver("gitops")
    found = applications(cluster)
    assert {name: item["spec"]["source"]["path"] for name, item in found.items()} == PATHS
    for name, item in found.items():
        spec = item["spec"]
        assert spec["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}, name
        assert spec["destination"] == {"server": "https://kubernetes.default.svc", "namespace": NAMESPACE}, name
        assert spec["project"] == "default", name
        assert "finalizers" not in item["metadata"], name


def test_a_second_run_changes_nothing(deliver, cluster):
    deliver("gitops")
    before = cluster.resource_versions()
    done = deliver("gitops")
    assert "changed=0" in done.text
    assert "nothing to change" in done.text
    assert cluster.resource_versions() == before


def test_a_dry_run_tells_the_applications_and_writes_nothing(deliver, cluster):
    before = cluster.resource_versions()
    done = deliver("gitops", args=["--check"])
    told = {word.rpartition("/")[2] for word in done.text.split() if word.startswith("argocd/")}
    assert told >= set(PATHS)
    assert "create Deployment" not in done.text
    assert cluster.resource_versions() == before


def test_an_application_that_is_off_goes_and_anothers_stays(deliver, cluster):
    deliver("gitops")
    theirs = applications(cluster)["vllm-inference"]
    theirs["metadata"] = {"name": "vllm-inference-theirs", "namespace": "argocd"}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(theirs))
    done = deliver("gitops", vllm_judge_variant="judge-large", triton_enabled_profiles=["gpu"])
    assert "prune Application argocd/vllm-inference-judge" in done.text
    found = applications(cluster)
    gone = {"vllm-inference-judge", "triton-inference-cpu"}
    assert set(found) == PATHS.keys() - gone | {"vllm-inference-judge-large", "vllm-inference-theirs"}
    # One of the two judges is on.
    assert found["vllm-inference-judge-large"]["spec"]["source"]["path"] == "infra/k8s/vllm/judge-large"


def test_changing_from_direct_to_gitops_prunes_nothing(deliver, cluster):
    deliver("direct")
    before = versions(cluster, NAMESPACE)
    assert f"Deployment/{NAMESPACE}/vllm" in before
    done = deliver("gitops")
    assert "prune" not in done.text.replace("apply : Prune, and wait for the rollout", "")
    assert set(applications(cluster)) == set(PATHS)
    assert versions(cluster, NAMESPACE) == before


def adopt_by_argocd(cluster, application, *objects):
    """Do what Argo CD does to objects that its Application finds standing: mark them as its own."""
    for kind, name in objects:
        mark = f"{TRACKING}={application}:{kind}:{NAMESPACE}/{name}"
        who = "--field-manager=argocd-controller"
        cluster.kubectl("annotate", "-n", NAMESPACE, f"{kind}/{name}", mark, who)


def test_direct_delivery_refuses_what_argocd_keeps_in_sync(deliver, cluster):
    deliver("direct")
    deliver("gitops")
    adopt_by_argocd(cluster, "vllm-inference", ("deployment", "vllm"), ("service", "vllm-service"))
    before = cluster.resource_versions()
    done = deliver("direct", check=False)
    assert done.returncode
    for each in ("Deployment ml-models/vllm", "Service ml-models/vllm-service"):
        assert f"{each} is kept in sync by Argo CD's Application argocd/vllm-inference" in done.text
    assert "platform_delivery: gitops" in done.text
    assert cluster.resource_versions() == before


def test_direct_delivery_refuses_beside_applications_that_have_not_synced_yet(deliver, cluster):
    deliver("gitops")
    before = cluster.resource_versions()
    done = deliver("direct", check=False)
    assert done.returncode
    assert "Applications of this cluster sync by themselves" in done.text
    assert "kubectl -n argocd delete applications ml-models-shared triton-inference-cpu" in done.text
    assert cluster.resource_versions() == before
    # Those of another cluster that share this Argo CD are no hindrance.
    assert deliver("direct", platform_cluster_name="another").returncode == 0


def test_direct_delivery_takes_over_when_the_application_is_gone(deliver, cluster):
    deliver("direct")
    deliver("gitops")
    adopt_by_argocd(cluster, "vllm-inference", ("deployment", "vllm"))
    pods = {pod["metadata"]["uid"] for pod in cluster.get("pods", "-n", NAMESPACE)["items"]}
    cluster.kubectl("delete", "applications", "--all", "-n", "argocd", "--cascade=orphan")
    deliver("direct")
    live = cluster.get("deployment", "vllm", "-n", NAMESPACE)
    assert TRACKING not in live["metadata"].get("annotations", {})
    assert {pod["metadata"]["uid"] for pod in cluster.get("pods", "-n", NAMESPACE)["items"]} == pods


def test_direct_delivery_works_beside_an_application_that_does_not_sync_by_itself(deliver, cluster):
    deliver("direct")
    deliver("gitops", argocd_apps_automated=False)
    assert all("automated" not in item["spec"]["syncPolicy"] for item in applications(cluster).values())
    adopt_by_argocd(cluster, "vllm-inference", ("deployment", "vllm"))
    assert deliver("direct").returncode == 0
    # Another way of delivery's objects are not this one's to prune.
    assert set(applications(cluster)) == set(PATHS)


def test_an_argocd_that_is_not_there_is_told_before_anything_is_written(deliver, cluster):
    before = cluster.resource_versions()
    done = deliver("gitops", check=False, platform_argocd_namespace="nowhere")
    assert done.returncode
    assert "namespace nowhere does not exist" in done.text
    assert cluster.resource_versions() == before
