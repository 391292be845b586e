"""What a pod asks for, as the scheduler counts it."""

from decimal import Decimal

from ansible_collections.modelyard.core.plugins.module_utils import plan


def container(requests=None, limits=None):
    return {"resources": {"requests": requests or {}, "limits": limits or {}}}


def test_containers_add_up_and_a_limit_stands_for_a_request():
    pod = {"containers": [container({"cpu": "500m"}, {"cpu": 2, "nvidia.com/gpu": 1}), container({"cpu": 1})]}
    assert plan.pod_requests(pod) == {"cpu": Decimal("1.5"), "nvidia.com/gpu": Decimal(1)}


def test_an_init_container_counts_where_it_is_larger():
    pod = {
        "containers": [container({"cpu": 1, "memory": "1Gi"})],
        "initContainers": [container({"cpu": 2}), container({"cpu": 1})],
    }
    assert plan.pod_requests(pod) == {"cpu": Decimal(2), "memory": Decimal(2**30)}


def test_a_container_without_resources():
    assert plan.pod_requests({"containers": [{}]}) == {}
