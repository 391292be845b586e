"""Images, mirrors and ownership."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import ownership
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import names


@pytest.mark.parametrize(
    ("image", "pulled"),
    [
        ("nvcr.io/nvidia/tritonserver:25.11-py3", "mirror.local/nv/nvidia/tritonserver:25.11-py3"),
        ("vllm/vllm-openai:v1", "mirror.local/hub/vllm/vllm-openai:v1"),
        ("python:3", "mirror.local/hub/library/python:3"),
        ("nvcr.io.evil/x:1", "nvcr.io.evil/x:1"),
        ("quay.io/team/a:1", "mirror.local/team/a:1"),
        ("quay.io/other/a:1", "quay.io/other/a:1"),
    ],
)
def test_mirrors(image: str, pulled: str) -> None:
    mirrors = {"nvcr.io": "mirror.local/nv/", "docker.io": "mirror.local/hub", "quay.io/team": "mirror.local/team"}
    assert names.mirrored(image, mirrors) == pulled


def test_registry_of_an_account() -> None:
    assert names.ecr_registry("123456789012", "eu-west-1") == "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    assert names.ecr_registry("123456789012", "cn-north-1", "aws-cn").endswith(".amazonaws.com.cn")


def test_ownership_is_in_metadata_only() -> None:
    deployment = {"kind": "Deployment", "metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": {"app": "a"}}}}
    namespace = {"kind": "Namespace", "metadata": {"name": "n"}}
    first, second = ownership.own([deployment, namespace], "vllm_judge", "prod", "ml", {"team": "x"}, {"note": "y"})
    assert first["metadata"] == {
        "name": "a",
        "namespace": "ml",
        "labels": {
            "team": "x",
            "app.kubernetes.io/managed-by": "modelyard",
            "modelyard/component": "vllm-judge",
            "modelyard/cluster": "prod",
        },
        "annotations": {"note": "y"},
    }
    assert first["spec"] == deployment["spec"]
    assert "namespace" not in second["metadata"]
