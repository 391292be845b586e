"""workflow-sa can do exactly what the platform's contract lists, tried with its own token on an API server with the platform deployed."""

import contextlib
import json
import time
from pathlib import Path

import pytest
import yaml
from workflow_rights import Account, deviations

NAMESPACE = "ml-models"
TABLE = yaml.safe_load((Path(__file__).parent / "contract.yml").read_text())["workflow_rights"]
RBAC = "rbac.authorization.k8s.io"


@pytest.fixture(scope="module")
def platform(cluster):
    cluster.reset()
    cluster.playbook("site")
    return cluster


def test_it_can_do_exactly_what_the_contract_lists(platform):
    before = platform.resource_versions()
    assert deviations(platform, TABLE["rights"]) == []
    # The one Deployment and the one pod that were changed and changed back, and what their controllers make of it.
    after = platform.resource_versions()
    touched = {key.split("/")[0] for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert touched <= {"Deployment", "ReplicaSet", "Pod", "EndpointSlice", "Endpoints"}
    assert before.keys() == after.keys()


def role(*rules) -> list[dict]:
    return [dict(zip(("apiGroups", "resources", "verbs"), ([part] for part in rule), strict=True)) for rule in rules]


def binding(kind, name, role_kind, **metadata) -> dict:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "roleRef": {"apiGroup": RBAC, "kind": role_kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": TABLE["account"], "namespace": NAMESPACE}],
    }


@contextlib.contextmanager
def changed(cluster, rules, *objects):
    """The Role with other rules, and more objects; as it was afterwards. Inside, the API server has taken notice."""
    path = f"/apis/{RBAC}/v1/namespaces/{NAMESPACE}/roles/{TABLE['role']}"
    account = Account(cluster, NAMESPACE, TABLE["account"])
    given, known = cluster.api("GET", path)["rules"], account.rules(NAMESPACE)
    try:
        cluster.api("PATCH", path, {"rules": rules(given)})
        for item in objects:
            cluster.kubectl("apply", "-f", "-", input=json.dumps(item))
        wait(lambda: account.rules(NAMESPACE) != known)
        yield
    finally:
        cluster.api("PATCH", path, {"rules": given})
        for item in objects:
            cluster.kubectl("delete", "-f", "-", input=json.dumps(item))
        wait(lambda: account.rules(NAMESPACE) == known)


def wait(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the API server does not take notice of the Role"
        time.sleep(0.1)


def test_a_right_too_many_is_noticed(platform):
    more = role(
        ("", "secrets", "get"),
        ("", "pods", "delete"),
        ("", "pods/exec", "get"),
        ("", "serviceaccounts/token", "create"),
        ("apps", "deployments/scale", "patch"),
        ("apps", "deployments", "deletecollection"),
        (RBAC, "roles", "escalate"),
    )
    wide = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "wide"},
        "rules": [
            *role(("", "nodes", "list"), ("", "configmaps", "watch"), ("", "users", "impersonate")),
            {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
        ],
    }
    narrow = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "Role",
        "metadata": {"name": "narrow", "namespace": "ai-platform"},
        "rules": role(("apps", "deployments", "patch"), ("", "pods/exec", "create")),
    }
    bindings = [
        binding("ClusterRoleBinding", "wide", "ClusterRole"),
        binding("RoleBinding", "narrow", "Role", namespace="ai-platform"),
    ]
    with changed(platform, lambda given: given + more, wide, narrow, *bindings):
        found = deviations(platform, TABLE["rights"])
    in_the_namespace = {
        "get secrets",
        "delete pods",
        "get pods/exec",
        "create serviceaccounts/token",
        "patch apps/deployments/scale",
        "deletecollection apps/deployments",
        "list nodes",
        "watch configmaps",
    }
    tried = {line.split(": may ")[1].removesuffix(", and should not") for line in found if line.startswith("tried: ")}
    assert tried == {
        *in_the_namespace,
        "watch configmaps in all namespaces",
        "impersonate users",
        "impersonate users in all namespaces",
        "impersonate system:admin",
        f"escalate {RBAC}/roles",
        "get /metrics",
    }
    ruled = {
        line.split(": may ")[1].removesuffix(", and should not") for line in found if line.startswith("by its rules: ")
    }
    assert ruled == {*in_the_namespace, "impersonate users", f"escalate {RBAC}/roles", "get /metrics"}
    for line in ("patch apps/deployments", "create pods/exec"):
        assert f"by its rules in ai-platform: may {line}, and should not" in found
    assert len([line for line in found if line.startswith("tried in ai-platform: ")]) == 2


def test_a_missing_right_is_noticed(platform):
    def rules(given):
        kept = [rule for rule in given if "pods/log" not in rule["resources"]]
        return [{**rule, "verbs": [verb for verb in rule["verbs"] if verb != "patch"]} for rule in kept]

    with changed(platform, rules):
        found = deviations(platform, TABLE["rights"])
    lost = ("get pods/log", "patch apps/deployments", "patch pods")
    assert found == [f"{how}: may not {right}, and should" for how in ("by its rules", "tried") for right in lost]
