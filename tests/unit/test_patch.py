"""The user's raw patches (*_patch)."""

from typing import Any

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.patch import strategic
from rendering import rendered

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


def test_only_the_deployment_changes(vllm_objects: Any) -> None:
    plain, patched = vllm_objects({}), vllm_objects({"spec": {"paused": True}})
    assert plain.keys() == patched.keys()
    assert [kind for kind in plain if plain[kind] != patched[kind]] == ["Deployment"]
    assert patched["Deployment"] == strategic(plain["Deployment"], {"spec": {"paused": True}})


@pytest.fixture
def vllm_objects() -> Any:
    """Render vLLM with a patch: its objects by kind."""

    def render(patch: dict) -> dict:
        found = rendered(("vllm",), vllm_patch=patch)
        assert found["problems"] == []
        return {item["kind"]: item for part in found["parts"] for item in part["objects"]}

    return render


def pod(**spec: Any) -> dict:
    return {"spec": {"template": {"spec": spec}}}


BELOW = "spec.template.spec"
WRONG = [
    ({"spec": None}, "spec is None: a patch must leave spec.selector as it is"),
    ({"metadata": None}, "metadata is None: a patch must leave metadata.name as it is"),
    ({"kind": None}, "kind is None: a patch must leave kind as it is"),
    ({"apiVersion": None}, "apiVersion is None: a patch must leave apiVersion as it is"),
    ({"kind": "StatefulSet"}, "kind is 'StatefulSet': a patch must leave kind as it is"),
    ({"apiVersion": "apps/v2"}, "apiVersion is 'apps/v2': a patch must leave apiVersion as it is"),
    ({"metadata": {"name": "other"}}, "metadata.name is 'other': a patch must leave metadata.name as it is"),
    ({"metadata": {"name": None}}, "metadata.name is None: a patch must leave metadata.name as it is"),
    ({"metadata": {"namespace": "other"}}, "metadata.namespace is 'other': a patch must leave metadata.namespace"),
    ({"spec": {"selector": {"matchLabels": {"a": "b"}}}}, "spec.selector is {'matchLabels': {'a': 'b'}}: a patch must"),
    ({"spec": {"template": None}}, "spec.template is None: a patch must leave spec.template.metadata.labels.app"),
    ({"spec": {"template": {"metadata": {"labels": None}}}}, "labels is None: a patch must leave spec.template"),
    (pod(containers=[]), "containers is []: a patch must leave the container vllm"),
    (pod(containers=None), "containers is None: a patch must leave the container vllm"),
    ({"spec": {"template": {"spec": None}}}, "spec.template.spec is None: a patch must leave the container vllm"),
    (pod(containers=[{"name": "vllm", "$patch": "delete"}]), "a patch must leave the container vllm"),
    (pod(containers="text"), f"{BELOW}.containers is 'text': must be a list"),
    (pod(containers={"name": "a"}), f"{BELOW}.containers is {{'name': 'a'}}: must be a list"),
    (pod(containers=["a"]), f"{BELOW}.containers.0 is 'a': must be a dictionary"),
    (pod(containers=[None]), f"{BELOW}.containers.0 is None: must be a dictionary"),
    (pod(containers=[{"image": "a"}]), f"{BELOW}.containers.0 is {{'image': 'a'}}: must have a name"),
    (pod(containers=[{"name": 5}]), f"{BELOW}.containers.0 is {{'name': 5}}: must have a name"),
    (pod(containers=[{"name": "vllm", "env": "A=b"}]), f"{BELOW}.containers.0.env is 'A=b': must be a list"),
    (pod(containers=[{"name": "vllm", "image": 5}]), f"{BELOW}.containers.0.image is 5: must be a text"),
    (pod(containers=[{"name": "vllm", "image": {}}]), f"{BELOW}.containers.0.image is {{}}: must be a single value"),
    (
        pod(containers=[{"name": "new", "env": [{"value": "a"}]}]),
        f"{BELOW}.containers.0.env.0 is {{'value': 'a'}}: must",
    ),
    (pod(initContainers=[{}]), f"{BELOW}.initContainers.0 is {{}}: must have a name"),
    (pod(volumes="text"), f"{BELOW}.volumes is 'text': must be a list"),
    ({"spec": "text"}, "spec is 'text': must be a dictionary"),
    ({"spec": ["text"]}, "spec is ['text']: must be a dictionary"),
    ({"metadata": 5}, "metadata is 5: must be a dictionary"),
    ({"metadata": {"annotations": {"a": 5}}}, "metadata.annotations.a is 5: must be a text: put it in quotes"),
    ({"spec": {"replicas": "two"}}, "spec.replicas is 'two': must be a whole number"),
    ({"spec": {"replicas": True}}, "spec.replicas is True: must be no true or false"),
    ({"spec": {"replicas": 4294967298}}, "spec.replicas is 4294967298: must be a whole number from -2147483648 to"),
    ({"spec": {1: 2}}, "spec.1 is 1: the key must be a text"),
]


@pytest.mark.parametrize(("patch", "told"), WRONG, ids=lambda value: str(value)[:70])
def test_what_a_patch_must_leave_and_what_it_must_be(patch: dict, told: str) -> None:
    found = rendered(("vllm",), vllm_patch=patch)
    (line,) = found["problems"]
    assert line.startswith(f"vllm_patch.{told}") or (line.startswith("vllm_patch.") and told in line)


def test_what_a_patch_may_do() -> None:
    allowed = {
        "metadata": {"annotations": {"a": "b"}, "name": "vllm"},
        "spec": {
            "strategy": {"rollingUpdate": {"maxSurge": "25%"}},
            "template": {
                "spec": {
                    "terminationGracePeriodSeconds": 2**31,
                    "tolerations": None,
                    "volumes": [{"name": "own", "emptyDir": {"sizeLimit": 5368709120}}],
                    "containers": [
                        {"name": "vllm", "resources": {"limits": {"cpu": 5}}, "ports": [{"containerPort": 1}]},
                        {"name": "sidecar", "image": "a:1", "env": [{"name": "A", "value": "b"}]},
                    ],
                }
            },
        },
    }
    assert rendered(("vllm",), vllm_patch=allowed)["problems"] == []
