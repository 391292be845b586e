"""The table that a run in check mode ends with: what an approver reads."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import foretold
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.change import Change


def deployment(replicas=1, image="a:1", name="d"):
    template = {"spec": {"containers": [{"name": "c", "image": image}]}}
    metadata = {"namespace": "n", "name": name}
    return {"kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas, "template": template}}


def thing(kind, name="t"):
    return {"kind": kind, "metadata": {"namespace": "n", "name": name}}


def change(action, before=None, after=None, **more):
    return Change(action, after or before, before, after, **more)


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (change("create", None, deployment(2)), "starts 2 pods"),
        (change("create", None, deployment(0)), "starts no pod"),
        # What is known of those who use it is said as the plan's line says it.
        (
            change("update", deployment(), deployment(image="a:2"), notes=["replaces the only pod: down for up to 9 s"]),
            "replaces the only pod: down for up to 9 s",
        ),
        (change("update", deployment(2), deployment(2, image="a:2")), "replaces 2 pods, none of which serves now"),
        (change("update", deployment(0), deployment(0, image="a:2")), "its pods are parked"),
        (change("update", deployment(1), deployment(3)), "restarts no pod, and there are 3 instead of 1"),
        (change("update", deployment(), deployment()), "restarts no pod"),
        (change("prune", deployment(), notes=["stops serving"]), "stops serving"),
        (change("prune", deployment()), "nothing of it serves now"),
        (change("prune", thing("PersistentVolumeClaim")), "its data goes with it"),
        (change("create", None, thing("PersistentVolumeClaim")), "-"),
        (change("prune", thing("Application"), cascade=True), "Argo CD removes what it deployed"),
        (change("remove", thing("Application"), cascade=False), "what it deployed stays"),
        (change("update", thing("Service"), thing("Service")), "-"),
    ],
)  # fmt: skip
def test_an_effect_says_what_starts_ends_or_is_lost(one, told):
    assert foretold.effect(one) == told


ROWS = [
    *(foretold.row(change("create", None, thing("Service", name))) for name in "ab"),
    foretold.row(change("create", None, thing("Role"))),
    *(foretold.row(change("create", None, deployment(1, name=name))) for name in "de"),
]


def test_each_effect_has_its_row_and_what_has_none_is_counted():
    assert foretold.lines(ROWS) == [
        "WOULD   OBJECT          EFFECT",
        "create  2 x Service     -",
        "create  Role n/t        -",
        "create  Deployment n/d  starts 1 pod",
        "create  Deployment n/e  starts 1 pod",
    ]
    assert foretold.lines([]) == []


def test_on_a_narrow_terminal_an_effect_stands_below_and_is_not_cut():
    rows = [foretold.row(change("update", deployment(), deployment(image="b"), notes=["replaces " + "x" * 60]))]
    assert foretold.lines([*rows, *ROWS[:2]], 77) == [
        "WOULD   OBJECT",
        "update  Deployment n/d",
        f"        replaces {'x' * 60}",
        "create  2 x Service",
    ]
