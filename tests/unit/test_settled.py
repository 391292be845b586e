"""What is surely as it is to be: each reason for doubt, on one object whose live state is otherwise right."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import admission, examination, settled, syncing
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError

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


def with_another(item, live, trie):
    """Give the live object somebody else who owns the fields of a trie."""
    another = {**OURS, "manager": "helm", "apiVersion": item["apiVersion"], "fieldsV1": trie}
    return item, put(live, ("metadata", "managedFields"), [*live["metadata"]["managedFields"], another])


def containers(inner):
    return {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"c"}': inner}}}}}


@pytest.mark.parametrize(
    ("given", "trie"),
    [
        # The live one has apiVersion filled in.
        ({}, containers({"f:env": {'k:{"name":"E"}': {"f:valueFrom": {"f:fieldRef": {}}}}})),
        ({"cpu": "4000m"}, containers({"f:resources": {"f:limits": {"f:cpu": {}}}})),
        ({"cpu": 4}, containers({"f:resources": {"f:limits": {"f:cpu": {}}}})),
        # Zero is left out of what is kept.
        ({}, {"f:spec": {"f:minReadySeconds": {}}}),
    ],
)
def test_what_another_owns_too_is_in_doubt_where_it_is_not_the_very_same(given, trie):
    item, live = deployment(**given)
    assert holds(item, live)
    assert not holds(*with_another(item, live, trie))


def test_what_another_owns_too_may_be_the_very_same():
    assert holds(*with_another(*deployment(), containers({"f:resources": {"f:limits": {"f:cpu": {}}}})))
    assert holds(*with_another(ITEM, LIVE, {"f:spec": {"f:selector": {}}}))


@pytest.mark.parametrize(
    ("wanted", "there", "same"),
    [
        ("1024Mi", "1Gi", True),
        ("1500M", "1500000k", True),
        ("1073741824", "1Gi", False),
        ("1Gi", "1073741824", False),
        (1073741824, "1Gi", False),
        ("1e3", "1k", False),
        ("1000", "1e3", False),
    ],
)
def test_a_quantity_is_rewritten_within_its_format(wanted, there, same):
    item, live = deployment(cpu=wanted)
    containers = copy.deepcopy(live["spec"]["template"]["spec"]["containers"])
    containers[0]["resources"]["limits"]["cpu"] = there
    assert holds(item, put(live, ("spec", "template", "spec", "containers"), containers)) is same


@pytest.mark.parametrize(
    "path", [("spec",), ("spec", "ports"), ("spec", "ports", 0), ("spec", "selector"), ("metadata", "labels")]
)
@pytest.mark.parametrize("junk", [None, [], {}, "", 0, [None], {"x": None}, [[]], "x"])
def test_whatever_stands_in_its_places_is_only_in_doubt(path, junk):
    assert not holds(put(ITEM, path, junk), LIVE)


def test_books_without_a_field_are_in_doubt():
    assert not holds(ITEM, put(LIVE, TRIE, {}))


# As the API server keeps it.
SERVICE = {
    "type": "ClusterIP",
    "selector": {"app": "s"},
    "ports": [{"port": 80}],
    "internalTrafficPolicy": "Cluster",
    "clusterIP": "10.0.0.1",
    "clusterIPs": ["10.0.0.1"],
    "ipFamilies": ["IPv4"],
    "ipFamilyPolicy": "SingleStack",
    "sessionAffinity": "None",
}

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
        ("v1/Service", SERVICE, True),
        ("v1/Service", {**SERVICE, "clusterIP": "None", "clusterIPs": ["None"]}, True),
        ("v1/Service", {**SERVICE, "externalIPs": ["10.0.0.1"]}, False),
        ("v1/Service", {**SERVICE, "loadBalancerIP": "10.0.0.1"}, False),
        ("v1/Service", {**SERVICE, "loadBalancerSourceRanges": ["10.0.0.0/8"]}, False),
        ("v1/Service", {**SERVICE, "trafficDistribution": "PreferClose"}, False),
        ("v1/Service", {**SERVICE, "sessionAffinity": "ClientIP"}, False),
        ("v1/Service", {**SERVICE, "clusterIPs": ["10.0.0.010"]}, False),
        ("v1/Service", {"type": "ExternalName", "externalName": "x"}, False),
        ("networking.k8s.io/v1/NetworkPolicy", {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}, {}]}, True),
        ("networking.k8s.io/v1/NetworkPolicy", {"ingress": [{"from": [{"ipBlock": {"cidr": "10.1.0.0/8"}}]}]}, False),
        ("networking.k8s.io/v1/NetworkPolicy", {"egress": [{"to": [{"ipBlock": {"cidr": "::/0", "except": ["::A/128"]}}]}]}, False),
        ("networking.k8s.io/v1/NetworkPolicy", {"egress": [{"to": [{"ipBlock": {"cidr": "::ffff:10.0.0.0/104"}}]}]}, False),
        ("monitoring.coreos.com/v1/ServiceMonitor", {}, True),
        ("gateway.networking.k8s.io/v1/HTTPRoute", {}, True),
        ("snapshot.storage.k8s.io/v1/VolumeSnapshot", {}, True),
        # Kubernetes' own, or known to us from nowhere.
        ("resource.k8s.io/v1/ResourceClaimTemplate", {}, False),
        ("networking.k8s.io/v1/Another", {}, False),
    ],
)  # fmt: skip
def test_of_which_kinds_the_api_server_may_warn_in_each_run(kind, spec, silent):
    version, _, name = kind.rpartition("/")
    assert admission._silent({"apiVersion": version, "kind": name, "metadata": {}, "spec": spec}) is silent


def test_an_annotation_of_a_service_may_have_it_warn():
    notes = {"service.kubernetes.io/topology-aware-hints": "auto"}
    item = {"apiVersion": "v1", "kind": "Service", "metadata": {"annotations": notes}, "spec": SERVICE}
    assert not admission._silent(item)


class Served:
    """A cluster that serves these kinds of admission, with nothing in them, unless one answers with an error."""

    def __init__(self, served, error=0):
        self.served, self.error = served, error

    def parallel(self, function, items):
        return [function(item) for item in items]

    def resource(self, api_version, kind):
        return {"name": f"{kind.lower()}s"} if (api_version, kind) in self.served or kind == "ConfigMap" else None

    def list(self, api_version, kind, namespace):
        if self.error and kind == admission.POLICIES[0]:
            raise ApiError(self.error, b"")
        return []


@pytest.mark.parametrize(
    ("kinds", "error", "passes"),
    [
        ([*admission.WEBHOOKS, *admission.POLICIES], 0, True),
        (admission.WEBHOOKS, 0, True),
        # Webhooks every API server knows: its discovery failed.
        ([], 0, False),
        (admission.POLICIES, 0, False),
        ([*admission.WEBHOOKS, *admission.POLICIES], 403, False),
        ([*admission.WEBHOOKS, *admission.POLICIES], 500, False),
        ([*admission.WEBHOOKS, *admission.POLICIES], 429, False),
    ],
)
def test_where_it_is_not_known_what_stands_between_nothing_passes(kinds, error, passes):
    found = admission.Admission(Served({(f"{admission.GROUP}/v1", kind) for kind in kinds}, error), {})
    assert found.passes({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}) is passes


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("networking.k8s.io/v1/NetworkPolicy", {"ingress": [None]}),
        ("networking.k8s.io/v1/NetworkPolicy", {"ingress": [{"from": [{"ipBlock": {}}]}]}),
        ("batch/v1/CronJob", {"schedule": None}),
    ],
)
def test_what_is_malformed_is_left_to_the_api_server(kind, spec):
    version, _, name = kind.rpartition("/")
    served = Served({(f"{admission.GROUP}/v1", one) for one in admission.WEBHOOKS})
    served.resource = lambda api_version, kind: {"name": f"{kind.lower()}s"}
    passing = admission.Admission(served, {"n": {"metadata": {}}})
    options = {"field_manager": "modelyard", "adopt_managers": [], "force": False}
    examiner = examination.Examiner(None, options, admission=passing)
    item = {"apiVersion": version, "kind": name, "metadata": {"name": "x", "namespace": "n"}, "spec": spec}
    live = {**item, "metadata": {**item["metadata"], "managedFields": [{**OURS, "apiVersion": version}]}, "spec": {}}
    assert examiner._is_settled(item, live, []) is False


class Applications:
    """A cluster with Argo CD, which notes of which Applications it is asked."""

    def __init__(self):
        self.asked = []

    def resource(self, api_version, kind):
        return {"name": "applications", "namespaced": True}

    def get(self, item):
        self.asked.append(item["metadata"]["name"])
        return {"spec": {"syncPolicy": {"automated": {}}}} if item["metadata"]["name"] == "syncs" else None


def test_an_application_that_many_objects_name_is_read_once():
    argocd = Applications()
    found = syncing.Syncing(argocd, {"argocd_namespace": "argocd"})
    for name in ("syncs", "gone", "syncs", "gone"):
        labels = {"app.kubernetes.io/instance": name}
        live = {"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n", "labels": labels}}
        assert bool(found.keeps(live, set())) is (name == "syncs")
    assert argocd.asked == ["syncs", "gone"]
