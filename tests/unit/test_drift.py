"""Which fields of a live object are not as the inventory says, and who wrote them: what a cluster rarely shows. The rest is in tests/test_drift.py."""

import copy
import json

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import fields, findings, parking
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.defaults import Defaults
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.drift import as_applied
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.edits import Comparison, Edit, same
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.findings import Found

# With our own name, as cluster/drift.py gives them.
ADOPTABLE = ["kubectl", "kubectl-*", "!kubectl-rollout", "modelyard"]
NAME = {"name": "a", "namespace": "ns"}
CONTAINER = {
    "name": "c",
    "image": "a:1",
    "ports": [{"containerPort": 80, "name": "http"}],
    "env": [{"name": "E", "value": ""}],
}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {**NAME, "labels": {"app": "a"}},
    "spec": {"replicas": 1, "template": {"spec": {"containers": [CONTAINER], "nodeSelector": {}}}},
}
PORT = {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}, "f:name": {}}}
ENV = {'k:{"name":"E"}': {".": {}, "f:name": {}, "f:value": {}}}
OURS = {
    "f:metadata": {"f:labels": {"f:app": {}}},
    "f:spec": {
        "f:replicas": {},
        "f:template": {
            "f:spec": {
                "f:nodeSelector": {},
                "f:containers": {
                    'k:{"name":"c"}': {".": {}, "f:name": {}, "f:image": {}, "f:ports": PORT, "f:env": ENV}
                },
            }
        },
    },
}
CONTAINERS = ("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"c"}')
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": NAME,
    "spec": {"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": 80}]}]},
}


def entry(manager, trie, operation="Update", time="2026-11-29T10:00:00Z", **more):
    return {"manager": manager, "operation": operation, "time": time, "fieldsV1": trie, **more}


def trie(*path):
    """Hold one field."""
    return {path[0]: trie(*path[1:])} if path else {}


def live():
    """What the API server makes of DEPLOYMENT: defaults that nobody holds, an empty value that it leaves out."""
    found = copy.deepcopy(DEPLOYMENT)
    pod = found["spec"]["template"]["spec"]
    pod |= {"restartPolicy": "Always", "schedulerName": "default-scheduler"}
    del pod["nodeSelector"], pod["containers"][0]["env"][0]["value"]
    pod["containers"][0]["ports"][0]["protocol"] = "TCP"
    found["metadata"]["managedFields"] = [entry("modelyard", copy.deepcopy(OURS), "Apply", "2026-11-29T09:00:00Z")]
    return found


def policy(trie_of_ours=None):
    found = copy.deepcopy(POLICY)
    found["spec"]["ingress"][0]["ports"][0]["protocol"] = "TCP"
    held = {"f:spec": {"f:podSelector": {}, "f:ingress": {}}} if trie_of_ours is None else trie_of_ours
    found["metadata"] = {**NAME, "managedFields": [entry("modelyard", held, "Apply")]}
    return found


def container(found):
    return found["spec"]["template"]["spec"]["containers"][0]


def compared(item, found):
    def ours(one):
        return (one["manager"], one["operation"], one.get("subresource")) == ("modelyard", "Apply", None)

    return Comparison(item, found, ours, ADOPTABLE, Defaults(None).fills)


def told(item, found):
    return [
        f"{edit.what} {fields.dotted(edit.path)} {edit.writer.get('manager', '')}".strip()
        for edit in compared(item, found).edits
    ]


def test_what_the_api_server_fills_in_or_leaves_out_is_no_edit():
    assert told(DEPLOYMENT, live()) == []
    assert told(POLICY, policy()) == []


def test_an_empty_field_that_somebody_removed_is_not_one_that_the_api_server_leaves_out():
    found = live()
    item = copy.deepcopy(DEPLOYMENT)
    item["spec"]["template"]["spec"]["automountServiceAccountToken"] = False
    assert told(item, found) == ["removed spec.template.spec.automountServiceAccountToken"]
    found["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"][
        "f:automountServiceAccountToken"
    ] = {}
    assert told(item, found) == []


def test_the_latest_who_holds_a_field_wrote_it_and_we_only_where_nobody_else_does():
    found = live()
    found["spec"]["replicas"] = 3
    assert told(DEPLOYMENT, found) == ["changed spec.replicas modelyard"]
    scale = {"subresource": "scale"}
    held = trie("f:spec", "f:replicas")
    found["metadata"]["managedFields"] += [
        entry("kubectl", held, **scale),
        entry("kube-controller-manager", held, time="2026-11-29T11:00:00Z", **scale),
    ]
    assert told(DEPLOYMENT, found) == ["changed spec.replicas kube-controller-manager"]


@pytest.mark.parametrize(
    ("manager", "operation", "key", "drift"),
    [
        # What people write by, a run takes away; what controllers note, it leaves.
        ("kubectl-label", "Update", "team", True),
        ("helm", "Apply", "team", False),
        # Of ours, and no longer in the inventory.
        ("modelyard", "Apply", "team", True),
        # Argo CD's own mark, where Argo CD applies as we would.
        ("modelyard", "Apply", "argocd.argoproj.io/installation-id", False),
        # By our name, and by hand.
        ("modelyard", "Update", "team", True),
        ("kubectl-client-side-apply", "Update", "kubectl.kubernetes.io/last-applied-configuration", False),
    ],
)
def test_who_adds_a_label_decides_whether_it_is_drift(manager, operation, key, drift):
    found = live()
    found["metadata"]["labels"][key] = "x"
    held = trie("f:metadata", "f:labels", f"f:{key}")
    found["metadata"]["managedFields"].append(entry(manager, held, operation))
    assert [edit.path[-1] for edit in compared(DEPLOYMENT, found).edits] == [key] * drift


@pytest.mark.parametrize("manager", ["kubectl-patch", "helm", "sidecar-injector"])
def test_what_anybody_adds_to_a_pod_is_drift_and_told_once(manager):
    found = live()
    mesh = {
        "name": "mesh",
        "image": "m:1",
        "imagePullPolicy": "IfNotPresent",
        "terminationMessagePolicy": "File",
        "resources": {},
    }
    found["spec"]["template"]["spec"]["containers"].append(mesh)
    held = {'k:{"name":"mesh"}': {".": {}, **{f"f:{key}": {} for key in mesh}}}
    found["metadata"]["managedFields"].append(entry(manager, trie("f:spec", "f:template", "f:spec") | {}))
    found["metadata"]["managedFields"][-1]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"] = held
    (edit,) = compared(DEPLOYMENT, found).edits
    # Without what the API server filled in.
    assert (edit.path[-1], edit.live, edit.writer["manager"]) == ("[mesh]", {"name": "mesh", "image": "m:1"}, manager)


def test_what_a_controller_of_kubernetes_adds_is_its_own():
    found = live()
    found["spec"]["paused"] = True
    found["metadata"]["managedFields"].append(entry("kube-controller-manager", trie("f:spec", "f:paused")))
    assert told(DEPLOYMENT, found) == []
    found["metadata"]["managedFields"][-1]["manager"] = "kubectl-rollout"
    assert told(DEPLOYMENT, found) == ["added spec.paused kubectl-rollout"]


def test_replicas_that_the_inventory_leaves_out_are_whose_they_are():
    item, found = copy.deepcopy(DEPLOYMENT), live()
    del item["spec"]["replicas"], found["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:replicas"]
    found["spec"]["replicas"] = 7
    found["metadata"]["managedFields"].append(entry("kubectl", trie("f:spec", "f:replicas"), subresource="scale"))
    assert told(item, found) == []


@pytest.mark.parametrize(
    ("kind", "spec", "annotations", "drift"),
    [
        ("HorizontalPodAutoscaler", {"maxReplicas": 3}, {}, ["changed spec.replicas kubectl"]),
        ("HorizontalPodAutoscaler", {"minReplicas": 0}, {}, []),
        ("HorizontalPodAutoscaler", {"maxReplicas": 3}, {parking.NOTE: '{"by": "ann"}'}, []),
        ("ScaledObject", {"minReplicaCount": 2}, {}, ["changed spec.replicas kubectl"]),
        ("ScaledObject", {"maxReplicaCount": 2}, {}, []),
    ],
)
def test_zero_pods_of_an_autoscaler_that_keeps_more_is_an_edit(kind, spec, annotations, drift):
    item, found = copy.deepcopy(DEPLOYMENT), live()
    del item["spec"]["replicas"], found["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:replicas"]
    found["spec"]["replicas"], found["metadata"]["annotations"] = 0, annotations
    found["metadata"]["managedFields"].append(entry("kubectl", trie("f:spec", "f:replicas"), subresource="scale"))
    scaler = {"kind": kind, "metadata": NAME, "spec": {"scaleTargetRef": {"name": "a"}, **spec}}
    options = {"field_manager": "modelyard", "adopt_managers": ADOPTABLE, "objects": [item, scaler]}
    assert told(as_applied(item, found, options), found) == drift


def test_an_added_default_is_none_and_another_value_is():
    found = live()
    container(found)["imagePullPolicy"] = "IfNotPresent"
    found["metadata"]["managedFields"].append(entry("kubectl-edit", trie(*CONTAINERS, "f:imagePullPolicy")))
    assert told(DEPLOYMENT, found) == []
    container(found)["imagePullPolicy"] = "Always"
    assert told(DEPLOYMENT, found) == ["added spec.template.spec.containers[c].imagePullPolicy kubectl-edit"]


def test_a_port_whose_number_was_changed_is_still_that_port():
    found = live()
    container(found)["ports"][0]["containerPort"] = 81
    held = {'k:{"containerPort":81,"protocol":"TCP"}': {".": {}, "f:containerPort": {}, "f:name": {}, "f:protocol": {}}}
    ours = found["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"][
        'k:{"name":"c"}'
    ]
    del ours["f:ports"]
    found["metadata"]["managedFields"].append(
        entry(
            "kubectl-edit",
            {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"c"}': {"f:ports": held}}}}}},
        )
    )
    assert told(DEPLOYMENT, found) == [
        "changed spec.template.spec.containers[c].ports[http].containerPort kubectl-edit"
    ]


def test_in_a_list_that_is_one_value_even_our_own_name_hides_nothing():
    found = policy()
    found["spec"]["ingress"][0]["from"][0] = {"namespaceSelector": {}, "podSelector": {}}
    assert told(POLICY, found) == ["added spec.ingress[0].from[0].podSelector modelyard"]
    # A selector of everything, without which the rule lets in everyone.
    found["spec"]["ingress"][0]["from"][0] = {"ipBlock": {"cidr": "0.0.0.0/0"}}
    assert told(POLICY, found) == ["changed spec.ingress[0].from[0] modelyard"]
    found["spec"]["ingress"][0] = {"ports": [{"port": 80, "protocol": "TCP"}]}
    assert told(POLICY, found) == ["removed spec.ingress[0].from"]


def test_of_a_list_that_got_longer_only_what_differs_is_shown():
    found = policy()
    found["spec"]["ingress"].append({"from": [{"podSelector": {}}]})
    (edit,) = compared(POLICY, found).edits
    lines = Found(POLICY, edit).lines()
    assert lines[0] == "changed spec.ingress (- inventory, + cluster) (modelyard, Apply, 2026-11-29T10:00:00Z)"
    assert lines[1:] == ['  + {"from": [{"podSelector": {}}]}']


def test_an_object_that_no_run_applied_says_who_made_it():
    found = live()
    assert compared(DEPLOYMENT, found).made is None
    found["metadata"]["managedFields"] = [
        entry("late", OURS, time="2026-11-29T11:00:00Z"),
        entry("kubectl-create", OURS),
    ]
    assert compared(DEPLOYMENT, found).made["manager"] == "kubectl-create"
    # Of one whose books somebody emptied nothing is known; no default is told as an edit, and every edit is.
    found["metadata"]["managedFields"] = []
    assert (compared(DEPLOYMENT, found).made, told(DEPLOYMENT, found)) == ({}, [])
    found["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "1"}
    found["metadata"]["labels"]["team"] = "x"
    found["spec"]["template"]["spec"] |= {"hostNetwork": True, "terminationGracePeriodSeconds": 30}
    assert told(DEPLOYMENT, found) == ["added spec.template.spec.hostNetwork", "added metadata.labels.team"]


@pytest.mark.parametrize(
    ("path", "one", "other", "equal"),
    [
        (("spec", "resources", "limits", "cpu"), "2", "2000m", True),
        (("spec", "resources", "limits", "memory"), "1Gi", "1G", False),
        (("spec", "env", "[A]", "value"), "2", "2000m", False),
        (("data", "limits"), "2", "2000m", False),
        (("spec", "x"), 1, True, False),
        (("spec", "x"), 1, 1.0, True),
    ],
)
def test_quantities_are_the_same_by_their_amount(path, one, other, equal):
    assert same(path, one, other) is equal


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Secret", ("data", "password"), "dmVyeS1zZWNyZXQ="),
        ("Deployment", ("spec", "env", "[DB_PASSWORD]", "value"), "very-secret"),
        ("Deployment", ("spec", "env", "[A]"), {"name": "HF_TOKEN", "value": "very-secret"}),
        ("Deployment", ("spec", "args"), ["--api-key", "very-secret", "--hf-token=very-secret"]),
        ("ConfigMap", ("data", "url"), "https://user:very-secret@x"),
    ],
)
def test_a_credential_is_never_shown(kind, path, value):
    item = {"kind": kind, "metadata": NAME}
    for edit in (
        Edit("added", path, None, value, {}),
        Edit("removed", path, value, None, {}),
        Edit("changed", path, value, "x", {}),
    ):
        one = Found(item, edit)
        said = json.dumps([findings.told([one]), one.report()])
        assert "very-secret" not in said
        assert "dmVyeS1" not in said
        assert "hidden" in said


def test_an_api_that_publishes_defaults_is_asked_for_them():
    class Published:
        def request(self, method, path):
            assert (method, path) == ("GET", "/openapi/v3/apis/gateway.networking.k8s.io/v1")
            weight = {"properties": {"weight": {"default": 1}}}
            rules = {"items": {"properties": {"backendRefs": {"items": weight}}}}
            spec = {"properties": {"rules": rules, "labels": {"additionalProperties": {"default": ""}}}}
            kind = {"x-kubernetes-group-version-kind": [{"kind": "HTTPRoute"}], "properties": {"spec": spec}}
            return {"components": {"schemas": {"x": kind}}}

    item = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"}
    fills = Defaults(Published()).fills
    path = ("spec", "rules", "[0]", "backendRefs", "[a]", "weight")
    assert fills(item, path, 1, {})
    assert not fills(item, path, 0, {})
    assert not fills(item, ("spec", "labels", "x"), "", {})
