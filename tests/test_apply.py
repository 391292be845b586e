"""The role apply against a real API server: apply, revert manual edits, conflicts, adoption, pruning, refusals, the lock.

Most runs are in this process (tests/delivering.py). A run as a person sees it is a play (tests/playbooks/apply.yml): the first section.
"""

import json
import os
import re
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import client, fields, rollout, volumes
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import Lock
from delivering import NAMESPACE, ROOT, act, deliver, rendering

PLACE = f"/namespaces/{NAMESPACE}"
CONFIG_MAPS = f"/api/v1{PLACE}/configmaps"
PODS = f"/api/v1{PLACE}/pods"
DEPLOYMENT = f"/apis/apps/v1{PLACE}/deployments/d"
SERVICE = f"/api/v1{PLACE}/services/s"
BUDGET = f"/apis/policy/v1{PLACE}/poddisruptionbudgets/b"
LEASE = f"/apis/coordination.k8s.io/v1{PLACE}/leases/modelyard"
CLAIMS = f"/api/v1{PLACE}/persistentvolumeclaims"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
KUBECTL_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name="d", replicas=2, image="registry.example/a:1", selector=None, **pod):
    labels = {"app": name}
    spec = {
        "replicas": replicas,
        "progressDeadlineSeconds": 30,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {
                "nodeSelector": selector or {"workload": "cpu-compute"},
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "c", "image": image, "env": [{"name": "A", "value": "b"}]}],
                **pod,
            },
        },
    }
    if replicas is None:
        del spec["replicas"]
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def run(cluster, clean_platform):
    """Do what the role apply does with a list of objects; a run that fails must be expected (check=False)."""

    def run_(*objects, check=True, check_mode=False, connection=None, **variables):
        connection = {"kubeconfig": str(cluster.kubeconfig)} if connection is None else connection
        done = deliver(rendering(*objects, **{"api_server": cluster.url, **variables}), connection, check_mode)
        assert not (check and done.failed), done.failed
        return done

    return run_


@pytest.fixture
def play(cluster, clean_platform, tmp_path):
    """Apply a list of objects by a play; returns the finished process with its recap as numbers."""

    def play_(*objects, check=True, args=(), connection=None, **variables):
        given = {"test_rendering": rendering(*objects, api_server=cluster.url, **variables)}
        if connection:
            given["platform_connection"] = connection
        file = tmp_path / "vars.json"
        file.write_text(json.dumps(given))
        done = cluster.playbook("tests/playbooks/apply.yml", "-e", f"@{file}", *args, check=check)
        done.changed = int(re.search(r"changed=(\d+)", done.stdout).group(1))
        done.text = " ".join((done.stdout + done.stderr).split())
        return done

    return play_


@pytest.fixture
def kubectl(cluster):
    """kubectl in the platform's namespace, for what it does itself: be a field manager."""
    return lambda *args, **more: cluster.kubectl("-n", NAMESPACE, *args, **more)


@pytest.fixture
def namespace(cluster, clean_platform):
    """The platform's namespace, made by somebody else."""
    cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})


def config_maps(cluster) -> dict[str, dict]:
    """{name: data} of what a run or a person made, but for the records of releases."""
    found = cluster.api("GET", f"{CONFIG_MAPS}?labelSelector=modelyard/component!=release")["items"]
    items = {item["metadata"]["name"]: item.get("data") for item in found}
    return {name: data for name, data in items.items() if name != "kube-root-ca.crt"}


def wait_until(true, seconds=30):
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, f"it did not happen in {seconds} s"
        time.sleep(0.1)


def rolled_out(cluster):
    """Wait until the Deployment is rolled out."""
    wait_until(lambda: rollout.is_complete(cluster.api("GET", DEPLOYMENT)))


def autoscale(cluster, replicas):
    """Do what an autoscaler does: set the replicas through the scale subresource, as a field manager of its own; pods follow."""
    cluster.api("PATCH", f"{DEPLOYMENT}/scale?fieldManager=some-autoscaler", {"spec": {"replicas": replicas}})
    rolled_out(cluster)


def pod_uids(cluster):
    return sorted(pod["metadata"]["uid"] for pod in cluster.api("GET", PODS)["items"])


def token_for(cluster, name, role, rules=None):
    """The token of a ServiceAccount with a cluster role, which is made if it has rules."""
    if rules:
        cluster.api("POST", f"{RBAC}/clusterroles", {"metadata": {"name": role}, "rules": rules})
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    cluster.api("POST", accounts, {"metadata": {"name": name}})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
    }
    cluster.api("POST", f"{RBAC}/clusterrolebindings", binding)
    return cluster.api("POST", f"{accounts}/{name}/token", {"spec": {}})["status"]["token"]


def storage_class(name, provisioner="volumes.example", mode="Immediate"):
    return {"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode}


def claim(name, **spec):
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {**asked, **spec},
    }


def mounting(name, selector=None):
    mounted = [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]
    return deployment(f"of-{name}", replicas=1, selector=selector, volumes=mounted)


def volume(cluster, of, **spec):
    """Make a volume that waits for a claim, as an administrator does by hand."""
    held = {"namespace": NAMESPACE, "name": of}
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "claimRef": held, **spec}
    spec |= {"csi": {"driver": "csi.example", "volumeHandle": of}, "storageClassName": ""}
    cluster.api("POST", "/api/v1/persistentvolumes", {"metadata": {"name": f"pv-{of}"}, "spec": spec})


def listed_rights(cluster):
    """The connection of the account of docs/rbac.yaml; its comment on claims is followed."""
    rights = (ROOT / "docs/rbac.yaml").read_text()
    comment = rights.split("# A vLLM cache on a volume claim")[1].split("\n", 1)[1].split("  #\n")[0]
    cluster.kubectl("apply", "-f", "-", input=rights.replace(comment, comment.replace("  # ", "  ")))
    token = cluster.kubectl("-n", "modelyard", "create", "token", "deployer").stdout.strip()
    return {"host": cluster.url, "api_key": token, "validate_certs": False}


# --- A run as a person sees it: plays -----------------------------------------------------------------


def test_a_first_run_and_a_second_that_changes_nothing(play, cluster):
    objects = [deployment(), config_map("one", k="v")]
    first = play(*objects)
    # Namespace and lock by the plan, the objects by kubernetes.core.
    assert first.changed == 2
    for words in (
        "create Namespace ml-models",
        "create ConfigMap ml-models/one",
        "create Deployment ml-models/d",
        "cluster local: 3 changes",
        "WORKLOAD PROFILE MODEL READY NODE GPUS d - - 2/2 cpu-compute-1,cpu-compute-2 0",
        f"kubectl --kubeconfig {cluster.kubeconfig} -n ml-models get pods",
    ):
        assert words in first.text
    live = cluster.api("GET", DEPLOYMENT)["metadata"]
    assert {entry["manager"] for entry in live["managedFields"]} == {"modelyard", "kube-controller-manager"}
    before = cluster.resource_versions()
    again = play(*objects)
    assert again.changed == 0
    assert "cluster local: nothing to change" in again.text
    assert "d - - 2/2" in again.text
    assert cluster.resource_versions() == before


def test_check_mode_tells_truly_and_writes_nothing_on_a_first_run(play, cluster):
    before = cluster.resource_versions()
    done = play(deployment(), config_map("one", k="v"), args=["--check", "--diff"])
    assert done.changed == 1
    lines = [line for line in done.stdout.splitlines() if line.startswith("  ")]
    # In summary, under their heading, as a table for who approves it, and then what runs until then.
    assert lines[:11] == [
        "  would create Namespace ml-models",
        "  would create ConfigMap ml-models/one",
        "  would create Deployment ml-models/d: registry.example/a:1, 2 replicas",
        "  cluster local: 3 changes would be made, and nothing was written",
        "  WOULD   OBJECT                   EFFECT",
        "  create  Namespace ml-models      -",
        "  create  ConfigMap ml-models/one  -",
        "  create  Deployment ml-models/d   starts 2 pods",
        "  what runs now:",
        "  WORKLOAD  PROFILE  MODEL  READY  NODE  GPUS",
        "  d         -        -      0/2    -     0",
    ]
    assert done.stdout.index("TASK [apply : Plan the run]") < done.stdout.index(lines[0])
    assert cluster.resource_versions() == before


def test_check_mode_tells_what_would_change_and_writes_nothing(run, play, cluster):
    run(config_map("one", k="v"), config_map("two", k="v"))
    cluster.api("PATCH", f"{CONFIG_MAPS}/one?fieldManager=kubectl-patch", {"data": {"extra": "1"}})
    before = cluster.resource_versions()
    done = play(config_map("one", k="w"), args=["--check", "--diff"])
    assert done.changed == 1
    lines = done.stdout.splitlines()
    first = lines.index("  would update ConfigMap ml-models/one:")
    assert set(lines[first + 1 : first + 3]) == {'    data.k "v" -> "w"', '    data.extra "1" -> (none)'}
    assert "would prune ConfigMap ml-models/two" in done.text
    assert "- k: v" in done.text
    assert "+ k: w" in done.text
    assert cluster.resource_versions() == before
    run(config_map("one", k="w"))
    assert config_maps(cluster) == {"one": {"k": "w"}}


def test_a_later_run_reverts_prunes_and_tells(run, play, kubectl, cluster):
    """Through kubernetes.core what the other tests do in this process."""
    run(deployment(), config_map("one", k="v"), config_map("gone", k="v"))
    kubectl("scale", "deployment/d", "--replicas=5")
    kubectl("label", "cm/one", "x=y")
    done = play(deployment(), config_map("one", k="v"))
    # Fields by the plan, objects by kubernetes.core, what goes by the rollout.
    assert done.changed == 3
    assert "[WARNING]: Deployment ml-models/d: taking back what kubectl changed: spec.replicas 5 -> 2" in done.text
    assert "prune ConfigMap ml-models/gone" in done.text
    assert "d - - 2/2" in done.text
    assert "x" not in cluster.api("GET", f"{CONFIG_MAPS}/one")["metadata"]["labels"]
    assert run(deployment(), config_map("one", k="v")).changed == 0


def test_an_apply_that_stops_halfway_says_why_and_what_was_written_and_frees_the_lock(run, play, cluster, namespace):
    """A policy that takes effect between the dry runs and the apply lets every dry run pass."""
    policies = "/apis/admissionregistration.k8s.io/v1"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    policy = {
        "metadata": {"name": "no-two"},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "request.dryRun || object.metadata.name != 'two'", "message": "no second"}],
        },
    }
    binding = {"metadata": {"name": "no-two"}, "spec": {"policyName": "no-two", "validationActions": ["Deny"]}}
    cluster.api("POST", f"{policies}/validatingadmissionpolicies", policy)
    cluster.api("POST", f"{policies}/validatingadmissionpolicybindings", binding)

    def in_force():
        try:
            cluster.api("POST", CONFIG_MAPS, config_map("two"))
        except RuntimeError as error:
            return "no second" in str(error)
        cluster.api("DELETE", f"{CONFIG_MAPS}/two")
        return False

    wait_until(in_force)
    # With a token, the result of the task is hidden, and the cause is told all the same.
    token = token_for(cluster, "admin", "cluster-admin")
    connection = {"host": cluster.url, "api_key": token, "validate_certs": False}
    objects = [config_map(name, k="v") for name in ("one", "two", "zoo")]
    done = play(*objects, connection=connection, check=False)
    assert done.returncode
    _, _, told = done.text.replace('\\"', '"').partition("Stop with the cause]")
    assert (
        "'no-two' with binding 'no-two' denied request: no second. Written before that: ConfigMap ml-models/one. "
        in told
    )
    assert "Not written: ConfigMap ml-models/two, ConfigMap ml-models/zoo. What is written stays" in told
    assert '"kind"' not in told
    assert done.changed == 1
    assert token not in done.text
    assert config_maps(cluster) == {"one": {"k": "v"}}
    assert cluster.api("GET", LEASE)["spec"]["holderIdentity"] == ""
    for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
        cluster.api("DELETE", f"{policies}/{kind}/no-two")
    # In this process, the same: with no wait for the lock.
    again = run(*objects, check_mode=True, apply_lock_wait=0)
    assert again.plan["changes"] == ["create ConfigMap ml-models/two", "create ConfigMap ml-models/zoo"]


def test_what_objects_name_and_nobody_makes_is_refused_before_the_first_write(run, cluster, namespace):
    """Also in a namespace that exists, whatever the dry run says: pods would wait for ever."""
    item = deployment(
        priorityClassName="urgent",
        runtimeClassName="nvidia",
        serviceAccountName="reader",
        imagePullSecrets=[{"name": "registry"}],
        volumes=[
            {"name": "a", "persistentVolumeClaim": {"claimName": "cache"}},
            {"name": "b", "secret": {"secretName": "tls"}},
            {
                "name": "c",
                "projected": {
                    "sources": [{"configMap": {"name": "ca"}}, {"secret": {"name": "key", "optional": True}}]
                },
            },
            {"name": "d", "configMap": {"name": "own", "items": [{"key": "no", "path": "no"}]}},
            {"name": "e", "csi": {"driver": "csi.example", "nodePublishSecretRef": {"name": "share"}}},
            {"name": "f", "ephemeral": {"volumeClaimTemplate": {"spec": claim("", storageClassName="gp8")["spec"]}}},
        ],
        resourceClaims=[{"name": "g", "resourceClaimTemplateName": "gpu"}],
    )
    container = item["spec"]["template"]["spec"]["containers"][0]
    container["envFrom"] = [{"secretRef": {"name": "hf"}}, {"configMapRef": {"name": "none", "optional": True}}]
    container["env"] += [{"name": "B", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "b"}}}]
    objects = [item, claim("cache", storageClassName="gp9"), config_map("own", k="v")]
    before = cluster.resource_versions()
    done = run(*objects, check=False)
    found = re.findall(r"(\w+ \S+), which (\w+) \S+ names, does not exist", done.failed)
    missing = {"PriorityClass urgent", "RuntimeClass nvidia", "ServiceAccount ml-models/reader"}
    missing |= {f"Secret ml-models/{name}" for name in ("tls", "hf", "keys", "share")} | {"ConfigMap ml-models/ca"}
    missing |= {"CSIDriver csi.example", "ResourceClaimTemplate ml-models/gpu", "StorageClass gp8"}
    assert dict(found) == {**dict.fromkeys(missing, "Deployment"), "StorageClass gp9": "PersistentVolumeClaim"}
    assert "ConfigMap ml-models/own has no key no, which Deployment ml-models/d names" in done.failed
    assert cluster.resource_versions() == before
    # A public image needs no pull secret; and a credential that may not look is told so.
    resources = ["namespaces", "deployments", "replicasets", "pods", "pods/log", "events", "leases", "configmaps"]
    verbs = ["get", "list", "create", "update", "patch", "delete"]
    rules = [{"apiGroups": ["", "apps", "coordination.k8s.io"], "resources": resources, "verbs": verbs}]
    connection = {"host": cluster.url, "api_key": token_for(cluster, "blind", "blind", rules), "validate_certs": False}
    item["spec"]["template"]["spec"] = deployment(imagePullSecrets=[{"name": "registry"}])["spec"]["template"]["spec"]
    assert "Secret ml-models/registry, which Deployment ml-models/d names, does not exist: images" in run(item).text
    item["spec"]["replicas"] = 1
    done = run(item, connection=connection, check_mode=True, apply_prune=False)
    assert "Secret ml-models/registry, which Deployment ml-models/d names: whether it exists is not known" in done.text


def test_a_claim_that_no_pod_could_mount_is_told_in_the_plan(run, cluster, namespace):
    """Of ours that is to be made, and of one that somebody made; with the rights of docs/rbac.yaml, and those to make claims."""
    connection = listed_rights(cluster)

    def told(*objects):
        return run(*objects, check=False, check_mode=True, connection=connection)

    no_default = "names no StorageClass, and the cluster has no default one"
    assert f"PersistentVolumeClaim ml-models/c {no_default}" in told(claim("c")).failed
    assert "asks for a volume without a StorageClass, and there is none" in told(claim("c", storageClassName="")).failed
    assert "PersistentVolume pv-none, which" in told(claim("c", volumeName="pv-none")).failed
    # A volume that was made for it is enough, and so is a default class.
    volume(cluster, "c")
    assert not told(claim("c", storageClassName="")).failed
    assert not told(claim("c")).failed
    cluster.api("DELETE", "/api/v1/persistentvolumes/pv-c")
    default = storage_class("csi", mode="WaitForFirstConsumer")
    default["metadata"]["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
    cluster.api("POST", CLASSES, default)
    assert not told(claim("c")).failed
    # A driver that is not there: the class of EKS names it by its old name.
    old = storage_class("gp2", "kubernetes.io/aws-ebs", "WaitForFirstConsumer")
    cluster.api("POST", CLASSES, old)
    no_driver = "StorageClass gp2, for PersistentVolumeClaim ml-models/c: the cluster has no CSIDriver ebs.csi.aws.com"
    assert no_driver in told(claim("c", storageClassName="gp2")).text
    drivers = "/apis/storage.k8s.io/v1/csidrivers"
    cluster.api("POST", drivers, {"metadata": {"name": "ebs.csi.aws.com"}, "spec": {}})
    assert "no CSIDriver" not in told(claim("c", storageClassName="gp2")).text
    # Claims of somebody else. One that waits for its first pod is as it is to be.
    cluster.api("POST", CLASSES, storage_class("now"))
    volume(cluster, "another")
    for name, of in {"first": "csi", "waits": "now", "waits-too": "", "gone": "gp9", "going": "csi"}.items():
        cluster.api("POST", CLAIMS, claim(name, storageClassName=of))
    cluster.api("POST", "/api/v1/namespaces/default/persistentvolumeclaims", claim("there", storageClassName="csi"))
    cluster.api("PATCH", f"{CLAIMS}/going", {"metadata": {"finalizers": ["example.com/held"]}})
    cluster.api("DELETE", f"{CLAIMS}/going")
    of = {name: told(mounting(name)) for name in ("first", "waits", "waits-too", "gone", "going", "there")}
    assert not of["first"].failed + of["waits"].failed + of["waits-too"].failed
    assert "ml-models/waits-too, which Deployment ml-models/of-waits-too names, is not bound" in of["waits-too"].text
    assert "is not bound" not in of["first"].text
    assert (
        "ml-models/waits, which Deployment ml-models/of-waits names, is not bound, and its pods will wait"
        in of["waits"].text
    )
    assert "StorageClass gp9, which PersistentVolumeClaim ml-models/gone names, does not exist" in of["gone"].failed
    assert "ml-models/going, which Deployment ml-models/of-going names, is being deleted" in of["going"].failed
    assert (
        "PersistentVolumeClaim ml-models/there, which Deployment ml-models/of-there names, does not exist"
        in of["there"].failed
    )
    elsewhere = "does not exist (one of that name is in default, and pods mount claims of their own namespace)"
    assert elsewhere in run(mounting("there"), check=False, check_mode=True).failed
    # An account's pull secrets are looked for, too.
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}}
    cluster.api("POST", f"/api/v1{PLACE}/serviceaccounts", account | {"imagePullSecrets": [{"name": "registry"}]})
    found = run(deployment(serviceAccountName="a"), check=False, check_mode=True)
    assert "Secret ml-models/registry, which ServiceAccount ml-models/a names, does not exist: images" in found.text


def test_a_claim_below_what_is_downloaded_into_it_is_told_in_the_plan(run, cluster, namespace):
    """Of one that many nodes mount it is no more than a warning: its class may not keep to sizes."""
    for name, mode in {"own": "ReadWriteOnce", "shared": "ReadWriteMany"}.items():
        volume(cluster, name, accessModes=[mode])
        cluster.api("POST", CLAIMS, claim(name, storageClassName="", accessModes=[mode]))
    for name in ("own", "shared"):
        wait_until(lambda name=name: cluster.api("GET", f"{CLAIMS}/{name}")["status"]["phase"] == "Bound")

    def told(name, gib):
        return run(mounting(name), check=False, check_mode=True, holds={name: gib * 2**30})

    less = (
        "Deployment ml-models/of-own names, has 1Gi, and 9.3 GiB are downloaded into it, which would fail at each start"
    )
    assert less in told("own", 9.3).failed
    assert not told("own", 0.9).failed
    many = told("shared", 9.3)
    assert not many.failed
    assert "has 1Gi, and 9.3 GiB are downloaded into it: where its class keeps to sizes" in many.text


def test_what_a_quota_has_no_room_for_together_is_refused_before_the_first_write(run, cluster, namespace):
    quotas = f"/api/v1{PLACE}/resourcequotas"
    # The record of the release is one, too.
    hard = {"count/configmaps": "3", "requests.cpu": "3"}
    cluster.api("POST", quotas, {"metadata": {"name": "few"}, "spec": {"hard": hard}})
    wait_until(lambda: "used" in cluster.api("GET", f"{quotas}/few")["status"])
    item = deployment(replicas=2)
    item["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": 2}}
    before = cluster.resource_versions()
    several = [config_map(name, k="v") for name in ("one", "two", "zoo")]
    done = run(*several, item, check=False)
    assert "this run needs 3: ConfigMap one 1, ConfigMap two 1, ConfigMap zoo 1" in done.failed
    assert "has room for 3 requests.cpu (0 of 3 used), and this run needs 4: Deployment d 4" in done.failed
    assert cluster.resource_versions() == before
    run(config_map("one", k="v"))


def test_a_rollout_that_finds_no_node_is_explained_and_the_lock_freed(play, cluster):
    done = play(deployment(selector={"workload": "nowhere"}), check=False, apply_capacity_timeout=1)
    assert done.returncode
    assert "cluster local: Deployment ml-models/d is not rolled out: no node took its pod in 1 s" in done.text
    assert "(apply_capacity_timeout)" in done.text
    assert "pod d-" in done.text
    assert "kubectl -n ml-models describe deployment d" in done.text
    assert cluster.api("GET", LEASE)["spec"]["holderIdentity"] == ""


def test_everything_that_is_wrong_is_told_at_once(run, play, cluster):
    run(config_map("other", k="v"))
    before = cluster.resource_versions()
    done = play(deployment(restartPolicy="Sometimes"), config_map("one", k="v") | {"dat": {}}, check=False)
    assert done.returncode
    assert "cluster local: Nothing was applied. 2 problems:" in done.text
    assert "restartPolicy" in done.text
    assert "ConfigMap ml-models/one" in done.text
    assert cluster.resource_versions() == before


# --- What changes, and what does not ------------------------------------------------------------------


def test_respelt_quantities_are_no_change(run):
    def item(cpu, memory):
        found = deployment(replicas=1)
        found["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu, "memory": memory}}
        return found

    run(item("4000m", "1024Mi"))
    assert run(item("4", "1Gi")).changed == 0


def test_a_removed_field_leaves_the_cluster(run, cluster):
    run(config_map("one", k="v", gone="1"))
    run(config_map("one", k="v"))
    assert config_maps(cluster) == {"one": {"k": "v"}}


def test_what_a_person_changed_is_taken_back_with_a_notice(run, cluster, kubectl):
    objects = [deployment(), config_map("one", k="v")]
    run(*objects)
    kubectl("scale", "deployment/d", "--replicas=5")
    kubectl("set", "env", "deployment/d", "FOO=bar", "DB_PASSWORD=hunter2")
    kubectl("label", "cm/one", "x=y")
    done = run(*objects)
    assert "taking back what kubectl changed: spec.replicas 5 -> 2" in done.text
    assert "taking back what kubectl-set (" in done.text
    assert "hunter2" not in done.text
    live = cluster.api("GET", DEPLOYMENT)["spec"]
    assert live["replicas"] == 2
    assert [entry["name"] for entry in live["template"]["spec"]["containers"][0]["env"]] == ["A"]
    assert "x" not in cluster.api("GET", f"{CONFIG_MAPS}/one")["metadata"]["labels"]
    assert run(*objects).changed == 0


def service(port=8000, **spec):
    ports = [{"name": "http", "port": port, "targetPort": "http"}, {"name": "metrics", "port": 8002}]
    found = {"selector": {"app": "d"}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": found}


def budget(**limit):
    found = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}}
    return {**found, "spec": {"selector": {"matchLabels": {"app": "d"}}, **limit}}


def contradicted():
    """A Deployment, and edits of it that can't stand beside what it sets."""
    item = deployment(replicas=0, volumes=[{"name": "cache", "emptyDir": {}}])
    item["spec"]["template"]["spec"]["containers"][0] |= {
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
        "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
    }
    pod, container = "/spec/template/spec", "/spec/template/spec/containers/0"
    field = {"fieldRef": {"fieldPath": "spec.nodeName"}}
    edits = {
        f"{container}/ports/0/containerPort": 80,
        f"{container}/readinessProbe": {"tcpSocket": {"port": 80}},
        f"{container}/lifecycle/preStop": {"sleep": {"seconds": 5}},
        f"{pod}/volumes/0": {"name": "cache", "hostPath": {"path": "/tmp"}},
        f"{container}/env/0": {"name": "A", "valueFrom": field},
        "/spec/strategy": {"type": "Recreate"},
    }
    return item, edits


def edited(kubectl, name, edits, *args):
    patch = [{"op": "replace", "path": path, "value": value} for path, value in edits.items()]
    kubectl("patch", name, "--type=json", "--patch", json.dumps(patch), *args)


@pytest.mark.parametrize("more", [{}, {"apply_force": True}], ids=["", "force"])
def test_an_edit_that_contradicts_what_is_applied_is_taken_back(run, cluster, kubectl, more):
    """Of a list's key, or of fields of which there can be one: the API server accepts neither both nor a dry run of both."""
    item, edits = contradicted()
    objects = [item, service(), budget(maxUnavailable=1)]
    run(*objects)
    before = [cluster.api("GET", path)["spec"] for path in (DEPLOYMENT, SERVICE, BUDGET)]
    edited(kubectl, "deployment/d", edits)
    edited(kubectl, "service/s", {"/spec/ports/0/port": 80})
    edited(kubectl, "service/s", {"/spec/type": "NodePort"}, "--field-manager=modelyard")
    edited(kubectl, "pdb/b", {"/spec": budget(minAvailable=1)["spec"]})
    planned = run(*objects, check_mode=True, **more)
    done = run(*objects, **more)
    assert "Service ml-models/s: taking back what kubectl-patch (" in done.text
    assert "spec.ports[http].port 80 -> 8000" in done.text
    assert "Service ml-models/s: taking back what modelyard (" in done.text
    assert planned.plan["diff"] == done.plan["diff"]
    assert [cluster.api("GET", path)["spec"] for path in (DEPLOYMENT, SERVICE, BUDGET)] == before
    assert run(*objects).changed == 0


def test_what_runs_already_is_adopted_where_it_contradicts(run, cluster, kubectl, namespace):
    item, edits = contradicted()
    kubectl("create", "-f", "-", input=json.dumps(item))
    edited(kubectl, "deployment/d", edits)
    for other in (service(80, type="LoadBalancer"), budget(minAvailable=1)):
        kubectl("apply", "-f", "-", input=json.dumps(other))
    objects = [item, service(), budget(maxUnavailable=1)]
    run(*objects)
    found = cluster.api("GET", SERVICE)["spec"]
    assert (found["type"], [port["port"] for port in found["ports"]]) == ("ClusterIP", [8000, 8002])
    assert "minAvailable" not in cluster.api("GET", BUDGET)["spec"]
    assert run(*objects).changed == 0


def test_a_controllers_contradiction_is_told_with_its_name_and_taken_back_when_asked(run, cluster, kubectl):
    run(service())
    edited(kubectl, "service/s", {"/spec/ports/0/port": 80}, "--field-manager=some-controller")
    assert "Fields of some-controller are left alone" in run(service(), check=False).failed
    run(service(), apply_adopt_managers=["some-controller"])
    assert [port["port"] for port in cluster.api("GET", SERVICE)["spec"]["ports"]] == [8000, 8002]


def test_what_defaults_filled_in_below_an_edit_goes_with_it_and_a_restarts_mark_stays(run, cluster, kubectl):
    """By an apply of one's own, which owns no default: what is left of a probe or a strategy without it would be refused."""
    item = deployment(replicas=0)
    item["spec"]["strategy"] = {"type": "Recreate"}
    run(item)
    before = cluster.api("GET", DEPLOYMENT)
    edit = deployment(replicas=0)
    edit["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "30%"}}
    edit["spec"]["template"]["metadata"]["annotations"] = {fields.RESTARTED_AT: "2026-01-01T00:00:00Z", "x": "y"}
    edit["spec"]["template"]["spec"]["containers"][0]["livenessProbe"] = {"grpc": {"port": 80}}
    edit["spec"]["template"]["spec"]["os"] = {"name": "linux"}
    edit["metadata"]["finalizers"] = ["registry.example/x"]
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(edit))
    planned, done = run(item, check_mode=True), run(item)
    assert planned.plan["diff"] == done.plan["diff"]
    assert 'metadata.finalizers: - "registry.example/x"' in done.text
    live = cluster.api("GET", DEPLOYMENT)
    assert live["spec"]["template"]["metadata"].pop("annotations") == {fields.RESTARTED_AT: "2026-01-01T00:00:00Z"}
    assert (live["spec"], live["metadata"].get("finalizers")) == (before["spec"], None)
    assert run(item).changed == 0


def test_a_headless_service_is_not_adopted_without_a_word(run, cluster, kubectl, namespace):
    kubectl("create", "-f", "-", input=json.dumps(service(clusterIP="None")))
    before = cluster.resource_versions()
    done = run(service(), check=False)
    assert "Service ml-models/s is headless (clusterIP: None)" in done.failed
    assert "kubectl -n ml-models delete service s" in done.failed
    assert cluster.resource_versions() == before


def test_a_restart_by_kubectl_is_left_alone(run, cluster, kubectl):
    run(deployment())
    first = pod_uids(cluster)
    kubectl("rollout", "restart", "deployment/d")
    rolled_out(cluster)
    before = pod_uids(cluster)
    assert not set(first) & set(before)
    assert run(deployment()).changed == 0
    assert pod_uids(cluster) == before


def test_a_controllers_field_is_a_conflict_that_names_it_and_force_takes_it(run, play, cluster):
    run(deployment())
    autoscale(cluster, 4)
    before = cluster.resource_versions()
    done = run(deployment(), check=False)
    assert "Deployment ml-models/d: some-autoscaler owns spec.replicas" in done.failed
    assert cluster.resource_versions() == before
    assert play(deployment(), apply_force=True).changed
    assert cluster.api("GET", DEPLOYMENT)["spec"]["replicas"] == 2


def test_replicas_left_out_belong_to_the_autoscaler(run, cluster):
    run(deployment(replicas=None))
    autoscale(cluster, 4)
    assert run(deployment(replicas=None)).changed == 0
    assert cluster.api("GET", DEPLOYMENT)["spec"]["replicas"] == 4


def test_replicas_are_handed_over_as_they_are(run, cluster):
    run(deployment(replicas=3))
    before = pod_uids(cluster)
    assert len(before) == 3
    run(deployment(replicas=None))
    assert cluster.api("GET", DEPLOYMENT)["spec"]["replicas"] == 3
    assert pod_uids(cluster) == before
    assert run(deployment(replicas=None)).changed == 0


@pytest.mark.parametrize(
    "how",
    [
        ["apply"],
        ["apply", "--server-side"],
        ["create"],
        ["apply", "--server-side", "--field-manager=argocd-controller"],
    ],
    ids=" ".join,
)
def test_what_runs_already_is_adopted_without_a_restart(run, cluster, kubectl, namespace, how):
    item = deployment()
    item["metadata"]["labels"] = {"stale": "1"}
    kubectl(*how, "-f", "-", input=json.dumps(item))
    rolled_out(cluster)
    before = pod_uids(cluster)
    assert "Deployment ml-models/d" in run(deployment()).text
    live = cluster.api("GET", DEPLOYMENT)
    assert KUBECTL_APPLIED not in live["metadata"]["annotations"]
    assert "stale" not in live["metadata"]["labels"]
    assert {entry["manager"] for entry in live["metadata"]["managedFields"]} == {"modelyard", "kube-controller-manager"}
    assert pod_uids(cluster) == before
    assert run(deployment()).changed == 0


def test_what_changes_while_it_is_taken_back_is_looked_at_again(run, cluster, kubectl, monkeypatch):
    """A controller writes the status while pods come and go."""
    run(deployment())
    kubectl("scale", "deployment/d", "--replicas=3")
    rolled_out(cluster)
    absorbed, looks = fields.absorbed, []

    def meanwhile(live, *others):
        looks.append(live["metadata"]["resourceVersion"])
        if len(looks) < 3:
            status = {"status": {"conditions": [{"type": f"Seen{len(looks)}", "status": "True"}]}}
            cluster.api("PATCH", f"{DEPLOYMENT}/status", status)
        return absorbed(live, *others)

    monkeypatch.setattr(fields, "absorbed", meanwhile)
    assert run(deployment()).changed
    assert len(looks) > 2
    assert cluster.api("GET", DEPLOYMENT)["spec"]["replicas"] == 2


# --- What goes ----------------------------------------------------------------------------------------


def test_pruning_stays_within_label_component_and_cluster(run, cluster):
    run(config_map("ours", k="v"), config_map("gone", k="v"))
    run(config_map("neighbour", k="v"), component="triton")
    run(config_map("elsewhere", k="v"), platform_cluster_name="another")
    cluster.api("POST", CONFIG_MAPS, config_map("theirs"))
    done = run(config_map("ours", k="v"))
    assert "prune ConfigMap ml-models/gone" in done.said
    assert set(config_maps(cluster)) == {"ours", "neighbour", "elsewhere", "theirs"}


def test_pruning_can_be_turned_off(run, cluster):
    run(config_map("one", k="v"), config_map("two", k="v"))
    assert run(config_map("one", k="v"), apply_prune=False).changed == 0
    assert set(config_maps(cluster)) == {"one", "two"}


def test_a_claim_is_pruned_only_when_asked(run, cluster):
    volume(cluster, "cache")
    run(config_map("one", k="v"), claim("cache"))
    run(config_map("one", k="v"))
    assert cluster.api("GET", f"{CLAIMS}/cache")
    run(config_map("one", k="v"), apply_prune_kinds=[{"api_version": "v1", "kind": "PersistentVolumeClaim"}])
    assert cluster.api("GET", CLAIMS)["items"] == []


# --- What is refused ----------------------------------------------------------------------------------


def test_an_object_of_an_absent_api_is_left_out_or_demanded(run, cluster):
    item = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {}}
    done = run(config_map("one", k="v"), item)
    assert "Widget ml-models/w: the cluster has no API example.com/v1 Widget" in done.text
    assert config_maps(cluster) == {"one": {"k": "v"}}
    before = cluster.resource_versions()
    done = run(config_map("one", k="w"), item, apply_require_apis=True, check=False)
    assert "apply_require_apis" in done.failed
    assert cluster.resource_versions() == before


# What only objects of a test can have; what an inventory can have is in test_bad_input.py.
BAD = {
    "unknown field of a custom resource": (
        [
            {
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "ServiceMonitor",
                "metadata": {"name": "m"},
                "spec": {"endpoints": [], "selector": {}, "oops": 1},
            }
        ],
        {},
        "oops",
    ),
    "invalid value": ([deployment(restartPolicy="Sometimes")], {}, "restartPolicy"),
    "two objects with one name": (
        [config_map("one", k="v"), config_map("one", k="w")],
        {},
        "ConfigMap ml-models/one is rendered twice",
    ),
    "no cluster named": ([config_map("one", k="v")], {"api_server": ""}, "the inventory does not name the cluster"),
}


@pytest.mark.parametrize("first", [True, False], ids=["first run", "later run"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input_leaves_the_cluster_untouched(run, cluster, case, first):
    if not first:
        run(config_map("other", k="v"))
    objects, variables, message = BAD[case]
    before = cluster.resource_versions()
    done = run(*objects, check=False, **variables)
    assert done.failed.startswith("cluster local: Nothing was applied. ")
    assert message in done.failed
    assert cluster.resource_versions() == before


def test_an_immutable_selector_is_explained(run, cluster):
    run(deployment())
    changed = deployment()
    changed["spec"]["selector"]["matchLabels"] = changed["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    before = cluster.resource_versions()
    done = run(changed, check=False)
    assert "An immutable field can't be changed in place" in done.failed
    assert cluster.resource_versions() == before


def test_a_credential_that_may_not_is_told_which_verb_on_which_kind(run, cluster):
    run(config_map("one", k="v"))
    viewer = token_for(cluster, "viewer", "view")
    before = cluster.resource_versions()
    connection = {"host": cluster.url, "api_key": viewer, "validate_certs": False}
    done = run(config_map("one", k="w"), deployment(), check=False, connection=connection)
    assert "this credential may not create, delete, patch configmaps in namespace ml-models" in done.failed
    assert "this credential may not create, delete, patch deployments (apps) in namespace ml-models" in done.failed
    assert viewer not in done.text
    assert cluster.resource_versions() == before


def test_a_role_that_grants_more_than_the_credential_holds_is_refused_on_a_first_run(run, play, cluster):
    kinds = {
        "": ["namespaces", "serviceaccounts", "configmaps", "services"],
        "apps": ["deployments"],
        "coordination.k8s.io": ["leases"],
        "rbac.authorization.k8s.io": ["roles", "rolebindings"],
        "networking.k8s.io": ["networkpolicies"],
        "policy": ["poddisruptionbudgets"],
        "monitoring.coreos.com": ["servicemonitors", "prometheusrules"],
    }
    # No "*": it would hold the verb escalate.
    verbs = ["get", "list", "create", "update", "patch", "delete"]
    rules = [{"apiGroups": [group], "resources": names, "verbs": verbs} for group, names in kinds.items()]
    token = token_for(cluster, "deployer", "deployer", rules)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "too-much"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
    }
    before = cluster.resource_versions()
    connection = {"host": cluster.url, "api_key": token, "validate_certs": False}
    done = run(role, check=False, connection=connection)
    assert "attempting to grant RBAC permissions not currently held" in done.failed
    assert cluster.resource_versions() == before
    # What it may do, it does; and kubernetes.core, which shows its arguments with -vvv, does not show the token.
    done = play(config_map("one", k="v"), connection=connection, args=["-vvv", "--diff"])
    assert done.changed == 2
    assert config_maps(cluster) == {"one": {"k": "v"}}
    assert token not in done.stdout + done.stderr


def test_a_binding_may_wait_for_its_role(run, cluster):
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": []}
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": NAMESPACE}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "b"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "r"},
        "subjects": [subject],
    }
    run(config_map("one", k="v"))
    assert run(binding, role).changed
    assert cluster.api("GET", f"{RBAC}{PLACE}/rolebindings/b")


def sized(memory):
    item = deployment(selector={"workload": "gpu-vllm"}, replicas=1)
    item["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"memory": memory}}
    return item


def test_real_nodes_have_the_last_word_on_what_fits(run, cluster):
    run(config_map("other", k="v"))
    before = cluster.resource_versions()
    done = run(sized("14Gi"), check=False)
    assert "Deployment d fits on none of the 2 nodes that its node selector finds" in done.failed
    assert "the pod asks for 14336Mi memory, it has 14162Mi" in done.failed
    assert cluster.resource_versions() == before
    # The inventory's table says no, the nodes say yes.
    done = run(sized("12Gi"), misfits=["too large for the table"])
    assert done.changed
    line = "Deployment d: an empty node of its pool gives enough, and by the inventory it does not: too large for the table"
    assert line in done.plan["warnings"]


def test_without_a_node_the_table_decides(run, cluster):
    before = cluster.resource_versions()
    item = deployment(selector={"workload": "starts-from-zero"})
    done = run(item, check=False, misfits=["d is too large for the table"])
    assert "d is too large for the table" in done.failed
    assert cluster.resource_versions() == before


def test_gpus_that_are_taken_are_told_before_anything_waits_for_them(run, cluster, namespace):
    """By the rights of docs/rbac.yaml, and by those of one namespace."""
    connection = listed_rights(cluster)

    def server(name, surge=0, value="b", replicas=1):
        item = deployment(name, replicas, selector={"workload": "gpu-vllm"})
        item["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": 1 - surge}}
        container = item["spec"]["template"]["spec"]["containers"][0]
        container["resources"] = {"limits": {"nvidia.com/gpu": 1}}
        container["env"][0]["value"] = value
        return item

    def told(*objects):
        return run(*objects, check_mode=True, connection=connection).text

    run(server("d", replicas=2))
    changed = told(server("d", value="c", replicas=2))
    assert "replaces 1 of its 2 pods at a time: 1 serve on" in changed
    assert "no room" not in changed
    beside = told(server("d", 1, "c", 2))
    assert "replaces its 2 pods, which serve until new ones are ready" in beside
    assert "the pod that this run starts beside the old will find no room on the 2 nodes of its pool now" in beside
    assert "0 of 2 nvidia.com/gpu are free; taken by ml-models/d-" in beside
    assert "spare_nodes: 0 in the hardware profile" in beside
    further = told(server("d", replicas=2), server("e"))
    assert "Deployment ml-models/e: the pod that this run starts will find no room" in further
    # Its pods go in the same run.
    assert "no room" not in told(server("e"))
    assert "no room" not in told(server("d", replicas=1), server("e"))
    cluster.kubectl("delete", "clusterrolebinding", "modelyard")
    assert "find no room" not in told(server("d", replicas=2), server("e"))
    # Nodes without others' pods: only what is known is told.
    rules = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]
    cluster.api("POST", f"{RBAC}/clusterroles", {"metadata": {"name": "nodes"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "deployer", "namespace": "modelyard"}
    binding = {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "nodes"}}
    cluster.api(
        "POST", f"{RBAC}/clusterrolebindings", {"metadata": {"name": "nodes"}, "subjects": [subject], **binding}
    )
    assert "(pods outside ml-models are not seen)" in told(server("d", replicas=2), server("e"))


@pytest.mark.parametrize(
    "mark",
    [
        {"annotations": {"argocd.argoproj.io/tracking-id": "vllm-inference:apps/Deployment:ml-models/d"}},
        {"labels": {"app.kubernetes.io/instance": "vllm-inference"}},
    ],
    ids=["annotation", "label"],
)
def test_what_argocd_keeps_in_sync_is_not_fought_over(run, cluster, kubectl, namespace, mark):
    applications = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications"
    application = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "vllm-inference", "namespace": "argocd"},
        "spec": {"project": "default", "destination": {}, "source": {"repoURL": "x"}, "syncPolicy": {"automated": {}}},
    }
    cluster.api("POST", applications, application)
    item = deployment()
    item["metadata"] |= mark
    kubectl("apply", "--server-side", "--field-manager=argocd-controller", "-f", "-", input=json.dumps(item))
    rolled_out(cluster)
    before = cluster.resource_versions()
    done = run(deployment(), check=False)
    assert "Deployment ml-models/d is kept in sync by Argo CD's Application argocd/vllm-inference" in done.failed
    assert cluster.resource_versions() == before
    cluster.api("DELETE", f"{applications}/vllm-inference")
    assert run(deployment()).changed


# --- Rollouts that fail -------------------------------------------------------------------------------


def test_pods_that_are_refused_are_explained(run, cluster, namespace, monkeypatch):
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.api("PATCH", f"/api/v1{PLACE}", {"metadata": {"labels": restricted}})
    monkeypatch.setattr(rollout, "REFUSED_SECONDS", 1)
    started = time.monotonic()
    done = run(deployment(), check=False)
    assert time.monotonic() - started > 1
    assert "its pods are refused" in done.failed
    assert "violates PodSecurity" in done.failed


CRASHED = {
    "name": "c",
    "image": "a:1",
    "imageID": "",
    "ready": False,
    "restartCount": 4,
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container=c"}},
    "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
}
UNCONFIGURED = {
    **CRASHED,
    "restartCount": 0,
    "state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "hf" not found'}},
    "lastState": {},
}


CREATING = {
    **UNCONFIGURED,
    "state": {"waiting": {"reason": "ContainerCreating"}},
}
UNMOUNTED = 'MountVolume.SetUp failed for volume "tls" : secret "tls" not found'


@pytest.mark.parametrize(
    ("status", "event", "told"),
    [
        (CRASHED, "", ["container c: CrashLoopBackOff", "last exit OOMKilled (code 137); 4 restarts"]),
        (UNCONFIGURED, "", ["container c: CreateContainerConfigError", 'secret "hf" not found']),
        (CREATING, UNMOUNTED, [f"a volume is not mounted: {UNMOUNTED}", "event Warning FailedMount"]),
    ],
    ids=["crash loop", "configuration", "volume"],
)
def test_a_container_that_will_not_start_is_explained_at_once(run, cluster, monkeypatch, status, event, told):
    """kwok is stopped, and the test writes what a kubelet would write: the pod's status, an event."""
    monkeypatch.setitem(rollout.PATIENCE_SECONDS, "CreateContainerConfigError", 1)
    monkeypatch.setattr(volumes, "ABSENT_SECONDS", 1)
    # No kubelet answers when the pod's log is asked for.
    monkeypatch.setattr(client, "IMPATIENT", 1)
    kwok = cluster.processes()["kwok-controller"]
    os.kill(kwok, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(run, deployment(replicas=1), check=False)
            pods = []

            def placed():
                assert not running.done(), running.result().text
                pods[:] = cluster.api("GET", PODS).get("items", [])
                return pods and pods[0]["spec"].get("nodeName")

            wait_until(placed)
            pod = pods[0]["metadata"]["name"]
            waiting = {"status": {"phase": "Pending", "containerStatuses": [status]}}
            cluster.api("PATCH", f"{PODS}/{pod}/status", waiting)
            if event:
                about = {"kind": "Pod", "namespace": NAMESPACE, "name": pod}
                seen = {"reason": "FailedMount", "type": "Warning", "message": event, "involvedObject": about}
                cluster.api("POST", f"/api/v1{PLACE}/events", {"metadata": {"name": f"{pod}.1"}, **seen})
            done = running.result(timeout=60)
    finally:
        os.kill(kwok, signal.SIGCONT)
    assert "Deployment ml-models/d: 0 of 1 ready" in done.text
    for words in [
        "Deployment ml-models/d is not rolled out",
        f"pod {pod} on cpu-compute-",
        *told,
        "(no log: ",
        "Nothing serves now",
        "kubectl -n ml-models describe deployment d",
    ]:
        assert words in done.failed


# What keeps a claim from a pod, and what is told of it.
UNBOUND = {
    "absent": "its PersistentVolumeClaim absent does not exist",
    "no-class": 'is not bound: storageclass.storage.k8s.io "gp9" not found',
    "no-default": "is not bound: no persistent volumes available for this claim and no storage class is set",
    "unanswered": "no provisioner has taken it up: Waiting for a volume to be created either by the external provisioner",
    "first-consumer": "no provisioner has taken it up: Waiting for a volume to be created either by the external provisioner",
    "by-hand": "no node that has room can have its volume: 0/6 nodes are available",
    "other-zone": "no node that has room can have its volume: 0/6 nodes are available",
    "lost": "has lost its volume pv-lost",
    "going": "is being deleted, and no new pod can mount it",
}


def test_a_volume_that_will_not_come_is_a_cause_of_its_own(cluster, namespace, monkeypatch):
    """The claims, their controllers and the scheduler are real; nobody provisions anything here."""
    for name in ("ABSENT_SECONDS", "UNBOUND_SECONDS", "UNANSWERED_SECONDS"):
        monkeypatch.setattr(volumes, name, 1)
    cluster.api("POST", CLASSES, storage_class("csi"))
    cluster.api("POST", CLASSES, storage_class("csi-later", mode="WaitForFirstConsumer"))
    cluster.api("POST", CLASSES, storage_class("local", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"))
    of_class = {"no-class": "gp9", "unanswered": "csi", "first-consumer": "csi-later", "by-hand": "local"}
    for name, of in of_class.items():
        cluster.api("POST", CLAIMS, claim(name, storageClassName=of))
    cluster.api("POST", CLAIMS, claim("no-default"))
    term = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["eu-central-1b"]}
    volume(cluster, "other-zone", nodeAffinity={"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}})
    volume(cluster, "lost")
    for name in ("other-zone", "lost", "going"):
        cluster.api("POST", CLAIMS, claim(name, storageClassName=""))
    wait_until(lambda: cluster.api("GET", f"{CLAIMS}/lost")["status"]["phase"] == "Bound")
    cluster.api("DELETE", "/api/v1/persistentvolumes/pv-lost")
    cluster.api("PATCH", "/api/v1/persistentvolumes/pv-lost", {"metadata": {"finalizers": None}})
    wait_until(lambda: cluster.api("GET", f"{CLAIMS}/lost")["status"]["phase"] == "Lost")
    cluster.api("PATCH", f"{CLAIMS}/going", {"metadata": {"finalizers": ["example.com/held"]}})
    cluster.api("DELETE", f"{CLAIMS}/going")
    # Of the pool "gpu" there is one node, in another zone.
    items = {name: mounting(name, {"workload": "gpu"} if name == "other-zone" else None) for name in UNBOUND}
    for item in items.values():
        cluster.api("POST", f"/apis/apps/v1{PLACE}/deployments", item)
    reached = client.Cluster({"kubeconfig": str(cluster.kubeconfig)})

    def waited(name):
        said, item = [], items[name]
        item["metadata"]["namespace"] = NAMESPACE
        watch = rollout.Watch(reached, {"capacity_timeout": 60, "margin": 60}, said.append, lambda: None)
        with pytest.raises(rollout.Failed) as failed:
            watch.wait([item])
        assert UNBOUND[name] in " ".join(said)
        return str(failed.value)

    told = dict(zip(items, reached.parallel(waited, list(items)), strict=True))
    for name, words in UNBOUND.items():
        assert words in told[name].splitlines()[0], told[name]
        assert f"    claim {name}: " in told[name]
    assert (
        "claim other-zone: Bound, no StorageClass, volume pv-other-zone, for nodes with topology.kubernetes.io/zone In eu-central-1b"
        in told["other-zone"]
    )
    assert "event Warning ProvisioningFailed: storageclass" in told["no-class"]
    assert "event Normal FailedBinding: no persistent volumes" in told["no-default"]


# --- The lock -----------------------------------------------------------------------------------------


def test_a_lock_is_waited_for_and_its_holder_named(run, cluster):
    run(config_map("one", k="v"))
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    spec = {
        "holderIdentity": "ada@laptop (process 7)",
        "leaseDurationSeconds": 120,
        "acquireTime": now,
        "renewTime": now,
    }
    # On another machine: whether its process lives can't be known from here.
    cluster.api("PATCH", LEASE, {"metadata": {"annotations": None}, "spec": spec})
    before = cluster.resource_versions()
    done = run(config_map("one", k="w"), check=False, apply_lock_wait=1)
    assert "another run holds the lock (Lease modelyard): ada@laptop (process 7) since" in done.failed
    # Also when it would end, if that run were dead.
    waiting = re.search(
        r"waiting for another run: ada@laptop .*? It renewed the lock (\d+) s ago; .* frees itself in (\d+) s",
        done.text,
    )
    assert sum(map(int, waiting.groups())) in (119, 120, 121)
    assert cluster.resource_versions() == before
    # A run that has nothing to write needs no lock.
    assert run(config_map("one", k="v")).changed == 0
    spec["renewTime"] = spec["acquireTime"] = "2026-01-01T00:00:00.000000Z"
    cluster.api("PATCH", LEASE, {"spec": spec})
    assert run(config_map("one", k="w")).changed


@pytest.fixture
def process():
    """Start processes that stand for ansible-playbook: its end is what frees a lock."""
    started = []

    def process_():
        started.append(subprocess.Popen(["sleep", "600"]))
        return started[-1]

    yield process_
    for each in started:
        each.kill()
        each.wait()


def test_a_living_runs_lock_is_left_to_it_and_a_killed_ones_taken_over_at_once(run, cluster, process, monkeypatch):
    run(config_map("one", k="v"))
    other = process()
    with monkeypatch.context() as awx:
        awx.setenv("AWX_JOB_ID", "4711")
        lock = Lock(client.Cluster({"kubeconfig": str(cluster.kubeconfig)}), NAMESPACE, "modelyard", other.pid)
    lock.acquire(lock.read(), 0, pytest.fail)
    before, lease = cluster.resource_versions(), cluster.api("GET", LEASE)
    done = run(config_map("one", k="w"), check=False, apply_lock_wait=1)
    assert f"(AWX job 4711) since {lease['spec']['acquireTime']}" in done.failed
    assert cluster.resource_versions() == before
    assert cluster.api("GET", LEASE) == lease
    other.kill()
    # It has ended, and nobody asks how: as in a container, where it stays in the list of processes.
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert run(config_map("one", k="w"), apply_lock_wait=0).changed
    assert cluster.api("GET", LEASE)["spec"]["holderIdentity"] == ""


def test_a_run_with_nothing_to_write_frees_a_dead_runs_lock(run, cluster, process):
    run(config_map("one", k="v"))
    dead = process()
    Lock(client.Cluster({"kubeconfig": str(cluster.kubeconfig)}), NAMESPACE, "modelyard", dead.pid).acquire(
        None, 0, print
    )
    holder = cluster.api("GET", LEASE)["spec"]["holderIdentity"]
    run(config_map("one", k="v"))
    assert cluster.api("GET", LEASE)["spec"]["holderIdentity"] == holder != ""
    dead.kill()
    dead.wait()
    run(config_map("one", k="v"), check_mode=True)
    assert cluster.api("GET", LEASE)["spec"]["holderIdentity"] == holder
    run(config_map("one", k="v"))
    assert cluster.api("GET", LEASE)["spec"]["holderIdentity"] == ""


def test_a_run_with_nothing_left_to_write_leaves_the_lock_to_others(run, cluster, process):
    """It waited, and the other run wrote everything; only the namespace was its own."""
    done = run(config_map("one", k="v"))
    lock = Lock(client.Cluster({"kubeconfig": str(cluster.kubeconfig)}), NAMESPACE, "modelyard", process().pid)
    lock.acquire(lock.read(), 0, pytest.fail)
    lease = cluster.api("GET", LEASE)
    plan = {**done.plan, "apply": [], "changes": ["create Namespace ml-models"]}
    found = rendering(deployment(replicas=0), api_server=cluster.url)
    cluster.api("POST", DEPLOYMENT.rpartition("/")[0], deployment(replicas=0))
    rolled_out(cluster)
    act("rollout", [], connection={"kubeconfig": str(cluster.kubeconfig)}, rendered=found, plan=plan)
    assert cluster.api("GET", LEASE) == lease


def test_two_runs_at_once_end_as_one(run, cluster, process, monkeypatch):
    mine, parent = threading.local(), os.getppid()
    monkeypatch.setattr(os, "getppid", lambda: getattr(mine, "pid", parent))

    def go(pid):
        mine.pid = pid
        return run(deployment(), *(config_map(f"c{n}", k="v") for n in range(20)), check=False)

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(go, [process().pid, process().pid]))
    assert [done.failed for done in both] == ["", ""]
    assert sorted(len(done.plan["apply"]) for done in both) == [0, 21]
    assert sum(line == "create Namespace ml-models" for done in both for line in done.said) == 1
    assert set(config_maps(cluster)) == {f"c{n}" for n in range(20)}
    assert cluster.api("GET", LEASE)["spec"]["holderIdentity"] == ""
