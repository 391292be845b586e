"""The arithmetic of field ownership."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import fields

POD = {
    "containers": [{"name": "c", "image": "a:1", "env": [{"name": "A", "value": "b"}, {"name": "FOO", "value": "bar"}]}]
}
FOO = {"f:containers": {'k:{"name":"c"}': {"f:env": {'k:{"name":"FOO"}': {".": {}, "f:name": {}, "f:value": {}}}}}}


def live(*entries):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "managedFields": list(entries)}}


def entry(manager, trie, operation="Update", **more):
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": trie,
        **more,
    }


def test_union_keeps_both_and_changes_neither():
    one, other = {"f:a": {"f:b": {}}}, {"f:a": {"f:c": {}}, "f:d": {}}
    assert fields.union(one, other) == {"f:a": {"f:b": {}, "f:c": {}}, "f:d": {}}
    assert one == {"f:a": {"f:b": {}}}


def test_difference_is_by_leaf():
    assert fields.difference({"f:a": {"f:b": {}, "f:c": {}}, "f:d": {}}, {"f:a": {"f:b": {}}}) == {
        "f:a": {"f:c": {}},
        "f:d": {},
    }
    assert fields.difference({"f:a": {"f:b": {}}}, {"f:a": {"f:b": {}}}) == {}


@pytest.mark.parametrize(
    ("manager", "taken"),
    [("kubectl", True), ("kubectl-edit", True), ("kubectl-rollout", False), ("kube-controller-manager", False)],
)
def test_a_restart_by_kubectl_is_never_taken_back(manager, taken):
    assert fields.matches(manager, ["kubectl", "kubectl-*", "!kubectl-rollout"]) is taken


@pytest.mark.parametrize(
    ("api", "manager", "taken"),
    [
        ("argoproj.io/v1alpha1", "argocd-application-controller", False),
        ("argoproj.io/v1alpha1", "argocd-applicationset-controller", False),
        ("argoproj.io/v1alpha1", "argocd-server", True),  # a person, in Argo CD's web interface
        ("v1", "argocd-controller", True),
        ("v1", "argocd-application-controller", True),
    ],
)
def test_what_argocd_notes_in_an_application_is_its_own(api, manager, taken):
    item = live(entry(manager, {"f:status": {"f:health": {}}}, apiVersion=api)) | {"apiVersion": api}
    _, absorb, others = fields.split(item, "modelyard", ["argocd-*"])
    assert (len(absorb), len(others)) == ((1, 0) if taken else (0, 1))


def test_remove_takes_one_item_of_a_keyed_list():
    assert fields.remove(POD, FOO) == {
        "containers": [{"name": "c", "image": "a:1", "env": [{"name": "A", "value": "b"}]}]
    }
    assert len(POD["containers"][0]["env"]) == 2


def test_remove_takes_a_leaf_a_map_that_it_empties_and_a_set_item():
    data = {"data": {"k": "w", "extra": "1"}, "labels": {"x": "y"}, "finalizers": ["a", "b"]}
    trie = {"f:data": {"f:extra": {}}, "f:labels": {".": {}, "f:x": {}}, "f:finalizers": {'v:"b"': {}}}
    assert fields.remove(data, trie) == {"data": {"k": "w"}, "finalizers": ["a"]}


def test_what_is_emptied_goes_as_a_whole():
    assert fields.remove({"os": {"name": "linux"}, "a": 1}, {"f:os": {"f:name": {}}}) == {"a": 1}
    assert fields.remove({"emptyDir": {}}, {"f:emptyDir": {"f:medium": {}}}) == {"emptyDir": {}}


def test_what_defaults_filled_in_goes_with_a_field_that_nobody_else_holds():
    trie = {"f:livenessProbe": {"f:grpc": {"f:port": {}}}, "f:annotations": {"f:x": {}}}
    assert fields.unset(trie, {}, {}) == {"f:livenessProbe": {}, "f:annotations": {"f:x": {}}}
    assert fields.unset(trie, {}, {"f:livenessProbe": {"f:periodSeconds": {}}}) == trie


def test_a_restarts_mark_stays_when_the_map_around_it_is_taken():
    mark = {".": {}, f"f:{fields.RESTARTED_AT}": {}}
    trie = {"f:spec": {"f:annotations": {**mark, "f:x": {}}, "f:paused": {}}, "f:metadata": {"f:annotations": mark}}
    assert fields.without_status(trie) == {"f:spec": {"f:annotations": {"f:x": {}}, "f:paused": {}}}


def test_an_item_that_was_renamed_is_covered_by_its_name():
    trie = {"f:ports": {'k:{"port":80}': {"f:name": {}}}}
    assert fields.covers(trie, ("ports", "[http]", "port"))
    assert not fields.covers({"f:ports": {'k:{"port":80}': {"f:targetPort": {}}}}, ("ports", "[http]", "port"))


def test_split_sorts_ours_adoptable_and_foreign():
    ours, person, controller = (
        entry("us", {"f:a": {}}, "Apply"),
        entry("kubectl-edit", {"f:b": {}}),
        entry("hpa", {"f:c": {}}),
    )
    status = entry("kubectl-edit", {"f:status": {}}, subresource="status")
    assert fields.split(live(ours, person, controller, status), "us", ["kubectl-*"]) == (
        {"f:a": {}},
        [person],
        [controller, status],
    )


def test_absorbed_makes_a_persons_fields_ours_but_not_status_nor_the_restart_mark():
    edit = {
        "f:data": {"f:k": {}},
        "f:status": {"f:x": {}},
        "f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/restartedAt": {}}},
    }
    scale = entry("kubectl", {"f:spec": {"f:replicas": {}}}, subresource="scale", apiVersion="autoscaling/v1")
    item = live(
        entry("us", {"f:data": {"f:a": {}}}, "Apply"), entry("kubectl-edit", edit), scale, entry("hpa", {"f:c": {}})
    )
    kept, marked, ours = fields.absorbed(item, {"kind": "ConfigMap"}, "us", ["kubectl", "kubectl-*"])
    assert kept["manager"] == "hpa"
    assert marked == entry("kubectl-edit", {"f:metadata": edit["f:metadata"]})
    # Nothing is taken of one that holds only the mark.
    assert fields.split(live(marked), "us", ["kubectl-*"]) == ({}, [], [marked])
    assert ours["fieldsV1"] == {
        "f:data": {"f:a": {}, "f:k": {}},
        "f:spec": {"f:replicas": {}},
    }


def test_replicas_that_are_left_out_are_handed_over_and_nothing_else_is():
    own = {"f:spec": {"f:replicas": {}, "f:paused": {}}}
    left_out, given = {"kind": "Deployment", "spec": {}}, {"kind": "Deployment", "spec": {"replicas": 1}}
    assert fields.handed_over(left_out, own) == {"f:spec": {"f:replicas": {}}}
    assert fields.handed_over(given, own) == fields.handed_over(left_out, {}) == {}
    item = live(entry("us", own, "Apply"))
    assert fields.absorbed(item, left_out, "us", [])[0]["fieldsV1"] == {"f:spec": {"f:paused": {}}}


def test_leftover_is_what_nobody_else_holds():
    person = entry("kubectl-edit", {"f:data": {"f:k": {}, "f:shared": {}, "f:extra": {}}})
    item = live(
        entry("us", {"f:data": {"f:k": {}}}, "Apply"), person, entry("controller", {"f:data": {"f:shared": {}}})
    )
    assert fields.leftover(item, {"data": {"k": ""}}, "us", ["kubectl-*"]) == {"f:data": {"f:extra": {}}}


def test_changes_compares_named_items_by_name():
    other = {
        "containers": [
            {"name": "c", "image": "a:2", "env": [{"name": "FOO", "value": "bar"}, {"name": "A", "value": "b"}]}
        ]
    }
    found = fields.changes(POD, other)
    assert [(fields.dotted(path), old, new) for path, old, new in found] == [("containers[c].image", "a:1", "a:2")]


def test_covers_tells_whose_field_a_change_is():
    assert fields.covers(FOO, ("containers", "[c]", "env", "[FOO]"))
    assert not fields.covers(FOO, ("containers", "[c]", "image"))


def test_leaves_are_named_as_people_name_them():
    trie = {"f:metadata": {"f:labels": {".": {}, "f:team": {}}}, "f:spec": {"f:replicas": {}}}
    assert fields.leaves(trie) == ["metadata.labels", "metadata.labels.team", "spec.replicas"]
