"""The user's raw patches (*_patch)."""

from ansible_collections.modelyard.core.plugins.plugin_utils.servers.patch import patched, strategic

DEPLOYMENT = {
    "kind": "Deployment",
    "metadata": {"name": "vllm"},
    "spec": {"containers": [{"name": "vllm", "image": "a", "env": [{"name": "A", "value": "1"}]}], "args": ["x", "y"]},
}


def test_named_things_merge_by_name() -> None:
    patch = {"spec": {"containers": [{"name": "vllm", "env": [{"name": "B", "value": "2"}]}, {"name": "sidecar"}]}}
    containers = strategic(DEPLOYMENT, patch)["spec"]["containers"]
    assert containers == [
        {"name": "vllm", "image": "a", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
        {"name": "sidecar"},
    ]


def test_other_lists_replace() -> None:
    assert strategic(DEPLOYMENT, {"spec": {"args": ["z"]}})["spec"]["args"] == ["z"]


def test_null_and_delete_remove() -> None:
    patch = {"spec": {"args": None, "new": {"gone": None}, "containers": [{"name": "vllm", "$patch": "delete"}]}}
    assert strategic(DEPLOYMENT, patch)["spec"] == {"containers": [], "new": {}}


def test_only_the_deployment_of_that_server_changes() -> None:
    service = {"kind": "Service", "metadata": {"name": "vllm"}}
    other = {"kind": "Deployment", "metadata": {"name": "other"}}
    servers = [{"name": "vllm", "patch": {"spec": None}}, {"name": "other", "patch": {}}]
    assert patched([service, DEPLOYMENT, other], servers) == [
        service,
        {"kind": "Deployment", "metadata": {"name": "vllm"}},
        other,
    ]
