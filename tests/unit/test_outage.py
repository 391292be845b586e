"""What a plan's line says of those who use a server, and which pods it expects to find no GPU."""

from types import SimpleNamespace

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import outage, room

GPU = "nvidia.com/gpu"


def deployment(name="d", replicas=1, surge=0, unavailable=1, image="a:1", available=1, gpus=1, **pod):
    limits = {"cpu": "1", **({GPU: gpus} if gpus else {})}
    container = {"name": "c", "image": image, "resources": {"limits": limits}}
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "containers": [container],
            "terminationGracePeriodSeconds": 90,
            "nodeSelector": {"pool": "g"},
            "tolerations": [{"key": GPU, "operator": "Exists"}],
            **pod,
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": "ml", "name": name},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 1000,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            "template": template,
        },
        "status": {"availableReplicas": available, "replicas": replicas},
    }


def change(before, after):
    return SimpleNamespace(item=after or before, before=before, after=after)


ENV = {"priorityClassName": "p"}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, deployment(), ""),
        (deployment(), deployment(), ""),
        (
            deployment(),
            deployment(**ENV),
            "replaces the only pod: down for up to 390 s, 1090 s if a node or the image has to come first",
        ),
        (deployment(), deployment(image="a:2"), "replaces the only pod: down for up to 1090 s"),
        (deployment(), deployment(nodeSelector={}), "replaces the only pod: down for up to 1090 s"),
        (
            deployment(),
            deployment(surge=1, unavailable=0, **ENV),
            "replaces the only pod, which serves until the new one is ready",
        ),
        (
            deployment(replicas=2),
            deployment(replicas=2, **ENV),
            "replaces 1 of its 2 pods at a time: 1 serve on",
        ),
        (
            deployment(replicas=4),
            deployment(replicas=4, unavailable=2, **ENV),
            "replaces 2 of its 4 pods at a time: 2 serve on",
        ),
        (deployment(replicas=2), deployment(replicas=2, unavailable=2, **ENV), "replaces all 2 pods at once: down"),
        # 25% of one pod is none.
        (deployment(), deployment(surge="25%", unavailable="25%", **ENV), "the only pod, which serves until"),
        (
            deployment(replicas=4),
            deployment(replicas=4, surge="25%", unavailable="25%", **ENV),
            "1 of its 4 pods at a time: 3 serve on",
        ),
        (deployment(), deployment(replicas=0), "stops serving"),
        (deployment(), None, "stops serving"),
        # Nothing answers before it, so there is nothing to lose.
        (deployment(available=0), deployment(**ENV), ""),
        (deployment(available=0), None, ""),
        (deployment(replicas=2), deployment(), ""),
    ],
)
def test_the_note_of_a_change(before, after, told):
    notes = outage.notes(change(before, after), 300)
    assert [told in note for note in notes] == [True] * bool(told)


def test_recreate_and_an_unknown_start():
    after = deployment(replicas=3, **ENV)
    after["spec"]["strategy"] = {"type": "Recreate"}
    notes = outage.notes(change(deployment(replicas=3), after))
    assert notes == ["replaces all 3 pods at once: down for up to 1090 s"]


def test_other_kinds_say_nothing():
    item = {"kind": "Service", "metadata": {"name": "s"}}
    assert outage.notes(SimpleNamespace(item=item, before=item, after=None)) == []


# --- Free GPUs ----------------------------------------------------------------------------------------


def node(name, gpus=1, **spec):
    return {
        "metadata": {"name": name, "labels": {"pool": "g"}},
        "spec": {"taints": [{"key": GPU, "effect": "NoSchedule"}], **spec},
        "status": {"allocatable": {"cpu": "4", GPU: str(gpus)}},
    }


def pod(name, on, app="other", gpus=1, cpu="1"):
    spec = {"nodeName": on, "containers": [{"resources": {"limits": {GPU: gpus, "cpu": cpu}}}]}
    return {"metadata": {"namespace": "ml", "name": name, "labels": {"app": app}}, "spec": spec}


SURGING = deployment(surge=1, unavailable=0, **ENV)
OLD = deployment(surge=1, unavailable=0)


def found(changes, nodes, pods, gone=()):
    return room.expected(nodes, pods, list(changes), list(gone), "")


@pytest.mark.parametrize(
    ("changes", "nodes", "pods", "told"),
    [
        # A surge, and a new server: on a node that is full, and beside one that is not.
        (
            [change(OLD, SURGING)],
            [node("n")],
            [pod("p", "n", "d")],
            ["the pod that this run starts beside the old will"],
        ),
        ([change(OLD, SURGING)], [node("n"), node("m")], [pod("p", "n", "d")], []),
        (
            [change(None, deployment())],
            [node("n")],
            [pod("p", "n")],
            ["0 of 1 nvidia.com/gpu are free; taken by ml/p 1"],
        ),
        ([change(None, deployment())], [node("n", 4)], [pod("p", "n")], []),
        # A pod that is replaced in its place needs none, unless it becomes larger.
        ([change(deployment(), deployment(**ENV))], [node("n")], [pod("p", "n", "d")], []),
        ([change(deployment(), deployment(gpus=2))], [node("n")], [pod("p", "n", "d")], ["1 of 1 nvidia.com/gpu are"]),
        # Two for one place.
        (
            [change(None, deployment()), change(None, deployment("e"))],
            [node("n")],
            [],
            ["Deployment ml/e: the pod that this run starts will find no room on the one node of its pool, n, now"],
        ),
        ([change(None, deployment(replicas=3))], [node("n"), node("m")], [], ["1 of the 3 pods that this run starts"]),
        # No room for what else it asks for.
        (
            [change(None, deployment())],
            [node("n", 4)],
            [pod("p", "n", cpu="3500m")],
            ["and 3 of 4 nvidia.com/gpu are free"],
        ),
        # More of the same, and none.
        ([change(deployment(), deployment(replicas=2))], [node("n")], [pod("p", "n", "d")], ["the pod that this run"]),
        ([change(deployment(), deployment(replicas=0))], [node("n")], [pod("p", "n", "d")], []),
        # No GPUs, no pods of this pool, nodes that take no pods: nothing is known.
        ([change(None, deployment(gpus=0))], [node("n")], [pod("p", "n")], []),
        ([change(None, deployment(nodeSelector={"pool": "x"}))], [node("n")], [], []),
        ([change(None, deployment())], [node("n", unschedulable=True)], [], []),
        ([change(None, deployment(tolerations=[]))], [node("n")], [], []),
    ],
)
def test_what_will_find_no_gpu(changes, nodes, pods, told):
    lines = found(changes, nodes, pods)
    assert len(lines) == len(told)
    for line, words in zip(lines, told, strict=True):
        assert words in line


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [change(deployment(), deployment())],
        [change(None, deployment(gpus=0))],
        [change(deployment(), deployment(replicas=0))],
    ],
    ids=["nothing", "no new pod", "no GPU", "parked"],
)
def test_pods_are_listed_only_for_new_ones_with_gpus(changes):
    """There is no cluster here that could be asked."""
    assert room.warnings(None, [node("n")], changes, []) == []


def test_what_goes_makes_room():
    going = change(deployment("other"), None)
    assert found([change(None, deployment())], [node("n")], [pod("p", "n")], [going]) == []


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "a", "operator": "Exists"}, True),
        ({"key": "a", "value": "b"}, True),
        ({"key": "a", "value": "c"}, False),
        ({"key": "a"}, False),
        ({"key": "a", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "b", "operator": "Exists"}, False),
    ],
)
def test_tolerations(toleration, tolerated):
    assert room._tolerates(toleration, {"key": "a", "value": "b", "effect": "NoSchedule"}) == tolerated
