"""playbooks/diff.yml on a real API server: edits of every kind that people make, with the programs that they use, and nothing else.

All edits of the table are made on one platform, which is compared once; a row looks for its own.
"""

import copy
import json
import shlex
from pathlib import Path

import aws_api
import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.argocd.applications import PART
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import options as asked
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.planner import Planner
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.writes import written
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, parked
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    JSON_PATCH,
    MERGE_PATCH,
    ApiError,
    Cluster,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import identity, own
from delivering import NAMESPACE, Both, act, deliver, local
from kubernetes.client import Configuration
from rendering import rendered, run_render
from test_leftovers import config_map, cron_job, own_objects

RIGHTS = Path(__file__).resolve().parent.parent / "docs" / "rbac-read.yaml"
STRATEGIC = "application/strategic-merge-patch+json"
BYTES = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bytes"}, "binaryData": {"seal": "AAE="}}
WAIT = {"name": "wait", "image": "wait:1", "command": ["true"]}
# As much as can be on at once: each kind of server, ways to them, who scales them, the user's own objects.
PLATFORM = {
    **own_objects(),
    "triton_enabled_profiles": ["cpu", "gpu"],
    "triton_profiles": {"cpu": {"http_route": None, "scaled_object": None}},
    "vllm_enabled_profiles": ["vllm", "fast"],
    "vllm_profiles": {
        "fast": {
            "replicas": 0,
            "autoscaling": None,
            "ingress": None,
            "http_route": None,
            "cache": {"type": "claim", "size": "20Gi"},
        }
    },
    "vllm_judge_shm_size": "0.5Gi",
    "mlserver_enabled_profiles": ["mlserver"],
    "mlserver_models": {"iris": {"registered_model": "iris", "alias": "live"}},
    "platform_extra_objects": [cron_job("night"), config_map("notes", text="one\ntwo\nthree\n", empty=""), BYTES],
    "vllm_extra_init_containers": [WAIT],
    "apply_wait": False,
    "platform_namespace_labels": {"team": "models"},
}


def diffed(cluster, found, connection=None, **more):
    """What diff.yml finds of a rendering: its report and what it says."""
    said = []
    connection = connection or {"kubeconfig": str(cluster.kubeconfig)}
    result = act("diff", said, connection=connection, rendered=found, **{"aws": False, **more})
    return result["report"], said


def short(item):
    name = f"{item['kind']}/{item['name']}"
    return " ".join(word for word in (item["what"], name, item["field"]) if word)


def names(report, key="differences"):
    return sorted(map(short, report[key]))


# --- Edits -----------------------------------------------------------------------------------------

TABLE = yaml.safe_load((Path(__file__).parent / "drift.yml").read_text().replace("POD", "spec.template.spec"))


KINDS = {
    "Deployment": "apps/v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Ingress": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "CronJob": "batch/v1",
    "ServiceMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
}


def do(platform, api, row):
    """Do what a row of the table says: by kubectl, or by the request that `kubectl patch` sends."""
    if "run" in row:
        platform.kubectl("-n", NAMESPACE, *shlex.split(row["run"]))
        return
    kind, _, name = row["patch"].partition("/")
    form = JSON_PATCH if isinstance(row["with"], list) else MERGE_PATCH if row.get("merge") else STRATEGIC
    path = api.path(KINDS.get(kind, "v1"), kind, NAMESPACE, name)
    api.request("PATCH", path, {"fieldManager": "kubectl-patch"}, row["with"], form)


def applied(item, manager, **more):
    """Server-side apply by another's name, or ours."""
    return (["apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-"], {**item, **more})


def others(found):
    """What takes a file: kubectl's arguments with the object, and what is found."""
    wanted = {(item["kind"], item["metadata"]["name"]): item for item in delivery.objects(found, gitops=False)}
    policy = copy.deepcopy(wanted["NetworkPolicy", "triton-inference"])
    policy["spec"]["ingress"][0]["from"][0]["podSelector"] = {}
    fast = wanted["Deployment", "vllm-fast"]
    args = {"containers": [{"name": "vllm", "args": ["--other"]}, {"name": "mesh", "image": "mesh:1"}]}
    head = {key: fast[key] for key in ("apiVersion", "kind")} | {
        "metadata": {"name": "vllm-fast", "labels": {"mesh": "on"}}
    }
    service, monitor = wanted["Service", "vllm-fast"], wanted["ServiceMonitor", "triton-inference"]
    (old,) = own([config_map("old", text="x")], "vllm", "local", NAMESPACE)
    (foreign,) = own([config_map("foreign", text="x")], "vllm", "another", NAMESPACE)
    pod = "Deployment/vllm-fast spec.template.spec.containers"
    return [
        # Ours, by somebody else: a list that is one value, and a key left out.
        (*applied(policy, "modelyard"), ["added NetworkPolicy/triton-inference spec.ingress[0].from[0].podSelector"]),
        (*applied(config_map("notes", text="one\n2\nthree\n"), "modelyard"), [
            "removed ConfigMap/notes metadata.labels.app.kubernetes.io/managed-by",
            "removed ConfigMap/notes metadata.labels.modelyard/cluster",
            "removed ConfigMap/notes metadata.labels.modelyard/component",
        ]),
        # Helm takes a field by force, and brings more. Its label is its own.
        (*applied(head, "helm", spec={"template": {"spec": args}}), [f"changed {pod}[vllm].args", f"added {pod}[mesh]"]),
        # Made anew, with all that the API server fills in.
        (["create", "-f", "-"], service, ["made Service/vllm-fast"]),
        (["replace", "-f", "-"], {**monitor, "spec": {**monitor["spec"], "jobLabel": "x"}}, ["added ServiceMonitor/triton-inference spec.jobLabel"]),
        (["create", "-f", "-"], old, ["unwanted ConfigMap/old"]),
        (["create", "-f", "-"], foreign, []),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def platform(cluster):
    """The cluster with all that can be on, right after a deploy."""
    cluster.reset()
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    storage = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "disks", "annotations": default},
    }
    cluster.api("POST", "/apis/storage.k8s.io/v1/storageclasses", {**storage, "provisioner": "none.example"})
    assert deliver(local(cluster, **PLATFORM), {"kubeconfig": str(cluster.kubeconfig)}).failed == ""
    return cluster


@pytest.fixture(scope="module")
def edited(platform):
    """What is found after all edits, and what is said of it."""
    found = local(platform, **PLATFORM)
    api = Cluster({"kubeconfig": str(platform.kubeconfig)})
    for row in TABLE:
        do(platform, api, row)
    platform.kubectl("-n", NAMESPACE, "delete", "service", "vllm-fast")
    for arguments, item, _ in others(found):
        platform.kubectl("-n", NAMESPACE, *arguments, input=json.dumps(item))
    before = platform.resource_versions()
    report, said = diffed(platform, found)
    assert platform.resource_versions() == before
    return report, said


def test_right_after_a_deploy_there_is_no_drift(platform):
    report, said = diffed(platform, local(platform, **PLATFORM))
    assert (report["differences"], report["compared"]) == ([], True)
    assert said == [f"cluster local: no drift, {report['objects']} objects compared"]
    assert report["objects"] > 50


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["id"])
def test_an_edit_is_found(edited, row):
    report, said = edited
    found = {short(item): item for item in report["differences"]}
    for name in row.get("finds", []):
        by = "" if name.startswith(("removed", "absent")) else row.get("by", "")
        assert found[name]["by"] == by
    assert row.get("says", "") in "\n".join(said)


def test_nothing_else_is_found_and_no_credential_is_shown(platform, edited):
    report, said = edited
    wanted = [name for row in TABLE for name in row.get("finds", [])]
    wanted += [name for *_, finds in others(local(platform, **PLATFORM)) for name in finds]
    assert names(report) == sorted(wanted)
    assert "very-secret" not in json.dumps([report, said])
    by_people = [item for item in report["beside"] if item["by"] != "kube-controller-manager"]
    assert sorted(map(short, by_people)) == [
        "added Deployment/judge-vllm metadata.annotations.reloader.example/seen",
        "added Deployment/vllm-fast metadata.labels.mesh",
    ]
    assert said[-1] == f"cluster local: {report['drift']} differences, {report['objects']} objects compared"
    (told,) = report["notices"]
    assert "under the cluster name another: ConfigMap ml-models/foreign" in told


def test_a_run_that_asks_the_api_server_only_where_it_must_finds_all_of_them(platform, edited):
    found = local(platform, **PLATFORM)
    both = Both({"kubeconfig": str(platform.kubeconfig)}, found)
    for item in both.objects:
        both.compare(item)
    assert both.changes > 10
    assert both.full.asked


# --- Credentials, clusters and delivery ------------------------------------------------------------


def reader(cluster, found, more=False):
    """The connection of the account of docs/rbac-read.yaml, with what its comment adds if asked; it may not write."""
    text = RIGHTS.read_text()
    items = [item for item in yaml.safe_load_all(text) if item]
    if more:
        comment = text.split("*_extra_objects\n")[1].split("---\n")[0]
        role = next(item for item in items if item["kind"] == "Role" and item["metadata"]["namespace"] == NAMESPACE)
        role["rules"] += yaml.safe_load(comment.replace("  # ", ""))
        role["rules"].append({"apiGroups": ["batch"], "resources": ["cronjobs"], "verbs": ["get", "list"]})
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    connection = {
        "host": cluster.url,
        "api_key": cluster.kubectl("-n", "modelyard", "create", "token", "reader").stdout.strip(),
        "ca_cert": config["clusters"][0]["cluster"]["certificate-authority"],
    }
    # Not with the credentials of an earlier connection beside its own.
    Configuration.set_default(None)
    api = Cluster(connection)
    for item in delivery.objects(found, gitops=False):
        with pytest.raises(ApiError) as refused:
            api.apply(item, "modelyard", force=False, dry_run=True)
        assert refused.value.status == 403
    return connection


def test_a_credential_that_may_only_read_finds_the_same(platform, edited):
    found = local(platform, **PLATFORM)
    connection = reader(platform, found, more=True)
    report, _ = diffed(platform, found, connection)
    assert (report["differences"], report["error"]) == (edited[0]["differences"], "")
    page = act("report", [], connection=connection, rendered=found, identity=False)["report"]
    assert (page["answers"], page["unread"], len(page["drift"])) == (True, [], len(report["differences"]))
    assert all(row["nodes"] for row in page["servers"] if row["ready"])
    # Of what it may not read it says so, and the rest is compared.
    platform.kubectl("-n", NAMESPACE, "delete", "role", "modelyard-read")
    less, _ = diffed(platform, found, reader(platform, found))
    assert not less["compared"]
    for name in ("cronjobs.batch in ml-models", "horizontalpodautoscalers.autoscaling in ml-models"):
        assert name in less["error"]
    own_kinds = ("CronJob", "HTTPRoute", "HorizontalPodAutoscaler", "PersistentVolumeClaim")
    assert less["differences"] == [item for item in report["differences"] if item["kind"] not in own_kinds]


def test_a_run_takes_back_what_people_did_and_then_there_is_no_drift(platform, edited):
    found = local(platform, **PLATFORM, apply_force=True)
    # What Helm brought, and a pause, stays theirs.
    platform.kubectl("-n", NAMESPACE, "delete", "deploy", "vllm-fast")
    platform.kubectl("-n", NAMESPACE, "rollout", "resume", "deploy/judge-vllm")
    platform.kubectl("label", "namespace", NAMESPACE, "team=models", "--overwrite")
    assert deliver(found, {"kubeconfig": str(platform.kubeconfig)}).failed == ""
    assert names(diffed(platform, found)[0]) == []


def test_a_parked_server_is_no_drift_and_all_else_of_it_is_compared(platform):
    found = local(platform, **PLATFORM)
    (judge,) = [part for part in found["parts"] if part["name"] == "judge-vllm"]
    cluster = Cluster({"kubeconfig": str(platform.kubeconfig)})
    parked.park(cluster, judge, "ann@laptop", "no evaluation")
    report, said = diffed(platform, found)
    assert names(report) == []
    assert list(report["parked"]) == ["Deployment ml-models/judge-vllm"]
    assert "Deployment ml-models/judge-vllm is parked by ann@laptop since " in "\n".join(said)
    platform.kubectl("-n", NAMESPACE, "label", "deploy/judge-vllm", "app=other", "--overwrite")
    assert names(diffed(platform, found)[0]) == ["changed Deployment/judge-vllm metadata.labels.app"]


def test_a_cluster_that_is_another_or_does_not_answer_was_not_compared(platform):
    nowhere = "https://127.0.0.1:9"
    away, _ = diffed(platform, local(platform, platform_api_server=nowhere), {"host": nowhere, "api_key": "none"})
    assert (away["compared"], away["differences"]) == (False, [])
    assert "does not answer" in away["error"]
    other, _ = diffed(platform, local(platform, platform_api_server="https://127.0.0.1:9"))
    assert "platform_api_server is https://127.0.0.1:9, but the connection" in other["error"]


def test_what_argocd_delivers_is_compared_and_who_reverts_an_edit_is_told(cluster, clean_platform):
    found = local(cluster, platform_delivery="gitops")
    connection = {"kubeconfig": str(cluster.kubeconfig)}
    report, said = diffed(cluster, found)
    delivered = delivery.objects(found, gitops=False)
    assert said[-2:] == [
        f"absent Namespace ml-models, and with it the {len(delivered)} objects that the inventory has there",
        f"cluster local: {report['drift']} differences, 0 objects compared",
    ]
    assert deliver(found, connection).failed == ""
    # What Argo CD does, as it does it.
    cluster.kubectl("create", "namespace", NAMESPACE)
    apps = {item["metadata"]["name"]: item for item in delivery.objects(found, gitops=True)}
    by_part = {item["metadata"]["annotations"][PART]: name for name, item in apps.items()}
    for part in found["parts"]:
        for item in part["objects"] if part["enabled"] and part["component"] != "argocd-apps" else []:
            group, kind, _, name = identity(item)
            application = by_part.get(f"local/{part['name']}", "ml-models-shared")
            tracking = f"{application}:{group}/{kind}:{NAMESPACE}/{name}"
            notes = {**item["metadata"].get("annotations", {}), "argocd.argoproj.io/tracking-id": tracking}
            whole = {**item, "metadata": {**item["metadata"], "annotations": notes}}
            Cluster(connection).apply(whole, "argocd-controller", force=False, dry_run=False)
    report, said = diffed(cluster, found)
    assert names(report) == []
    assert "note: Application argocd/vllm-inference: Argo CD has not looked at it yet" in said

    def looked(name, sync, health, message=""):
        status = {"sync": {"status": sync}, "health": {"status": health, "message": message}}
        cluster.kubectl(
            "-n", "argocd", "patch", "application", name, "--type", "merge", "-p", json.dumps({"status": status})
        )

    for name in apps:
        looked(name, "Synced", "Healthy")
    looked("vllm-inference", "OutOfSync", "Degraded", "no node")
    cluster.kubectl("-n", NAMESPACE, "scale", "deploy/vllm", "--replicas=3")
    cluster.kubectl("-n", "argocd", "delete", "application", "triton-inference-gpu")
    report, said = diffed(cluster, found)
    assert names(report) == [
        "absent Application/triton-inference-gpu",
        "application Application/vllm-inference status.health.status",
        "application Application/vllm-inference status.sync.status",
        "changed Deployment/vllm spec.replicas",
    ]
    assert "Deployment ml-models/vllm (Argo CD will revert it: Application vllm-inference):" in said
    assert "  out of sync: OutOfSync" in said
    assert "  Degraded: no node" in said


@pytest.mark.parametrize("name", ["kind", "platform", "eks"])
def test_every_inventory_has_no_drift_where_just_that_lives(cluster, name):
    cluster.reset()
    api = Cluster({"kubeconfig": str(cluster.kubeconfig)})
    for host, found in run_render(Path("inventories", name)).items():
        found["cluster"] |= {"delivery": "direct", "api_server": cluster.url, "kube_system_uid": ""}
        wanted = delivery.objects(found, gitops=False)
        for namespace in {item["metadata"]["namespace"] for item in wanted} - cluster.namespaces():
            cluster.kubectl("create", "namespace", namespace)
        for item in wanted:
            api.apply(item, "modelyard", force=False, dry_run=False)
        report, _ = diffed(cluster, found)
        assert (host, report["differences"], report["objects"]) == (host, [], len(wanted))
        assert report["error"] == ""


def test_every_cluster_is_told_of_before_the_play_ends(cluster, clean_platform, tmp_path):
    connection = {"platform_connection": {"kubeconfig": str(cluster.kubeconfig)}, "platform_api_server": cluster.url}
    away = {
        "platform_connection": {"host": "https://127.0.0.1:9", "api_key": "none"},
        "platform_api_server": "https://127.0.0.1:9",
    }
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "platform_aws_account_id": "123456789012",
        "diff_aws": False,
    }
    inventory = tmp_path / "hosts.yml"
    hosts = {"away": away, "here": connection, "wrong": {**connection, "vllm_enable": True}}
    inventory.write_text(yaml.safe_dump({"clusters": {"hosts": hosts, "vars": common}}))
    file = tmp_path / "found.json"
    options = ["-e", f"diff_json={file}", "--check"]
    show = {"ANSIBLE_SHOW_CUSTOM_STATS": "1"}
    done = cluster.playbook("diff", "-e", "diff_fail=true", *options, inventory=inventory, env=show, check=False)
    assert done.returncode == 2
    said = " ".join(done.stdout.split())
    assert "here: absent Namespace ml-models, and with it the " in said
    assert "away: not compared: 127.0.0.1:9 does not answer" in said
    assert "cluster here: 1 difference, 0 objects compared" in said
    assert "no such variable" in said
    found = json.loads(file.read_text())
    assert {host: (one["drift"], one["compared"]) for host, one in found.items()} == {
        "away": (0, False),
        "here": (1, True),
    }
    stats = " ".join(done.stdout.partition("CUSTOM STATS")[2].split())
    assert "diff_count: 1 " in stats
    assert "diff_not_compared: - away - wrong" in stats
    assert "here: - absent Namespace ml-models, and with it the " in stats
    # Without diff_fail only what is wrong with the inventory ends it.
    inventory.write_text(yaml.safe_dump({"clusters": {"hosts": {"here": connection}, "vars": common}}))
    assert cluster.playbook("diff", inventory=inventory).returncode == 0


def test_what_somebody_changed_in_aws_is_told(cloud):
    """Also of a cluster that does not answer."""
    variables = {"platform_aws_account_id": aws_api.ACCOUNT, "platform_aws_region": aws_api.REGION}
    found = rendered(**variables, irsa_oidc_issuer=aws_api.ISSUER)
    settings = asked.of(found)
    account = Account("", aws_api.REGION)
    written(account, Planner(account, settings).make().writes)
    away = {"host": "https://127.0.0.1:9", "api_key": "none"}
    report, _ = diffed(None, found, away, aws=True)
    assert (report["differences"], report["compared"]) == ([], False)
    iam = cloud.client("iam")
    role = settings["service_accounts"][0]["role_arn"].rpartition("/")[2]
    trust = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
    trust["Statement"][0]["Condition"]["StringEquals"].popitem()
    iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(trust))
    report, said = diffed(None, found, away, aws=True)
    (one,) = report["differences"]
    assert (one["what"], role in one["note"]) == ("aws", True)
    assert f"AWS: a run would {one['note'].partition('a run would ')[2]}" in said
    assert diffed(None, found, away)[0]["differences"] == []
