"""What a run takes of a namespace's quotas."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import quota
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.change import Change

PLURALS = {
    "ConfigMap": "configmaps",
    "Deployment": "deployments.apps",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "Service": "services",
}


def limited(hard, used=None, **spec):
    metadata = {"namespace": "ml-models", "name": "q"}
    return {"metadata": metadata, "spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used or {}}}


def item(kind, name="one", **more):
    return {"kind": kind, "metadata": {"name": name}, **more}


def deployment(replicas=1, requests=None, limits=None, image="a", running=None, unavailable=0, **pod):
    containers = [{"name": "c", "image": image, "resources": {"requests": requests or {}, "limits": limits or {}}}]
    spec = {"replicas": replicas, "template": {"spec": {"containers": containers, **pod}}}
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable}}
    status = {} if running is None else {"status": {"replicas": running}}
    return item("Deployment", "d", spec=spec, **status)


def change(after, before=None):
    return Change("update" if before else "create", after or before, before, after)


def told(hard, *changes, used=None, gone=(), ranges=(), **spec):
    quotas = [limited(hard, used, **spec)]
    return quota.exceeded(quotas, list(ranges), changes, gone, lambda item: PLURALS[item["kind"]])


def test_what_each_object_has_room_for_the_sum_may_not():
    maps = [change(item("ConfigMap", name)) for name in ("one", "two")]
    for name in ("configmaps", "count/configmaps"):
        assert told({name: "3"}, *maps, used={name: "1"}) == []
        assert told({name: "3"}, *maps, used={name: "2"}) == [
            f"ResourceQuota ml-models/q has room for 1 {name} (2 of 3 used), and this run needs 2: ConfigMap one 1, ConfigMap two 1"
        ]


def test_an_update_takes_only_what_it_adds():
    old, new = ({"type": kind, "ports": [{}, {}]} for kind in ("ClusterIP", "LoadBalancer"))
    exposed = change(item("Service", spec=new), item("Service", spec=old))
    assert told({"services": "1"}, exposed, used={"services": "1"}) == []
    assert len(told({"services.loadbalancers": "0", "services.nodeports": "1"}, exposed)) == 2


def test_claims_take_storage_of_their_class_too():
    spec = {"storageClassName": "gp3", "resources": {"requests": {"storage": "100Gi"}}}
    claim = change(item("PersistentVolumeClaim", spec=spec))
    of_class = "gp3.storageclass.storage.k8s.io/requests.storage"
    assert told({"requests.storage": "100Gi", of_class: "100Gi"}, claim) == []
    assert [line.split("(")[0] for line in told({"requests.storage": "99Gi", of_class: "1Gi"}, claim)] == [
        "ResourceQuota ml-models/q has room for 101376Mi requests.storage ",
        f"ResourceQuota ml-models/q has room for 1024Mi {of_class} ",
    ]


@pytest.mark.parametrize(
    ("hard", "fits"),
    [
        ({"requests.nvidia.com/gpu": "7"}, False),
        ({"requests.nvidia.com/gpu": "8"}, True),
        ({"pods": "1"}, False),
        ({"cpu": "7"}, False),
        ({"requests.cpu": "8"}, True),
        ({"limits.memory": "127Gi"}, False),
        ({"limits.memory": "128Gi"}, True),
        ({"count/deployments.apps": "0"}, False),
    ],
)
def test_pods_are_counted_before_there_are_any(hard, fits):
    pods = deployment(2, {"cpu": 4}, {"memory": "64Gi", "nvidia.com/gpu": 4})
    assert (told(hard, change(pods)) == []) == fits


def test_a_rollout_that_keeps_the_old_pods_needs_room_for_one_more():
    old, new = deployment(limits={"gpu": 4}, running=1), deployment(limits={"gpu": 4}, image="b")
    used = {"requests.gpu": "4"}
    assert len(told({"requests.gpu": "7"}, change(new, old), used=used)) == 1
    assert told({"requests.gpu": "8"}, change(new, old), used=used) == []
    in_place = deployment(limits={"gpu": 4}, image="b", unavailable=1)
    assert told({"requests.gpu": "4"}, change(in_place, old), used=used) == []
    # More replicas of the same, and pods that were refused before: the live number counts.
    assert len(told({"requests.gpu": "8"}, change(deployment(3, limits={"gpu": 4}), old), used=used)) == 1
    refused = deployment(2, limits={"gpu": 4}, running=1)
    assert len(told({"requests.gpu": "4"}, change(deployment(2, limits={"gpu": 4}), refused), used=used)) == 1


def test_a_rollout_to_another_number_brings_the_old_pods_to_it_first():
    """Seen on an API server: with 1 of 2 pods used, 2 replicas of another image are refused; with 3 of 3, one is not."""
    one, three = deployment(limits={"gpu": 4}, running=1), deployment(3, limits={"gpu": 4}, running=3)
    more = {**deployment(2, limits={"gpu": 4}, image="b"), "status": {"replicas": 1}}
    assert "needs 2: Deployment d 2" in told({"pods": "2"}, change(more, one), used={"pods": "1"})[0]
    assert told({"pods": "3"}, change(more, one), used={"pods": "1"}) == []
    assert told({"pods": "3"}, change(deployment(1, image="b"), three), used={"pods": "3"}) == []


def test_a_quota_that_is_exceeded_already_refuses_other_pods_and_nothing_else():
    old, other = deployment(2, running=2, unavailable=1), deployment(2, image="b", unavailable=1)
    assert told({"pods": "1"}, change(other, old), used={"pods": "2"}) == [
        "ResourceQuota ml-models/q is exceeded already (2 of 1 pods used), and this run needs other pods, which would be refused: Deployment d"
    ]
    assert told({"pods": "1"}, change(deployment(2, unavailable=1), old), used={"pods": "2"}) == []
    assert told({"pods": "1"}, change(deployment(1, unavailable=1), old), used={"pods": "2"}) == []


def test_init_containers_must_say_too_and_those_that_go_on_add_up():
    cpu = {"resources": {"requests": {"cpu": "1"}}}
    assert "say nothing of it" in told({"cpu": "8"}, change(deployment(requests={"cpu": 1}, initContainers=[{}])))[0]
    beside = deployment(requests={"cpu": 1}, initContainers=[{"restartPolicy": "Always", **cpu}])
    assert len(told({"cpu": "1500m"}, change(beside))) == 1
    assert told({"cpu": "2"}, change(beside)) == []
    assert told({"cpu": "1"}, change(deployment(requests={"cpu": 1}, initContainers=[cpu]))) == []
    assert len(told({"cpu": "1"}, change(deployment(**cpu["resources"], resources={"requests": {"cpu": 2}})))) == 1


def test_what_goes_makes_room_for_pods():
    new, old = deployment(limits={"gpu": 4}), change(None, deployment(limits={"gpu": 4}, running=1))
    used = {"requests.gpu": "4"}
    assert told({"requests.gpu": "4"}, change(new), used=used, gone=[old]) == []


def test_pods_that_must_say_how_much_and_do_not_are_told_unless_the_namespace_has_a_default():
    pods = change(deployment(limits={"memory": "1Gi"}))
    assert told({"limits.cpu": "8"}, pods) == [
        "ResourceQuota ml-models/q counts limits.cpu, and the pods of Deployment d say nothing of it: they would be refused"
    ]
    assert told({"requests.memory": "8Gi"}, pods) == []
    default = {"spec": {"limits": [{"type": "Container", "default": {"cpu": "9"}}]}}
    assert "room for 8 limits.cpu" in told({"limits.cpu": "8"}, pods, ranges=[default])[0]


@pytest.mark.parametrize(
    ("spec", "counts"),
    [
        ({"scopes": ["Terminating"]}, False),
        ({"scopes": ["NotTerminating", "NotBestEffort"]}, True),
        ({"scopes": ["BestEffort"]}, False),
        ({"operator": "In", "values": ["high"]}, True),
        ({"operator": "In", "values": ["low"]}, False),
        ({"operator": "NotIn", "values": ["high"]}, False),
        ({"operator": "Exists"}, True),
        ({"operator": "DoesNotExist"}, False),
    ],
)
def test_a_quota_with_a_scope_counts_only_its_pods(spec, counts):
    if "operator" in spec:
        spec = {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", **spec}]}}
    pods = change(deployment(limits={"cpu": 1}, priorityClassName="high"))
    assert bool(told({"pods": "0"}, pods, **spec)) == counts


def test_init_containers_make_a_pod_no_best_effort_and_a_gpu_does_not():
    cpu = {"resources": {"requests": {"cpu": "1"}}}
    assert told({"pods": "0"}, change(deployment(initContainers=[cpu])), scopes=["BestEffort"]) == []
    assert len(told({"pods": "0"}, change(deployment(limits={"nvidia.com/gpu": 1})), scopes=["BestEffort"])) == 1
