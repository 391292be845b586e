"""The order of a teardown, and which Applications are whose."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import owned, teardown
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import CLUSTER, COMPONENT, RELEASE


def item(kind, **labels):
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "one", "labels": labels}}


def test_what_makes_others_goes_first_and_the_records_of_releases_last():
    order = ["ApplicationSet", "Application", "CronJob", "Deployment", "Service", "ConfigMap", "Role", "ServiceAccount"]
    places = [teardown.step_of(item(kind)) for kind in order]
    assert places == sorted(set(places))
    assert teardown.step_of(item("ConfigMap", **{COMPONENT: RELEASE})) > places[-1]
    assert teardown.step_of(item("VirtualService")) == teardown.step_of(item("Service"))


def applications(*parts):
    elements = [{"application": part.replace("/", "-"), "part": part} for part in parts]
    return {**item("ApplicationSet"), "spec": {"generators": [{"list": {"elements": elements}}]}}


@pytest.mark.parametrize(
    ("found", "others"),
    [
        (applications("here/vllm"), False),
        (applications("here/vllm", "there/vllm"), True),
        ({**item("ApplicationSet"), "spec": {"generators": [{"clusters": {}}]}}, True),
    ],
)
def test_a_set_that_serves_other_clusters_is_known(found, others):
    assert teardown.serves_others(found, "here") is others


def test_an_application_of_a_set_is_of_the_cluster_that_its_part_names():
    application = item("Application", **{CLUSTER: "here"})
    assert owned.belongs(application, "here")
    application["metadata"]["annotations"] = {"modelyard/part": "there/vllm"}
    assert not owned.belongs(application, "here")
    assert not owned.belongs(item("Deployment", **{CLUSTER: "there"}), "here")
