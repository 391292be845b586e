"""What a run prunes and what it tells of, on a real API server: kinds that only a user has, and objects under another cluster's name."""

import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import own
from delivering import ARGOCD, NAMESPACE, deliver, local, rendering

PLACE = f"/namespaces/{NAMESPACE}"
LEASE = f"/apis/coordination.k8s.io/v1{PLACE}/leases/modelyard"
CRON_JOBS = f"/apis/batch/v1{PLACE}/cronjobs"
RIGHTS = Path(__file__).resolve().parent.parent / "docs" / "rbac.yaml"
SCALERS = f"/apis/autoscaling/v2{PLACE}/horizontalpodautoscalers"


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def cron_job(name):
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "registry.models.internal/a:1"}]}
    spec = {"schedule": "0 4 * * *", "suspend": True, "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec}


def application(name, namespace=NAMESPACE):
    spec = {"project": "default", "source": {"repoURL": "https://git.example/a.git", "path": name}}
    spec["destination"] = {"server": "https://kubernetes.default.svc", "namespace": namespace}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def run(cluster, clean_platform):
    """Do what the role apply does with a list of objects."""

    def run_(*objects, check=True, **given):
        connection = given.pop("connection", {"kubeconfig": str(cluster.kubeconfig)})
        check_mode = given.pop("check_mode", False)
        done = deliver(rendering(*objects, **{"api_server": cluster.url, **given}), connection, check_mode)
        assert not (check and done.failed), done.failed
        return done

    return run_


def names(cluster, path):
    return {item["metadata"]["name"] for item in cluster.api("GET", path)["items"]}


def noted(cluster):
    return cluster.api("GET", LEASE)["metadata"]["annotations"]["modelyard/kinds"]


def test_a_kind_that_only_a_user_has_is_pruned_even_when_nothing_of_it_is_wanted_any_more(run, cluster):
    run(config_map("one", k="v"), cron_job("night"))
    assert noted(cluster) == "ConfigMap.v1,CronJob.v1.batch"
    assert run(config_map("one", k="v"), cron_job("night")).changed == 0
    # A role alone renders none of it, and another component's objects stay.
    run(config_map("two", k="v"), component="vllm")
    assert names(cluster, CRON_JOBS) == {"night"}
    assert noted(cluster) == "ConfigMap.v1,CronJob.v1.batch"
    assert "prune CronJob ml-models/night" in run(config_map("one", k="v")).said
    assert names(cluster, CRON_JOBS) == set()
    # From the next run that writes on, nobody asks for the kind any more.
    run(config_map("one", k="w"))
    assert noted(cluster) == "ConfigMap.v1"


def test_a_run_that_is_cut_off_has_left_word_of_what_it_was_to_apply(run, cluster, monkeypatch):
    run(config_map("one", k="v"))
    monkeypatch.setattr(Cluster, "apply", _cut_off(Cluster.apply))
    with pytest.raises(KeyboardInterrupt):
        run(config_map("one", k="w"), cron_job("night"))
    assert names(cluster, CRON_JOBS) == {"night"}
    monkeypatch.undo()
    assert "prune CronJob ml-models/night" in run(config_map("one", k="v")).said


def _cut_off(apply):
    def apply_(self, item, manager, force, dry_run):
        result = apply(self, item, manager, force, dry_run)
        if item["kind"] == "CronJob" and not dry_run:
            raise KeyboardInterrupt
        return result

    return apply_


def test_a_lease_without_a_note_is_that_of_an_older_release(run, cluster):
    run(config_map("one", k="v"), config_map("gone", k="v"))
    cluster.api("PATCH", LEASE, {"metadata": {"annotations": {"modelyard/kinds": None}}})
    assert "prune ConfigMap ml-models/gone" in run(config_map("one", k="v")).said


def test_a_version_that_is_served_no_more_hides_nothing(run, cluster):
    run(config_map("one", k="v"), cron_job("night"))
    cluster.api("PATCH", LEASE, {"metadata": {"annotations": {"modelyard/kinds": "CronJob.v1beta1.batch"}}})
    assert "prune CronJob ml-models/night" in run(config_map("one", k="v")).said


def test_what_a_controller_made_with_our_labels_is_left_to_it(run, cluster):
    """KEDA gives its HorizontalPodAutoscaler the labels of the ScaledObject."""
    run(config_map("one", k="v"))
    owner = cluster.api("GET", f"/api/v1{PLACE}/configmaps/one")["metadata"]["uid"]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "ours"}}
    scaler["spec"] = {"scaleTargetRef": target, "maxReplicas": 2}
    (copied,) = own([{**scaler, "metadata": {"name": "keda-hpa-d"}}], "irsa", "local", NAMESPACE)
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "one", "uid": owner, "controller": True}
    copied["metadata"]["ownerReferences"] = [reference]
    run(config_map("one", k="v"), scaler)
    cluster.api("POST", SCALERS, copied)
    assert "prune HorizontalPodAutoscaler ml-models/ours" in run(config_map("one", k="v")).said
    assert names(cluster, SCALERS) == {"keda-hpa-d"}


def test_a_claim_that_is_no_longer_wanted_stays_and_is_told_of(run, cluster):
    kind = {"metadata": {"name": "csi"}, "provisioner": "csi.example"}
    cluster.api("POST", "/apis/storage.k8s.io/v1/storageclasses", kind)
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "csi"}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "cache"}, "spec": spec}
    assert "stays" not in run(config_map("one", k="v"), claim).text
    for _ in range(2):
        done = run(config_map("one", k="v"))
        assert done.changed == 0
        assert "PersistentVolumeClaim ml-models/cache is no longer wanted, and stays" in done.text
        assert "kubectl -n ml-models delete persistentvolumeclaim cache" in done.text


def test_a_kind_that_this_credential_may_not_list_is_told_of(run, cluster):
    run(config_map("one", k="v"), cron_job("night"))
    limited = {"kubeconfig": str(cluster.kubeconfig), "impersonate_user": "limited"}
    rules = [
        {"apiGroups": ["", "apps", "policy", "networking.k8s.io", "rbac.authorization.k8s.io"]},
        {"apiGroups": ["monitoring.coreos.com", "coordination.k8s.io", "argoproj.io"]},
    ]
    rules = [{**rule, "resources": ["*"], "verbs": ["*"]} for rule in rules]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "limited"}}
    cluster.api("POST", f"/apis/rbac.authorization.k8s.io/v1{PLACE}/roles", {**role, "rules": rules})
    binding = {**role, "kind": "RoleBinding", "subjects": [{"kind": "User", "name": "limited"}]}
    binding["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "limited"}
    cluster.api("POST", f"/apis/rbac.authorization.k8s.io/v1{PLACE}/rolebindings", binding)
    done = run(config_map("one", k="w"), connection=limited)
    assert done.text.count("an earlier run made cronjobs.batch in namespace ml-models") == 1
    assert "prune" not in done.text
    assert noted(cluster) == "ConfigMap.v1,CronJob.v1.batch"
    # What a run applies it must be able to prune.
    refused = run(config_map("one", k="w"), cron_job("night"), connection=limited, check=False).failed
    assert "this credential may not create, delete, get, list, patch cronjobs (batch) in namespace ml-models" in refused
    assert "prune CronJob ml-models/night" in run(config_map("one", k="w")).said


def test_objects_under_another_clusters_name_are_told_with_a_command_that_removes_them(run, cluster):
    run(config_map("one", k="v"), config_map("two", k="v"), cron_job("night"), platform_cluster_name="before")
    for check_mode in (True, False, False):
        done = run(config_map("one", k="v"), check_mode=check_mode)
        told = [line for line in done.said if "under the cluster name before" in line]
        assert len(told) == 1
        # What is wanted is taken over.
        assert "before: ConfigMap ml-models/two, CronJob ml-models/night. If" in told[0]
        assert "ml-models/one" not in told[0]
    assert done.changed == 0
    cluster.kubectl(*told[0].partition(": kubectl ")[2].split())
    assert names(cluster, CRON_JOBS) == set()
    # Of the records, that of the run under this name stays.
    assert names(cluster, f"/api/v1{PLACE}/configmaps") == {"one", "kube-root-ca.crt", "modelyard-release-0002"}
    assert "before" not in run(config_map("one", k="v")).text


def test_applications_under_another_clusters_name_are_told_where_they_deliver_to_the_same_place(run, cluster):
    given = {"component": "argocd-apps"}
    run(application("triton"), application("judge"), application("old"), platform_cluster_name="before", **given)
    run(application("far", "elsewhere"), platform_cluster_name="another", **given)
    done = run(application("triton"), **given)
    (told,) = [line for line in done.said if "under the cluster name" in line]
    assert "cluster name before: Application argocd/judge, Application argocd/old. If before" in told
    command = told.partition("remove it: ")[2].partition(" (what")[0]
    for part in command.split(" && "):
        cluster.kubectl(*(word.strip("'") for word in part.split()[1:]))
    assert names(cluster, f"/apis/argoproj.io/v1alpha1/namespaces/{ARGOCD}/applications") == {"triton", "far"}
    assert "cluster name before" not in run(application("triton"), **given).text


def own_objects():
    prometheus = {"serverAddress": "http://prometheus.monitoring:9090"}
    return {
        "vllm_ingress": {"hosts": ["llm.models.internal"], "from": [{"namespace": "ingress-nginx"}]},
        "vllm_autoscaling": {"maxReplicas": 2, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}}},
        "triton_enabled_profiles": ["gpu"],
        "triton_http_route": {"parentRefs": [{"name": "models"}], "timeouts": {"request": "600s"}},
        "triton_scaled_object": {"maxReplicaCount": 2, **prometheus},
    }


def test_the_users_own_objects_and_ways_to_the_servers_come_stay_and_go(cluster, clean_platform):
    connection = {"kubeconfig": str(cluster.kubeconfig)}
    own = {
        **own_objects(),
        "platform_extra_objects": [cron_job("night")],
        "platform_dashboards_enabled": True,
    }
    kinds = ["CronJob", "HorizontalPodAutoscaler", "HTTPRoute", "Ingress", "ScaledObject"]
    first = deliver(local(cluster, **own), connection)
    assert first.failed == ""
    made = sorted((line.split()[1] for line in first.said if line.startswith("create ")), key=str.lower)
    assert [kind for kind in made if kind in kinds] == kinds
    found = cluster.kubectl("-n", NAMESPACE, "get", "configmaps", "-l", "grafana_dashboard=1", "-o", "name").stdout
    assert found.split() == [f"configmap/modelyard-dashboard-{name}" for name in ("fleet", "triton", "vllm")]
    again = deliver(local(cluster, **own), connection)
    assert (again.failed, again.changed) == ("", 0)
    # Somebody scales: nobody takes it back.
    cluster.api("PATCH", f"/apis/apps/v1{PLACE}/deployments/vllm/scale", {"spec": {"replicas": 0}})
    asleep = deliver(local(cluster, **own), connection)
    assert (asleep.failed, asleep.changed) == ("", 0)
    gone = deliver(local(cluster), connection)
    assert gone.failed == ""
    pruned = sorted((line.split()[1] for line in gone.said if line.startswith("prune ")), key=str.lower)
    assert [kind for kind in pruned if kind in kinds] == kinds
    assert [kind for kind in pruned if kind == "ConfigMap"] == ["ConfigMap"] * 3
    assert deliver(local(cluster), connection).changed == 0


@pytest.mark.parametrize("kind", ["v1/Node", "scheduling.k8s.io/v1/PriorityClass"])
def test_a_kind_without_a_namespace_is_refused(run, cluster, kind):
    version, _, name = kind.rpartition("/")
    refused = run({"apiVersion": version, "kind": name, "metadata": {"name": "one"}}, check=False).failed
    assert f"{name} belongs to no namespace, and a run writes to its own alone" in refused


def test_the_rights_in_the_comment_are_enough_for_the_ways_to_a_server(cluster, clean_platform):
    """And without them a run is refused, and says which are missing."""
    items = [item for item in yaml.safe_load_all(RIGHTS.read_text()) if item]
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    connection = {
        "host": cluster.url,
        "api_key": cluster.kubectl("-n", "modelyard", "create", "token", "deployer").stdout.strip(),
        "ca_cert": config["clusters"][0]["cluster"]["certificate-authority"],
    }
    wanted = local(cluster, **own_objects())
    refused = deliver(wanted, connection).failed
    for resource in ("ingresses", "httproutes", "horizontalpodautoscalers", "scaledobjects"):
        assert f"this credential may not create, delete, get, list, patch {resource} (" in refused
    comment = RIGHTS.read_text().split("each kind of platform_extra_objects")[1].split("\n", 1)[1].split("  #\n")[0]
    rules = yaml.safe_load("\n".join(line.replace("  # ", "", 1) for line in comment.splitlines()))
    role = next(item for item in items if item["kind"] == "Role" and item["metadata"]["namespace"] == NAMESPACE)
    role["rules"] += rules
    cluster.kubectl("apply", "-f", "-", input=json.dumps(role))
    assert deliver(wanted, connection).failed == ""
    assert deliver(wanted, connection).changed == 0
