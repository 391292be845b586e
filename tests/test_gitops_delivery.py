"""A cluster delivered by GitOps: only the Applications are applied, and no object is delivered both ways."""

import base64
import json
import re

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
# What a run itself leaves: its lock and its record, and what controllers put into a new namespace.
BESIDE = (
    "Lease/",
    "ConfigMap/ml-models/modelyard-release-",
    "ConfigMap/ml-models/kube-root-ca.crt",
    "ServiceAccount/ml-models/default",
)


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
    """Resource versions of a namespace's objects."""
    return {
        key: version
        for key, version in cluster.resource_versions().items()
        if key.split("/")[1] == namespace and not key.startswith(BESIDE)
    }


def test_only_the_applications_are_applied_and_a_second_run_changes_nothing(deliver, cluster):
    before = cluster.resource_versions()
    done = deliver("gitops", args=["--check"])
    told = {word.rpartition("/")[2] for word in done.text.split() if word.startswith("argocd/")}
    assert told >= set(PATHS)
    assert "create Deployment" not in done.text
    assert cluster.resource_versions() == before

    deliver("gitops")
    after = cluster.resource_versions()
    made = {*(f"Application/argocd/{name}" for name in PATHS), "ConfigMap/argocd/modelyard-release-0001"}
    assert {key for key in after if after[key] != before.get(key)} == made
    assert not before.keys() - after.keys()
    assert NAMESPACE not in cluster.namespaces()
    found = applications(cluster)
    assert {name: item["spec"]["source"]["path"] for name, item in found.items()} == PATHS
    for name, item in found.items():
        spec = item["spec"]
        assert spec["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}, name
        assert spec["destination"] == {"server": "https://kubernetes.default.svc", "namespace": NAMESPACE}, name
        assert spec["project"] == "default", name
        assert "finalizers" not in item["metadata"], name

    again = deliver("gitops").text
    assert "changed=0" in again
    assert "nothing to change" in again
    assert cluster.resource_versions() == after

    # Nothing stands there yet, and it will: the Applications sync by themselves.
    done = deliver("direct", check=False)
    assert done.returncode
    assert "Applications of this cluster sync by themselves" in done.text
    assert cluster.resource_versions() == after


def test_an_application_that_is_off_goes_and_anothers_stays(deliver, cluster):
    deliver("gitops")
    theirs = applications(cluster)["vllm-inference"]
    theirs["metadata"] = {"name": "vllm-inference-theirs", "namespace": "argocd"}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(theirs))
    several = {"vllm_enabled_profiles": ["vllm", "fast"], "vllm_profiles": {"fast": {}}}
    done = deliver("gitops", vllm_judge_variant="judge-large", triton_enabled_profiles=["gpu"], **several)
    assert "prune Application argocd/vllm-inference-judge" in done.text
    found = applications(cluster)
    gone = {"vllm-inference-judge", "triton-inference-cpu"}
    new = {"vllm-inference-judge-large", "vllm-inference-fast"}
    assert set(found) == PATHS.keys() - gone | new | {"vllm-inference-theirs"}
    assert found["vllm-inference-fast"]["spec"]["source"]["path"] == "infra/k8s/vllm/fast"
    # One of the two judges is on.
    assert found["vllm-inference-judge-large"]["spec"]["source"]["path"] == "infra/k8s/vllm/judge-large"


def adopt_by_argocd(cluster, application, *objects):
    """Do what Argo CD does to existing objects of an Application: set its tracking annotation."""
    for kind, name in objects:
        mark = f"{TRACKING}={application}:{kind}:{NAMESPACE}/{name}"
        who = "--field-manager=argocd-controller"
        cluster.kubectl("annotate", "-n", NAMESPACE, f"{kind}/{name}", mark, who)


def test_changing_to_gitops_prunes_nothing_and_back_waits_until_the_application_is_gone(deliver, cluster):
    deliver("direct")
    before = versions(cluster, NAMESPACE)
    pods = {pod["metadata"]["uid"] for pod in cluster.get("pods", "-n", NAMESPACE)["items"]}
    assert f"Deployment/{NAMESPACE}/vllm" in before
    done = deliver("gitops")
    assert not re.search(r"\bprune [A-Z]", done.text), done.text
    assert set(applications(cluster)) == set(PATHS)
    assert versions(cluster, NAMESPACE) == before

    # They have not synced yet, and will.
    before = cluster.resource_versions()
    done = deliver("direct", check=False)
    assert done.returncode
    assert "Applications of this cluster sync by themselves" in done.text
    assert "kubectl -n argocd delete applications ml-models-shared triton-inference-cpu" in done.text
    assert cluster.resource_versions() == before
    # Those of another cluster that share this Argo CD are no hindrance.
    other = deliver("direct", args=["--check"], platform_cluster_name="another").text
    assert "failed=0" in other
    assert "Deployment ml-models/vllm" in other

    adopt_by_argocd(cluster, "vllm-inference", ("deployment", "vllm"), ("service", "vllm-service"))
    before = cluster.resource_versions()
    done = deliver("direct", check=False)
    assert done.returncode
    for each in ("Deployment ml-models/vllm", "Service ml-models/vllm-service"):
        assert f"{each} is kept in sync by Argo CD's Application argocd/vllm-inference" in done.text
    assert "platform_delivery: gitops" in done.text
    assert cluster.resource_versions() == before

    cluster.kubectl("delete", "applications", "--all", "-n", "argocd", "--cascade=orphan")
    deliver("direct")
    live = cluster.get("deployment", "vllm", "-n", NAMESPACE)
    assert TRACKING not in live["metadata"].get("annotations", {})
    assert {pod["metadata"]["uid"] for pod in cluster.get("pods", "-n", NAMESPACE)["items"]} == pods


def test_an_argocd_that_is_not_there_is_told_before_anything_is_written(deliver, cluster):
    before = cluster.resource_versions()
    done = deliver("gitops", check=False, platform_argocd_namespace="nowhere")
    assert done.returncode
    assert "namespace nowhere does not exist" in done.text
    assert cluster.resource_versions() == before


# --- What else Argo CD is told ---------------------------------------------------------------------

PASSWORD = "correct-horse-battery-staple"


def test_the_credentials_of_a_repository_are_in_its_secret_and_nowhere_else(deliver, cluster, tmp_path):
    vault = tmp_path / "vault.json"
    vault.write_text(json.dumps({"argocd_apps_repository": {"username": "git", "password": PASSWORD}}))
    hidden = (PASSWORD, base64.b64encode(PASSWORD.encode()).decode())
    talkative = ["-e", f"@{vault}", "-vvv", "--diff"]
    before = cluster.resource_versions()

    said = deliver("gitops", args=[*talkative, "--check"]).text
    assert cluster.resource_versions() == before
    said += deliver("gitops", args=talkative).text
    again = deliver("gitops", args=talkative).text
    assert "changed=0" in again
    for text in hidden:
        assert text not in said + again

    found = {key: json.dumps(item) for key, _, item in cluster.objects()}
    secret = json.loads(found.pop("Secret/argocd/modelyard-repository"))
    assert secret["metadata"]["labels"]["argocd.argoproj.io/secret-type"] == "repository"
    assert {key: base64.b64decode(value).decode() for key, value in secret["data"].items()} == {
        "type": "git",
        "url": "https://github.com/your-org/mlops-on-kubernetes",
        "username": "git",
        "password": PASSWORD,
    }
    assert [key for key, text in found.items() for word in hidden if word in text] == []

    # Out of the inventory, out of the cluster; a Secret of others with that name stays.
    gone = deliver("gitops", args=["--diff"]).text
    assert "prune Secret argocd/modelyard-repository" in gone
    assert not any(text in gone for text in hidden)
    assert "Secret/argocd/modelyard-repository" not in cluster.resource_versions()
    cluster.kubectl("create", "secret", "generic", "-n", "argocd", "modelyard-repository", "--from-literal=url=theirs")
    assert "changed=0" in deliver("gitops").text
    assert "Secret/argocd/modelyard-repository" in cluster.resource_versions()


def test_a_project_of_our_own_comes_before_its_applications_and_goes_after_them(deliver, cluster):
    own = {"argocd_apps_project": "models", "argocd_apps_project_create": True}
    deliver("gitops", **own)
    spec = cluster.get("appproject", "models", "-n", "argocd")["spec"]
    assert spec["sourceRepos"] == ["https://github.com/your-org/mlops-on-kubernetes"]
    assert spec["destinations"] == [{"namespace": NAMESPACE, "server": "https://kubernetes.default.svc"}]
    assert spec["clusterResourceWhitelist"] == [{"group": "", "kind": "Namespace"}]
    assert {item["spec"]["project"] for item in applications(cluster).values()} == {"models"}
    assert "changed=0" in deliver("gitops", **own).text
    assert "prune AppProject argocd/models" in deliver("gitops").text
    # Argo CD takes it away once no Application needs it.
    assert cluster.get("appproject", "models", "-n", "argocd")["metadata"]["deletionTimestamp"]


def test_sets_of_applications_for_many_clusters(deliver, cluster):
    many = {"argocd_apps_generator": "clusters", "argocd_apps_cluster_selector": {"env": "production"}}
    deliver("gitops", **many)
    found = {item["metadata"]["name"]: item["spec"] for item in cluster.get("applicationsets", "-n", "argocd")["items"]}
    assert set(found) == set(PATHS)
    assert applications(cluster) == {}
    assert found["vllm-inference"]["generators"] == [{"clusters": {"selector": {"matchLabels": {"env": "production"}}}}]
    assert found["vllm-inference"]["template"]["spec"]["destination"]["server"] == "{{ .server }}"
    assert "changed=0" in deliver("gitops", **many).text
    deliver("gitops")
    assert cluster.get("applicationsets", "-n", "argocd")["items"] == []
    assert set(applications(cluster)) == set(PATHS)


def test_moving_over_and_back_restarts_nothing(deliver, cluster):
    deliver("direct")
    # Without an Argo CD it stops in time, and lets go of nothing.
    before = versions(cluster, NAMESPACE)
    done = deliver("gitops", check=False, apply_handover=True, apply_handover_timeout=1)
    assert done.returncode
    assert "Argo CD has not synced" in done.text
    assert "vllm-inference: not looked at yet" in done.text
    assert versions(cluster, NAMESPACE) == before

    # Back it removes what GitOps made.
    deliver("gitops", argocd_apps_finalizer=True)
    adopt_by_argocd(cluster, "vllm-inference", ("deployment", "vllm"))
    before = versions(cluster, NAMESPACE)
    done = deliver("direct", args=["--check"], apply_handover=True)
    assert "remove Application argocd/vllm-inference; what it deployed stays" in done.text
    assert versions(cluster, NAMESPACE) == before
    assert set(applications(cluster)) == set(PATHS)
    # One role alone would leave what the others deployed to no one.
    alone = cluster.playbook("vllm", "-e", json.dumps({"apply_handover": True}), check=False)
    assert "Applications of this cluster sync by themselves" in " ".join((alone.stdout + alone.stderr).split())
    assert set(applications(cluster)) == set(PATHS)
    # With the finalizer, deleting them would remove everything: it goes first.
    deliver("direct", apply_handover=True)
    assert applications(cluster) == {}
    after = versions(cluster, NAMESPACE)
    assert {key for key in after if after[key] != before.get(key)} == {f"Deployment/{NAMESPACE}/vllm"}
    assert TRACKING not in cluster.get("deployment", "vllm", "-n", NAMESPACE)["metadata"].get("annotations", {})
    assert "nothing to change" in deliver("direct", apply_handover=True).text

    # Beside an Application that does not sync by itself, direct delivery works.
    deliver("gitops", argocd_apps_automated=False)
    assert all("automated" not in item["spec"]["syncPolicy"] for item in applications(cluster).values())
    adopt_by_argocd(cluster, "vllm-inference", ("deployment", "vllm"))
    assert deliver("direct").returncode == 0
    # Another way of delivery's objects are not this one's to prune.
    assert set(applications(cluster)) == set(PATHS)
