"""The role apply against a real API server: apply, revert manual edits, conflicts, adoption, pruning, refusals, the lock."""

import json
import os
import re
import signal
import time

import pytest

NAMESPACE = "ml-models"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/modelyard"
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
def run(cluster, clean_platform, tmp_path):
    """Apply a list of objects; returns the finished process with its recap as numbers."""

    def run_(*objects, check=True, args=(), env=None, **variables):
        file = tmp_path / "vars.json"
        file.write_text(json.dumps({"objects": objects, **variables}))
        done = cluster.playbook("tests/playbooks/apply.yml", "-e", f"@{file}", *args, check=check, env=env)
        done.changed = int(re.search(r"changed=(\d+)", done.stdout).group(1))
        done.text = " ".join((done.stdout + done.stderr).split())
        return done

    return run_


@pytest.fixture
def kubectl(cluster):
    """kubectl in the platform's namespace; with JSON output, the decoded object."""

    def kubectl_(*args, **more):
        text = cluster.kubectl("-n", NAMESPACE, *args, **more).stdout
        return json.loads(text) if "json" in args else text

    return kubectl_


def autoscale(kubectl, replicas):
    """Do what an autoscaler does: set the replicas through the scale subresource, as a field manager of its own; pods follow."""
    patch = json.dumps({"spec": {"replicas": replicas}})
    who = "--field-manager=some-autoscaler"
    kubectl("patch", "deployment", "d", "--subresource=scale", "--type=merge", "-p", patch, who)
    kubectl("rollout", "status", "deployment/d", "--timeout=30s")


def pod_uids(kubectl):
    return sorted(pod["metadata"]["uid"] for pod in kubectl("get", "pods", "-o", "json")["items"])


def test_the_second_run_changes_nothing(run, cluster):
    objects = [deployment(), config_map("one", k="v")]
    assert run(*objects).changed
    before = cluster.resource_versions()
    again = run(*objects)
    assert again.changed == 0
    assert "nothing to change" in again.text
    assert cluster.resource_versions() == before


def test_respelt_quantities_are_no_change(run):
    def item(cpu, memory):
        found = deployment(replicas=1)
        found["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu, "memory": memory}}
        return found

    run(item("4000m", "1024Mi"))
    assert run(item("4", "1Gi")).changed == 0


def test_check_mode_tells_truly_and_writes_nothing_on_a_first_run(run, cluster):
    before = cluster.resource_versions()
    done = run(deployment(), config_map("one", k="v"), args=["--check", "--diff"])
    assert done.changed == 1
    assert "create Namespace ml-models" in done.text
    assert "create Deployment ml-models/d" in done.text
    assert "+ k: v" in done.text
    assert cluster.resource_versions() == before


def test_check_mode_tells_what_would_change_and_writes_nothing(run, cluster, kubectl):
    run(config_map("one", k="v"), config_map("two", k="v"))
    kubectl("patch", "cm", "one", "--type=merge", "-p", '{"data":{"extra":"1"}}')
    before = cluster.resource_versions()
    done = run(config_map("one", k="w"), args=["--check", "--diff"])
    assert done.changed == 1
    assert 'update ConfigMap ml-models/one: data.k "v" -> "w"; data.extra "1" -> (none)' in done.text.replace(
        'data.extra "1" -> (none); data.k "v" -> "w"', 'data.k "v" -> "w"; data.extra "1" -> (none)'
    )
    assert "prune ConfigMap ml-models/two" in done.text
    assert cluster.resource_versions() == before
    run(config_map("one", k="w"))
    assert kubectl("get", "cm", "one", "-o", "json")["data"] == {"k": "w"}


def test_a_removed_field_leaves_the_cluster(run, kubectl):
    run(config_map("one", k="v", gone="1"))
    run(config_map("one", k="v"))
    assert kubectl("get", "cm", "one", "-o", "json")["data"] == {"k": "v"}


def test_what_a_person_changed_is_taken_back_with_a_notice(run, kubectl):
    objects = [deployment(), config_map("one", k="v")]
    run(*objects)
    kubectl("scale", "deployment/d", "--replicas=5")
    kubectl("set", "env", "deployment/d", "FOO=bar")
    kubectl("label", "cm/one", "x=y")
    done = run(*objects)
    assert "taking back what kubectl changed: spec.replicas 5 -> 2" in done.text
    assert "taking back what kubectl-set (" in done.text
    live = kubectl("get", "deployment", "d", "-o", "json")["spec"]
    assert live["replicas"] == 2
    assert [entry["name"] for entry in live["template"]["spec"]["containers"][0]["env"]] == ["A"]
    assert "x" not in kubectl("get", "cm", "one", "-o", "json")["metadata"]["labels"]
    assert run(*objects).changed == 0


def test_a_restart_by_kubectl_is_left_alone(run, kubectl):
    run(deployment())
    kubectl("rollout", "restart", "deployment/d")
    kubectl("rollout", "status", "deployment/d", "--timeout=30s")
    before = pod_uids(kubectl)
    assert run(deployment()).changed == 0
    assert pod_uids(kubectl) == before


def test_a_controllers_field_is_a_conflict_that_names_it(run, cluster, kubectl):
    run(deployment())
    autoscale(kubectl, 4)
    before = cluster.resource_versions()
    done = run(deployment(), check=False)
    assert done.returncode
    assert "Deployment ml-models/d: some-autoscaler owns spec.replicas" in done.text
    assert cluster.resource_versions() == before
    assert run(deployment(), apply_force=True).changed
    assert kubectl("get", "deployment", "d", "-o", "json")["spec"]["replicas"] == 2


def test_replicas_left_out_belong_to_the_autoscaler(run, kubectl):
    run(deployment(replicas=None))
    autoscale(kubectl, 4)
    assert run(deployment(replicas=None)).changed == 0
    assert kubectl("get", "deployment", "d", "-o", "json")["spec"]["replicas"] == 4


def test_replicas_are_handed_over_as_they_are(run, kubectl):
    run(deployment(replicas=3))
    before = pod_uids(kubectl)
    assert len(before) == 3
    run(deployment(replicas=None))
    assert kubectl("get", "deployment", "d", "-o", "json")["spec"]["replicas"] == 3
    assert pod_uids(kubectl) == before
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
def test_what_runs_already_is_adopted_without_a_restart(run, cluster, kubectl, how):
    cluster.kubectl("create", "namespace", NAMESPACE)
    item = deployment()
    item["metadata"]["labels"] = {"stale": "1"}
    kubectl(*how, "-f", "-", input=json.dumps(item))
    kubectl("rollout", "status", "deployment/d", "--timeout=30s")
    before = pod_uids(kubectl)
    assert "Deployment ml-models/d" in run(deployment()).text
    live = kubectl("get", "deployment", "d", "-o", "json", "--show-managed-fields")
    assert KUBECTL_APPLIED not in live["metadata"]["annotations"]
    assert "stale" not in live["metadata"]["labels"]
    assert {entry["manager"] for entry in live["metadata"]["managedFields"]} == {"modelyard", "kube-controller-manager"}
    assert pod_uids(kubectl) == before
    assert run(deployment()).changed == 0


def test_pruning_stays_within_label_component_and_cluster(run, cluster, kubectl):
    run(config_map("ours", k="v"), config_map("gone", k="v"))
    run(config_map("neighbour", k="v"), component="triton")
    run(config_map("elsewhere", k="v"), platform_cluster_name="another")
    kubectl("create", "configmap", "theirs")
    done = run(config_map("ours", k="v"))
    assert "prune ConfigMap ml-models/gone" in done.text
    left = {item["metadata"]["name"] for item in kubectl("get", "cm", "-o", "json")["items"]}
    assert left == {"ours", "neighbour", "elsewhere", "theirs", "kube-root-ca.crt"}


def test_pruning_can_be_turned_off(run, kubectl):
    run(config_map("one", k="v"), config_map("two", k="v"))
    assert run(config_map("one", k="v"), apply_prune=False).changed == 0
    kubectl("get", "cm", "two")


def test_a_claim_is_pruned_only_when_asked(run, kubectl):
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "cache"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    run(config_map("one", k="v"), claim)
    run(config_map("one", k="v"))
    kubectl("get", "pvc", "cache")
    run(config_map("one", k="v"), apply_prune_kinds=[{"api_version": "v1", "kind": "PersistentVolumeClaim"}])
    assert kubectl("get", "pvc", "-o", "json")["items"] == []


def test_an_object_of_an_absent_api_is_left_out_or_demanded(run, cluster):
    item = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {}}
    done = run(config_map("one", k="v"), item)
    assert "Widget ml-models/w: the cluster has no API example.com/v1 Widget" in done.text
    before = cluster.resource_versions()
    done = run(config_map("one", k="w"), item, apply_require_apis=True, check=False)
    assert done.returncode
    assert "apply_require_apis" in done.text
    assert cluster.resource_versions() == before


BAD = {
    "unknown field": ([config_map("one", k="v") | {"dat": {}}], {}, "ConfigMap ml-models/one"),
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
    "another cluster": (
        [config_map("one", k="v")],
        {"platform_api_server": "https://10.0.0.1:6443"},
        "platform_api_server is https://10.0.0.1:6443",
    ),
    "another UID": (
        [config_map("one", k="v")],
        {"platform_api_server": "", "platform_kube_system_uid": "0-0"},
        "platform_kube_system_uid is 0-0",
    ),
    "no cluster named": (
        [config_map("one", k="v")],
        {"platform_api_server": ""},
        "the inventory does not name the cluster",
    ),
    "a namespace that nothing creates": (
        [config_map("one", k="v")],
        {"platform_namespace": "nowhere", "platform_create_namespaces": False},
        "namespace nowhere does not exist",
    ),
    "a cluster that can't be reached": (
        [config_map("one", k="v")],
        {
            "platform_connection": {"host": "https://127.0.0.1:1", "api_key": "x"},
            "platform_api_server": "https://127.0.0.1:1",
        },
        "127.0.0.1:1 does not answer",
    ),
    "no such kubeconfig": (
        [config_map("one", k="v")],
        {"platform_connection": {"kubeconfig": "/nowhere/kubeconfig"}},
        "the connection settings can't be used (/nowhere/kubeconfig)",
    ),
}


@pytest.mark.parametrize("first", [True, False], ids=["first run", "later run"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input_leaves_the_cluster_untouched(run, cluster, case, first):
    if not first:
        run(config_map("other", k="v"))
    objects, variables, message = BAD[case]
    before = cluster.resource_versions()
    done = run(*objects, check=False, **variables)
    assert done.returncode
    assert message in done.text
    assert cluster.resource_versions() == before


def test_everything_that_is_wrong_is_told_at_once(run):
    run(config_map("other", k="v"))
    done = run(deployment(restartPolicy="Sometimes"), config_map("one", k="v") | {"dat": {}}, check=False)
    assert "2 problems" in done.text
    assert "restartPolicy" in done.text
    assert "ConfigMap ml-models/one" in done.text


def test_an_immutable_selector_is_explained(run, cluster):
    run(deployment())
    changed = deployment()
    changed["spec"]["selector"]["matchLabels"] = changed["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    before = cluster.resource_versions()
    done = run(changed, check=False)
    assert "An immutable field can't be changed in place" in done.text
    assert cluster.resource_versions() == before


@pytest.fixture
def viewer(cluster):
    """Environment of a ServiceAccount that may only read: K8S_AUTH_* alone, as AWX gives it."""
    cluster.kubectl("create", "serviceaccount", "viewer", "-n", "default")
    cluster.kubectl("create", "clusterrolebinding", "viewer", "--clusterrole=view", "--serviceaccount=default:viewer")
    yield cluster.kubectl("create", "token", "viewer", "-n", "default").stdout.strip()
    cluster.kubectl("delete", "clusterrolebinding", "viewer")
    cluster.kubectl("delete", "serviceaccount", "viewer", "-n", "default")


def test_a_credential_that_may_not_is_told_which_verb_on_which_kind(run, cluster, viewer):
    run(config_map("one", k="v"))
    before = cluster.resource_versions()
    connection = {"host": cluster.url, "api_key": viewer, "validate_certs": False}
    done = run(config_map("one", k="w"), deployment(), check=False, platform_connection=connection)
    assert "this credential may not create, delete, patch configmaps in namespace ml-models" in done.text
    assert "this credential may not create, delete, patch deployments (apps) in namespace ml-models" in done.text
    assert viewer not in done.text
    assert cluster.resource_versions() == before


def test_a_role_that_grants_more_than_the_credential_holds_is_refused_on_a_first_run(run, cluster):
    # No "*": it would hold the verb escalate.
    verbs = "--verb=get,list,create,update,patch,delete"
    core = "--resource=namespaces,serviceaccounts,configmaps,services,deployments.apps,leases.coordination.k8s.io"
    groups = (
        "--resource=roles.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io,networkpolicies.networking.k8s.io,"
        "poddisruptionbudgets.policy,servicemonitors.monitoring.coreos.com,prometheusrules.monitoring.coreos.com"
    )
    cluster.kubectl("create", "clusterrole", "deployer", verbs, core)
    cluster.kubectl("create", "clusterrole", "deployer-more", verbs, groups)
    cluster.kubectl("create", "serviceaccount", "deployer", "-n", "default")
    for role in ("deployer", "deployer-more"):
        cluster.kubectl(
            "create", "clusterrolebinding", role, f"--clusterrole={role}", "--serviceaccount=default:deployer"
        )
    token = cluster.kubectl("create", "token", "deployer", "-n", "default").stdout.strip()
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "too-much"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
    }
    before = cluster.resource_versions()
    connection = {"host": cluster.url, "api_key": token, "validate_certs": False}
    done = run(role, check=False, platform_connection=connection)
    assert "attempting to grant RBAC permissions not currently held" in done.text
    assert cluster.resource_versions() == before
    assert run(config_map("one", k="v"), platform_connection=connection).changed


def test_a_binding_may_wait_for_its_role(run):
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


def test_a_rollout_that_finds_no_node_is_explained(run):
    done = run(deployment(selector={"workload": "nowhere"}), check=False, apply_capacity_timeout=2)
    assert "no node took its pod in 2 s (apply_capacity_timeout)" in done.text
    assert "pod d-" in done.text
    assert "rollout undo deployment/d" in done.text


def test_pods_that_are_refused_are_explained(run, cluster, kubectl):
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    done = run(deployment(), check=False)
    assert "its pods are refused" in done.text
    assert "violates PodSecurity" in done.text


def test_an_interactive_lock_is_waited_for_and_named(run, cluster, kubectl):
    run(config_map("one", k="v"))
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    spec = {
        "holderIdentity": "ada@laptop (process 7)",
        "leaseDurationSeconds": 120,
        "acquireTime": now,
        "renewTime": now,
    }
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "modelyard", "namespace": NAMESPACE},
        "spec": spec,
    }
    kubectl("replace", "-f", "-", input=json.dumps(lease))
    before = cluster.resource_versions()
    done = run(config_map("one", k="w"), check=False, apply_lock_wait=2)
    assert "another run holds the lock (Lease modelyard): ada@laptop (process 7) since" in done.text
    assert "waiting for another run: ada@laptop" in done.text
    assert cluster.resource_versions() == before
    # A run that has nothing to write needs no lock.
    assert run(config_map("one", k="v")).changed == 0
    spec["renewTime"] = spec["acquireTime"] = "2026-01-01T00:00:00.000000Z"
    kubectl("replace", "-f", "-", input=json.dumps(lease))
    assert run(config_map("one", k="w")).changed


def test_a_killed_runs_lock_is_taken_over_at_once(run, cluster, kubectl, tmp_path):
    file = tmp_path / "stuck.json"
    file.write_text(json.dumps({"objects": [deployment(selector={"workload": "nowhere"})]}))
    stuck = cluster.start_playbook("tests/playbooks/apply.yml", "-e", f"@{file}")
    for _ in range(100):
        time.sleep(0.2)
        if cluster.api("GET", LEASE).get("spec", {}).get("holderIdentity"):
            break
    else:
        pytest.fail("the run never took the lock")
    os.killpg(stuck.pid, signal.SIGKILL)
    stuck.wait()
    started = time.monotonic()
    assert run(deployment()).changed
    assert time.monotonic() - started < 60
    assert kubectl("get", "lease", "modelyard", "-o", "json")["spec"]["holderIdentity"] == ""


def test_two_runs_at_once_end_as_one(run, cluster, kubectl, tmp_path):
    file = tmp_path / "both.json"
    file.write_text(json.dumps({"objects": [deployment(), *(config_map(f"c{n}", k="v") for n in range(20))]}))
    both = [cluster.start_playbook("tests/playbooks/apply.yml", "-e", f"@{file}") for _ in range(2)]
    texts = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(texts)
    assert sorted("nothing to change" in text for text in texts) == [False, True]


def sized(memory):
    item = deployment(selector={"workload": "gpu-vllm"}, replicas=1)
    item["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"memory": memory}}
    return item


def test_real_nodes_have_the_last_word_on_what_fits(run, cluster):
    run(config_map("other", k="v"))
    before = cluster.resource_versions()
    done = run(sized("14Gi"), check=False)
    assert "Deployment d fits on none of the 2 nodes that its node selector finds" in done.text
    assert "the pod asks for 14336Mi memory, it has 14162Mi" in done.text
    assert cluster.resource_versions() == before
    # The inventory's table says no, the nodes say yes.
    assert run(sized("12Gi"), __apply_misfits={"d": ["too large for the table"]}).changed


def test_without_a_node_the_table_decides(run, cluster):
    before = cluster.resource_versions()
    item = deployment(selector={"workload": "starts-from-zero"})
    done = run(item, check=False, __apply_misfits={"d": ["d is too large for the table"]})
    assert "d is too large for the table" in done.text
    assert cluster.resource_versions() == before


@pytest.mark.parametrize(
    "mark",
    [
        {"annotations": {"argocd.argoproj.io/tracking-id": "vllm-inference:apps/Deployment:ml-models/d"}},
        {"labels": {"app.kubernetes.io/instance": "vllm-inference"}},
    ],
    ids=["annotation", "label"],
)
def test_what_argocd_keeps_in_sync_is_not_fought_over(run, cluster, kubectl, mark):
    application = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "vllm-inference", "namespace": "argocd"},
        "spec": {"project": "default", "destination": {}, "source": {"repoURL": "x"}, "syncPolicy": {"automated": {}}},
    }
    cluster.kubectl("apply", "-f", "-", input=json.dumps(application))
    cluster.kubectl("create", "namespace", NAMESPACE)
    item = deployment()
    item["metadata"] |= mark
    kubectl("apply", "--server-side", "--field-manager=argocd-controller", "-f", "-", input=json.dumps(item))
    before = cluster.resource_versions()
    done = run(deployment(), check=False)
    assert "Deployment ml-models/d is kept in sync by Argo CD's Application argocd/vllm-inference" in done.text
    assert {k: v for k, v in cluster.resource_versions().items() if "ml-models/d" not in k} == {
        k: v for k, v in before.items() if "ml-models/d" not in k
    }
    cluster.kubectl("delete", "application", "vllm-inference", "-n", "argocd")
    assert run(deployment()).changed


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


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (CRASHED, ["container c: CrashLoopBackOff", "last exit OOMKilled (code 137); 4 restarts"]),
        (UNCONFIGURED, ["container c: CreateContainerConfigError", 'secret "hf" not found']),
    ],
    ids=["crash loop", "configuration"],
)
def test_a_container_that_will_not_start_is_explained_at_once(run, cluster, kubectl, tmp_path, status, told):
    """kwok is stopped, and the test writes the pod status that a kubelet would write."""
    file = tmp_path / "crash.json"
    file.write_text(json.dumps({"objects": [deployment(replicas=1)]}))
    kwok = cluster.processes()["kwok-controller"]
    os.kill(kwok, signal.SIGSTOP)
    try:
        process = cluster.start_playbook("tests/playbooks/apply.yml", "-e", f"@{file}")
        for _ in range(200):
            time.sleep(0.2)
            pods = cluster.api("GET", f"/api/v1/namespaces/{NAMESPACE}/pods").get("items", [])
            if pods and pods[0]["spec"].get("nodeName"):
                break
        pod = pods[0]["metadata"]["name"]
        patch = json.dumps({"status": {"phase": "Pending", "containerStatuses": [status]}})
        kubectl("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", patch)
        text = " ".join(process.communicate(timeout=120)[0].split())
    finally:
        os.kill(kwok, signal.SIGCONT)
    assert process.returncode
    for words in [
        "Deployment ml-models/d is not rolled out",
        f"pod {pod} on cpu-compute-",
        *told,
        "Nothing serves now",
    ]:
        assert words in text
    assert "kubectl -n ml-models rollout undo deployment/d" in text
