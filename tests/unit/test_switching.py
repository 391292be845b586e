"""What is taken of a live object to apply it again, and of a plan which pods go."""

import json
from types import SimpleNamespace

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import extract, parking, switching

OURS = {
    "f:metadata": {"f:labels": {"f:app": {}}, "f:annotations": {"f:modelyard/switch": {}}},
    "f:spec": {
        "f:replicas": {},
        "f:template": {
            "f:spec": {
                "f:containers": {
                    'k:{"name":"c"}': {
                        ".": {},
                        "f:name": {},
                        "f:args": {},
                        "f:ports": {'k:{"containerPort":8000,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
                    }
                },
                "f:volumes": {'k:{"name":"v"}': {".": {}, "f:name": {}, "f:emptyDir": {}}},
            }
        },
    },
}
KUBECTLS = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"c"}': {"f:image": {}}}}}}}


def live(replicas: int = 0, **notes: str) -> dict:
    """A Deployment with an image that kubectl has set, and what the API server and others put there."""
    container = {
        "name": "c",
        "image": "a:1",
        "args": ["x"],
        "ports": [{"containerPort": 8000, "protocol": "TCP"}],
        "terminationMessagePath": "/dev/termination-log",
    }
    manager = {"operation": "Apply", "apiVersion": "apps/v1"}
    managed = [
        {**manager, "manager": "modelyard", "fieldsV1": OURS},
        {**manager, "manager": "kubectl-set", "operation": "Update", "fieldsV1": KUBECTLS},
    ]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "d",
            "namespace": "n",
            "uid": "1",
            "labels": {"app": "d", "theirs": "x"},
            "annotations": {"deployment.kubernetes.io/revision": "3", **notes},
            "managedFields": managed,
        },
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 10,
            "template": {
                "spec": {"containers": [container, {"name": "theirs"}], "volumes": [{"name": "v", "emptyDir": {}}]}
            },
        },
        "status": {"replicas": 1},
    }


@pytest.mark.parametrize(("adoptable", "image"), [([], {}), (["kubectl-*"], {"image": "a:1"})])
def test_an_object_is_taken_as_it_was_applied(adoptable, image):
    container = {"name": "c", "args": ["x"], "ports": [{"containerPort": 8000}], **image}
    assert extract.applied(live(2), "modelyard", adoptable) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n", "labels": {"app": "d"}, "annotations": {}},
        "spec": {
            "replicas": 2,
            "template": {"spec": {"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]}},
        },
    }


def test_a_judge_whose_switch_was_cut_off_is_remembered_with_its_pods():
    note = json.dumps({"by": "ann", "replicas": 2, "since": "now", "to": "judge-large"})
    found = switching.as_it_was(live(0, **{"modelyard/switch": note}), "modelyard")
    assert (found["spec"]["replicas"], found["metadata"]["annotations"]) == (2, {})


def test_a_judge_without_pods_for_the_sake_of_another_is_not_parked_by_its_schedule():
    scheduled = {parking.SCHEDULE: "from 20:00"}
    assert parking.read(live(0, **scheduled))
    assert not parking.read(live(0, **scheduled, **{switching.NOTE: "{}"}))


def test_a_parked_judge_is_remembered_and_replaced_parked():
    note = parking.write({"by": "ann", "since": "2026-11-27T20:00:00Z", "until": "", "reason": "", "replicas": 2})
    parked = live(0, **{parking.NOTE: note})
    found = switching.as_it_was(parked, "modelyard")
    assert (found["spec"]["replicas"], found["metadata"]["annotations"]) == (0, {parking.NOTE: note})

    def after(*there: dict) -> tuple:
        new = {"kind": "Deployment", "metadata": {"name": "new"}, "spec": {"replicas": 1}}
        same = {"kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 1}}
        switching.stay_parked([{"kind": "Service"}, new, same], there)
        assert same["spec"] == {"replicas": 1}
        return new["spec"]["replicas"], new["metadata"].get("annotations", {})

    assert after(parked) == (0, {parking.NOTE: note})
    awake = {**live(1), "metadata": {**live(1)["metadata"], "name": "e"}}
    # Without a note its schedule has parked it, and the new one has none that would wake it.
    for there in ((), (parked, awake), (live(0, **{parking.SCHEDULE: "from 20:00"}),)):
        assert after(*there) == (1, {})


def test_an_autoscaled_server_gets_its_pods_back_and_another_one_no_number():
    objects = [
        {"kind": "Deployment", "metadata": {"name": name}, "spec": dict(spec)}
        for name, spec in (("a", {}), ("b", {}), ("c", {"replicas": 0}))
    ]
    switching.start(objects, {"a": 2, "c": 1})
    assert [item["spec"] for item in objects] == [{"replicas": 2}, {}, {"replicas": 0}]


def test_the_pods_that_go_are_those_whose_template_changes_or_whose_deployment_does():
    def change(before: int | None, after: int | None, kind: str = "Deployment") -> SimpleNamespace:
        def found(template):
            return {"spec": {"template": template}} if template else None

        return SimpleNamespace(item={"kind": kind}, before=found(before), after=found(after))

    goes, pruned = change(1, 2), change(1, None)
    plan = SimpleNamespace(changes=[goes, change(1, 1), change(None, 1), change(1, 2, "Job")], prune=[pruned])
    assert switching.replaced(plan) == [goes.before, pruned.before]
