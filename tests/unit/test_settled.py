"""What is surely as it is to be: each reason for doubt, on one object whose live state is otherwise right."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import admission, settled

PORT = 'k:{"port":80,"protocol":"TCP"}'
ITEM = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "s", "namespace": "n", "labels": {"a": "b"}, "finalizers": ["x/y", "x/z"]},
    "spec": {"selector": {"app": "s"}, "ports": [{"port": 80, "name": "http"}, {"port": 81, "protocol": "TCP"}]},
}
OURS = {
    "manager": "modelyard",
    "operation": "Apply",
    "apiVersion": "v1",
    "fieldsType": "FieldsV1",
    "fieldsV1": {
        "f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {'v:"x/y"': {}, 'v:"x/z"': {}}},
        "f:spec": {
            "f:selector": {},
            "f:ports": {
                PORT: {".": {}, "f:port": {}, "f:name": {}},
                'k:{"port":81,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:protocol": {}},
            },
        },
    },
}
LIVE = {
    **ITEM,
    "metadata": {**ITEM["metadata"], "uid": "u", "annotations": {"another": "1"}, "managedFields": [OURS]},
    "spec": {
        "clusterIP": "10.0.0.1",
        "selector": {"app": "s"},
        "ports": [
            {"port": 79, "protocol": "TCP", "targetPort": 79},
            {"port": 80, "protocol": "TCP", "name": "http", "targetPort": 80},
            {"port": 81, "protocol": "TCP", "targetPort": 81},
        ],
    },
    "status": {},
}


def holds(item, live):
    return settled.holds(item, live, "modelyard", ["kubectl*"])


def put(value, path, new):
    """Give a copy with one thing in it set, or (for `del`) removed."""
    found = copy.deepcopy(value)
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    if new is del_:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return found


del_ = object()
TRIE = ("metadata", "managedFields", 0, "fieldsV1")


def test_what_others_and_defaults_set_beside_ours_does_not_count():
    assert holds(ITEM, LIVE)
    assert holds(put(ITEM, ("metadata", "namespace"), "n"), put(LIVE, ("metadata", "annotations"), {"b": "c"}))


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (("spec", "selector"), {"app": "t"}),
        (("spec", "selector"), {"app": "s", "more": "x"}),
        (("spec", "ports", 0, "name"), "https"),
        (("spec", "ports", 0, "port"), 80.0),
        (("spec", "ports", 0, "protocol"), "TCP"),
        (("spec", "ports", 1, "protocol"), "UDP"),
        (("spec", "ports", 1), del_),
        (("spec", "ports"), list(reversed(ITEM["spec"]["ports"]))),
        (("spec", "ports"), [*ITEM["spec"]["ports"], {"port": 79}]),
        (("spec", "ports"), ITEM["spec"]["ports"] * 2),
        (("spec", "type"), "ClusterIP"),
        (("spec", "clusterIP"), None),
        (("metadata", "labels"), {}),
        (("metadata", "labels"), del_),
        (("metadata", "finalizers"), ["x/z", "x/y"]),
        (("metadata", "finalizers"), ["x/y"]),
        (("metadata", "generateName"), "s-"),
        (("apiVersion",), "v2"),
        (("status",), {}),
        (("stringData",), {}),
    ],
)
def test_an_object_that_says_something_else_is_in_doubt(path, new):
    assert not holds(put(ITEM, path, new), LIVE)


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (("spec", "selector", "more"), "x"),
        (("spec", "ports", 1, "name"), "https"),
        (("spec", "ports"), list(reversed(LIVE["spec"]["ports"]))),
        (("spec", "ports"), del_),
        (("metadata", "labels", "a"), "c"),
        (("metadata", "deletionTimestamp"), "2026-11-29T00:00:00Z"),
        (("metadata", "managedFields"), []),
        (("metadata", "managedFields"), del_),
        (("metadata", "managedFields", 0, "manager"), "another"),
        (("metadata", "managedFields", 0, "operation"), "Update"),
        (("metadata", "managedFields", 0, "apiVersion"), "v1beta1"),
        (("metadata", "managedFields", 0, "subresource"), "status"),
        (("metadata", "managedFields"), [OURS, {**OURS, "apiVersion": "v1beta1"}]),
        # By our name, or by kubectl's: what a run takes over.
        (("metadata", "managedFields"), [OURS, {**OURS, "operation": "Update", "fieldsV1": {"f:spec": {"f:type": {}}}}]),
        (("metadata", "managedFields"), [OURS, {**OURS, "manager": "kubectl-edit", "operation": "Update"}]),
        # Fewer fields are ours, or more.
        ((*TRIE, "f:spec", "f:selector"), del_),
        ((*TRIE, "f:spec", "f:ports", PORT, "f:name"), del_),
        ((*TRIE, "f:spec", "f:ports", PORT, "."), del_),
        ((*TRIE, "f:spec", "f:ports", PORT), {}),
        ((*TRIE, "f:spec", "f:type"), {}),
        ((*TRIE, "f:metadata", "f:labels", "."), {}),
        ((*TRIE, "f:metadata", "f:annotations"), {"f:another": {}}),
        ((*TRIE, "f:metadata", "f:finalizers", 'v:"x/w"'), {}),
        # A list that was empty when we applied it, and is another's.
        (
            ("metadata", "managedFields"),
            [put({"x": OURS}, ("x", "fieldsV1", "f:spec", "f:ports"), {})["x"], {**OURS, "manager": "helm"}],
        ),
    ],
)  # fmt: skip
def test_a_live_object_that_is_another_or_anothers_is_in_doubt(path, new):
    assert not holds(ITEM, put(LIVE, path, new))


def deployment(api_version="apps/v1", cpu="4", seconds=0, image="a", **live):
    """A Deployment, and what the API server makes of it."""
    container = {"name": "c", "image": image, "resources": {"limits": {"cpu": cpu}}}
    container["env"] = [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    spec = {"minReadySeconds": seconds, "template": {"spec": {"containers": [container]}}}
    item = {"apiVersion": api_version, "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}
    inner = {"f:env": {'k:{"name":"E"}': {".": {}, "f:name": {}, "f:valueFrom": {"f:fieldRef": {}}}}}
    inner |= {".": {}, "f:name": {}, "f:image": {}, "f:resources": {"f:limits": {"f:cpu": {}}}}
    template = {"f:spec": {"f:containers": {'k:{"name":"c"}': inner}}}
    books = {
        **OURS,
        "apiVersion": api_version,
        "fieldsV1": {"f:spec": {"f:minReadySeconds": {}, "f:template": template}},
    }
    there = {"name": "c", "image": "a", "resources": {"limits": {"cpu": "4"}}, "imagePullPolicy": "Always"}
    there["env"] = [
        {"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1", **live}}}
    ]
    metadata = {"name": "d", "managedFields": [books]}
    return item, {**item, "metadata": metadata, "spec": {"template": {"spec": {"containers": [there]}}}}


def test_what_the_api_server_rewrites_and_fills_in_is_the_same():
    assert holds(*deployment())
    assert holds(*deployment(cpu="4000m"))
    assert holds(*deployment(cpu=4))
    assert not holds(*deployment(cpu="4001m"))
    assert not holds(*deployment(seconds=1))
    assert not holds(*deployment(image="4"))
    assert not holds(*deployment(apiVersion="v2"))
    assert not holds(*deployment(more="x"))
    # Of a custom resource it rewrites nothing, and what it fills in is in its schema.
    assert not holds(*deployment("example.com/v1"))


# --- Admission -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ({"resources": ["deployments"], "operations": ["CREATE", "UPDATE"]}, True),
        ({"resources": ["*"], "operations": ["*"]}, True),
        ({"resources": ["*/*"], "operations": ["UPDATE"]}, True),
        ({"resources": ["deployments/*"], "operations": ["UPDATE"]}, True),
        ({"apiGroups": ["extensions"], "resources": ["deployments"], "operations": ["UPDATE"]}, True),
        ({}, True),
        ({"resources": ["deployments"], "operations": ["CREATE"]}, False),
        ({"resources": ["pods", "services"], "operations": ["*"]}, False),
    ],
)
def test_a_rule_for_updates_of_a_resource_is_one_of_a_whole_kind(rule, matches):
    assert admission._matches(rule, "deployments") is matches


def test_rules_of_webhooks_and_of_policies_are_read():
    rule = {"resources": ["pods"]}
    assert admission._rules({"webhooks": [{"rules": [rule]}, {"name": "none"}]}) == [rule]
    assert admission._rules({"spec": {"matchConstraints": {"resourceRules": [rule]}}}) == [rule]
    assert admission._rules({"spec": {}}) == []


@pytest.mark.parametrize(
    ("kind", "spec", "silent"),
    [
        ("v1/ConfigMap", {}, True),
        ("v1/PersistentVolumeClaim", {}, False),
        ("v1/Secret", {}, False),
        ("batch/v1/CronJob", {"schedule": "0 7 * * *"}, True),
        ("batch/v1/CronJob", {"schedule": "TZ=UTC 0 7 * * *"}, False),
        ("v1/Service", {"type": "ClusterIP", "selector": {}, "ports": []}, True),
        ("v1/Service", {"externalIPs": ["10.0.0.1"]}, False),
        ("v1/Service", {"trafficDistribution": "PreferClose"}, False),
        ("v1/Service", {"type": "ExternalName"}, False),
        ("networking.k8s.io/v1/NetworkPolicy", {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}, {}]}, True),
        ("networking.k8s.io/v1/NetworkPolicy", {"ingress": [{"from": [{"ipBlock": {"cidr": "10.1.0.0/8"}}]}]}, False),
        ("networking.k8s.io/v1/NetworkPolicy", {"egress": [{"to": [{"ipBlock": {"cidr": "::/0", "except": ["::A/128"]}}]}]}, False),
        ("monitoring.coreos.com/v1/ServiceMonitor", {}, True),
    ],
)  # fmt: skip
def test_of_which_kinds_the_api_server_may_warn_in_each_run(kind, spec, silent):
    version, _, name = kind.rpartition("/")
    assert admission._silent({"apiVersion": version, "kind": name, "metadata": {}, "spec": spec}) is silent
