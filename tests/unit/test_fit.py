"""What a pod requests, as the scheduler counts it, and which node could take it."""

from decimal import Decimal

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import fit


def container(requests=None, limits=None):
    return {"resources": {"requests": requests or {}, "limits": limits or {}}}


def test_containers_add_up_and_a_limit_stands_for_a_request():
    pod = {"containers": [container({"cpu": "500m"}, {"cpu": 2, "nvidia.com/gpu": 1}), container({"cpu": 1})]}
    assert fit.pod_requests(pod) == {"cpu": Decimal("1.5"), "nvidia.com/gpu": Decimal(1)}


def test_an_init_container_counts_where_it_is_larger():
    pod = {
        "containers": [container({"cpu": 1, "memory": "1Gi"})],
        "initContainers": [container({"cpu": 2}), container({"cpu": 1})],
    }
    assert fit.pod_requests(pod) == {"cpu": Decimal(2), "memory": Decimal(2**30)}


def test_a_container_without_resources():
    assert fit.pod_requests({"containers": [{}]}) == {}


def test_the_nearest_node_is_named():
    def node(name, **room):
        return {"metadata": {"name": name}, "status": {"allocatable": room}}

    pod = {"containers": [container({"cpu": 4, "memory": "8Gi"})]}
    pool = [node("small", cpu="2", memory="4Gi"), node("near", cpu="3920m", memory="14162Mi")]
    assert fit.too_large("d", pod, pool) == [
        "Deployment d fits on none of the 2 nodes that its node selector finds; near comes nearest: the pod asks for 4 cpu, it has 3920m"
    ]
    assert fit.too_large("d", pod, [*pool, node("large", cpu="8", memory="32Gi")]) == []
