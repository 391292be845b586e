"""playbooks/teardown.yml's action on a real API server: what goes, in which order, what stays, and what is told of both."""

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import writes
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import RELEASE, own
from delivering import ARGOCD, NAMESPACE, act, deliver, local

PLACE = f"/namespaces/{NAMESPACE}"
APPLICATIONS = f"/apis/argoproj.io/v1alpha1/namespaces/{ARGOCD}/applications"
SERVICE = "vllm-service"
LEASE = f"Lease/{NAMESPACE}/modelyard"
# What a controller puts into every namespace.
EVERYWHERE = {f"ConfigMap/{NAMESPACE}/kube-root-ca.crt", f"ServiceAccount/{NAMESPACE}/default"}
MINE = {"vllm_enabled": False, "triton_enabled_profiles": ["cpu"]}


def cron_job():
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "registry.models.internal/a:1"}]}
    spec = {"schedule": "0 4 * * *", "suspend": True, "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "night"}, "spec": spec}


def claim():
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "60Gi"}}, "storageClassName": "gp3"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "cache"}, "spec": spec}


def record():
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "modelyard-release-9999"}}
    return own([item], RELEASE, "local", NAMESPACE)[0]


@pytest.fixture
def teardown(cluster, clean_platform):
    """Run the action on the local inventory; gives what it said and its result, or what stopped it."""

    def run(check_mode=False, connection=None, variables=None, **given):
        said = []
        try:
            result = act(
                "teardown",
                said,
                check_mode,
                connection=connection or {"kubeconfig": str(cluster.kubeconfig)},
                rendered=local(cluster, **(MINE if variables is None else variables)),
                **given,
            )
        except AnsibleActionFail as error:
            return said, str(error.message)
        return said, result

    return run


@pytest.fixture
def deployed(cluster, clean_platform):
    """A cluster with servers, objects of the user's, a record, a claim, and things of others."""
    cluster.api("POST", "/apis/storage.k8s.io/v1/storageclasses", {"metadata": {"name": "gp3"}, "provisioner": "csi.e"})
    more = {"platform_extra_objects": [cron_job(), claim()], "vllm_autoscaling": {"maxReplicas": 2}}
    done = deliver(local(cluster, **more), {"kubeconfig": str(cluster.kubeconfig)})
    assert not done.failed
    cluster.api("POST", f"/api/v1{PLACE}/configmaps", record())
    foreign = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}}
    cluster.api("POST", f"/api/v1{PLACE}/configmaps", foreign)
    other = own([{**foreign, "metadata": {"name": "other"}}], "triton", "production", NAMESPACE)[0]
    cluster.api("POST", f"/api/v1{PLACE}/configmaps", other)
    return cluster


def there(cluster):
    return {
        key
        for key, _, item in cluster.objects()
        if key.split("/")[1] == NAMESPACE
        and key.split("/")[0] not in ("Event", "Endpoints", "EndpointSlice", "Pod", "ReplicaSet")
        and key not in EVERYWHERE
    }


def places(said, *texts):
    """At which place of what was said each text stands first."""
    return [next(place for place, line in enumerate(said) if text in line) for text in texts]


def test_everything_of_the_cluster_goes_in_order_and_what_stays_is_told(deployed, teardown):
    cluster, before = deployed, there(deployed)
    _, refused = teardown(confirm="local", variables={"platform_api_server": "https://10.0.0.1:6443"})
    assert "platform_api_server is https://10.0.0.1:6443, but the connection" in refused
    limited = {"kubeconfig": str(cluster.kubeconfig), "impersonate_user": "nobody"}
    said, refused = teardown(confirm="local", connection=limited)
    assert "this credential may not delete deployments (apps) in namespace ml-models" in refused
    for given in ({}, {"confirm": "production"}):
        versions = cluster.resource_versions()
        said, refused = teardown(**given)
        assert "Nothing was removed." in refused
        assert refused.endswith("-e teardown_confirm=local")
        assert "would remove Deployment ml-models/vllm" in said
        assert cluster.resource_versions() == versions
    foretold, result = teardown(check_mode=True)
    assert "objects would be removed, and nothing was" in foretold[-1]
    assert result["changed"]
    assert cluster.resource_versions() == versions

    # The inventory no longer has vLLM, the CronJob and the claim.
    said, result = teardown(confirm="local")
    assert result["changed"]
    assert there(cluster) == {f"ConfigMap/{NAMESPACE}/theirs", f"ConfigMap/{NAMESPACE}/other"} | {
        f"PersistentVolumeClaim/{NAMESPACE}/cache",
        LEASE,
    }
    order = places(
        said,
        *("CronJob ml-models/night", "Deployment ml-models/vllm", "Service ml-models/vllm"),
        *("RoleBinding ", "Role ", "ServiceAccount ", "ConfigMap ml-models/modelyard-release-9999"),
    )
    assert order == sorted(order)
    assert [line for line in foretold if line.startswith("would remove ")] == [
        f"would {line}" for line in said if line.startswith("remove ")
    ]
    text = "\n".join(said)
    assert "stays: PersistentVolumeClaim ml-models/cache: 60Gi, class gp3; paid for until it goes" in text
    assert "stays: ConfigMap ml-models/other: under another cluster's name" in text
    assert "my-triton-s3-read" in text
    assert "-e irsa_state=absent" in text
    assert "stays: 2 nodes of hardware profile cpu-compute: m6i.2xlarge, $0.384 per hour each" in text
    again, result = teardown(confirm="local")
    assert not result["changed"]
    assert "cluster local: nothing to remove" in again
    # The lock notes what the other name's objects are, and goes with them.
    cluster.api("DELETE", f"/api/v1{PLACE}/configmaps/other")
    said, result = teardown(confirm="local")
    assert result["report"]["removed"] == [f"Lease {NAMESPACE}/modelyard"]
    assert there(cluster) == {f"ConfigMap/{NAMESPACE}/theirs", f"PersistentVolumeClaim/{NAMESPACE}/cache"}
    assert not teardown(confirm="local")[1]["changed"]
    assert before > there(cluster)


def test_claims_and_the_namespace_go_if_they_are_asked_for_and_nothing_foreign_is_there(deployed, teardown):
    cluster = deployed
    cluster.api("DELETE", f"/api/v1{PLACE}/configmaps/other")
    wanted = {"confirm": "local", "claims": True, "namespaces": True}
    said, result = teardown(**wanted)
    assert "remove PersistentVolumeClaim ml-models/cache" in said
    told = "stays: Namespace ml-models: others have something in it: ConfigMap ml-models/theirs"
    assert [line for line in said if "Namespace" in line] == [told]
    assert there(cluster) == {f"ConfigMap/{NAMESPACE}/theirs"}
    cluster.api("DELETE", f"/api/v1{PLACE}/configmaps/theirs")
    said, result = teardown(**wanted)
    assert result["report"]["removed"] == ["Namespace ml-models"]
    # One that no run made stays.
    cluster.kubectl("wait", "--for=delete", "namespace/ml-models", "--timeout=60s")
    assert not teardown(**wanted)[1]["changed"]
    cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    said, result = teardown(**wanted)
    assert not result["changed"]
    assert "stays: Namespace ml-models: no run made it" in said


def test_a_teardown_that_was_cut_off_goes_on(deployed, teardown, monkeypatch):
    """Also where a pod takes its time: its server is gone before what it is reached by."""
    cluster = deployed
    pod = {"metadata": {"name": "slow", "finalizers": ["e.xample/slow"]}, "spec": {}}
    vllm = cluster.get("replicasets", "-n", NAMESPACE, "-l", "app=vllm")["items"][0]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": vllm["metadata"]["name"]}
    owner |= {"uid": vllm["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}
    pod["metadata"] |= {"labels": vllm["spec"]["template"]["metadata"]["labels"], "ownerReferences": [owner]}
    pod["metadata"]["labels"]["pod-template-hash"] = vllm["metadata"]["labels"]["pod-template-hash"]
    pod["spec"]["containers"] = [{"name": "c", "image": "registry.models.internal/a:1"}]
    cluster.api("POST", f"/api/v1{PLACE}/pods", pod)
    said, stopped = teardown(confirm="local", timeout=2)
    assert "after 2 s (teardown_timeout) there is still Deployment ml-models/vllm (pod slow on" in stopped
    assert f"Service/{NAMESPACE}/{SERVICE}" in there(cluster)
    assert cluster.api("GET", f"/apis/coordination.k8s.io/v1{PLACE}/leases/modelyard")["spec"]["holderIdentity"] == ""
    cluster.api("PATCH", f"/api/v1{PLACE}/pods/slow", {"metadata": {"finalizers": None}})

    original = writes.remove

    def cut_off(cluster_, item, *args, **more):
        if item["kind"] == "RoleBinding":
            raise KeyboardInterrupt
        return original(cluster_, item, *args, **more)

    monkeypatch.setattr(writes, "remove", cut_off)
    with pytest.raises(KeyboardInterrupt):
        teardown(confirm="local")
    assert f"Service/{NAMESPACE}/{SERVICE}" not in there(cluster)
    monkeypatch.undo()
    # Also where Argo CD delivered all this, and its namespace, in which the lock was, is gone.
    cluster.api("DELETE", f"/api/v1{PLACE}/configmaps/other")
    gone = {"platform_delivery": "gitops", "platform_argocd_namespace": "gone"}
    said, _ = teardown(confirm="local", variables=gone)
    assert "remove RoleBinding ml-models/workflow-manager-binding" in said
    assert f"remove Lease {NAMESPACE}/modelyard" in said
    assert not any("Service ml-models" in line for line in said)
    assert not teardown(confirm="local")[1]["changed"]


def test_applications_go_with_what_they_deployed_and_those_of_other_clusters_stay(deployed, teardown):
    cluster = deployed
    cluster.api("DELETE", f"/api/v1{PLACE}/configmaps/other")
    gitops = {"platform_delivery": "gitops"}
    connection = {"kubeconfig": str(cluster.kubeconfig)}
    assert not deliver(local(cluster, **gitops), connection).failed
    foreign = cluster.api("GET", f"{APPLICATIONS}/vllm-inference")
    foreign["metadata"] = {
        **{key: foreign["metadata"][key] for key in ("labels", "annotations")},
        "name": "production-vllm",
    }
    foreign["metadata"]["labels"]["modelyard/cluster"] = "production"
    foreign["metadata"]["annotations"]["modelyard/part"] = "production/vllm"
    cluster.api("POST", APPLICATIONS, foreign)
    repository = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "modelyard-repository"}}
    cluster.api("POST", f"/api/v1/namespaces/{ARGOCD}/secrets", own([repository], "argocd-apps", "local", ARGOCD)[0])
    # Argo CD has looked at this one, and does not run any more.
    cluster.api("PATCH", f"{APPLICATIONS}/vllm-inference", {"status": {"reconciledAt": "2026-11-01T00:00:00Z"}})
    said, stopped = teardown(confirm="local", timeout=1, variables=gitops)
    assert "remove Application argocd/vllm-inference, and Argo CD removes what it deployed" in said
    assert "remove Application argocd/ml-models-shared; what it deployed stays" in said
    assert "there is still Application argocd/vllm-inference (Argo CD does not run in namespace argocd" in stopped
    assert "Argo CD looked at it last at 2026-11-01T00:00:00Z" in stopped
    assert f"Deployment/{NAMESPACE}/vllm" in there(cluster)
    # With the command of the message it goes on, without Argo CD.
    command = stopped.partition("go on without it: kubectl ")[2].partition("; then")[0]
    cluster.kubectl(*(word.strip("'") for word in command.split()))
    said, _ = teardown(confirm="local", variables=gitops)
    assert "remove Deployment ml-models/vllm" in said
    # One name for all clusters' credential: it stays as long as another has Applications.
    why = "Applications of other clusters may read Git with it"
    assert f"stays: Secret argocd/modelyard-repository: {why}" in said
    assert [item["metadata"]["name"] for item in cluster.api("GET", APPLICATIONS)["items"]] == ["production-vllm"]
    assert there(cluster) == {f"ConfigMap/{NAMESPACE}/theirs", f"PersistentVolumeClaim/{NAMESPACE}/cache"}
    assert "stays: Application argocd/production-vllm: under another cluster's name" in said
    assert not teardown(confirm="local", variables=gitops)[1]["changed"]
    cluster.api("DELETE", f"{APPLICATIONS}/production-vllm")
    assert "remove Secret argocd/modelyard-repository" in teardown(confirm="local", variables=gitops)[0]
