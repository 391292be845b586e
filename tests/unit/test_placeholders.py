"""What an example left to be set: found where it would be written to a cluster, and nothing that may be meant."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.placeholders import placeholders
from rendering import rendered

OWN = {"platform_aws_account_id": "208374650911", "platform_api_server": "https://10.0.0.1"}
GITOPS = {"platform_delivery": "gitops", "argocd_apps_repo_url": "https://github.com/northwind/models"}


@pytest.mark.parametrize(
    "text",
    [
        "000000000000", "123456789012", "111122223333", "999999999999",
        "arn:aws:iam::111122223333:role/my-vllm-s3-read", "000000000000.dkr.ecr.eu-central-1.amazonaws.com/loader",
        "triton-models-444455556666",
        "https://github.com/your-org/mlops-on-kubernetes", "git@github.com:your_company/models.git", "<your-registry>/loader",
        "registry.io/YOURTEAM/loader", "your-cluster-name", "https://github.com/my-org/models",
        "CHANGE_ME", "changeme", "change-me.dkr.ecr.eu-west-1.amazonaws.com/loader", "REPLACE_ME", "TODO", "https://FIXME",
        "ACCOUNT.dkr.ecr.REGION.amazonaws.com/loader", "arn:aws:iam::ACCOUNT_ID:role/x", "${AWS_ACCOUNT_ID}.dkr.ecr.eu-west-1.amazonaws.com/x",
        "<account>.dkr.ecr.<region>.amazonaws.com/x", "<ACCOUNT ID>",
        "https://example.com", "https://git.example.com/ml", "registry.example.org/loader", "registry.example.com:5000/loader",
        "git@example.com:ml/models.git", "example.net", "https://mlflow.example", "http://proxy.invalid:3128",
        "https://0123456789ABCDEF0123456789ABCDEF.gr7.eu-central-1.eks.amazonaws.com", "https://XXXXXXXXXX.gr7.eu-west-1.eks.amazonaws.com",
        "00000000-0000-0000-0000-000000000000",
    ],
)  # fmt: skip
def test_a_placeholder_is_found(text):
    assert placeholders(text)


@pytest.mark.parametrize(
    "text",
    [
        "208374650911", "1111222233334", "20111122223333", "arn:aws:iam::208374650911:role/my-vllm-s3-read",
        "https://github.com/northwind/models", "https://github.com/yourself-health/models", "my-triton-models", "my-mlflow-artifacts",
        "mirror.example-labs.io/hub", "example-corp.com", "https://examples.com", "https://example.company.io", "myexample.com",
        "example.com/gpu", "counterexample.com:443", "examples/model", "org/todo-classifier", "changemeter", "regional", "AWS_REGION",
        "cluster-autoscaler", "s3://models/region/", "<|im_start|>", "<s>", "eu-central-1", "workload: gpu-vllm", "",
        "https://9F86D081884C7D659A2FEAA0C55AD015.gr7.eu-central-1.eks.amazonaws.com", "3f2a8c1e-9b7d-4e21-a6f0-123456789012",
        "my-organ-donor", "https://kubernetes.default.svc", "http://mlflow.ai-platform:80", "xxl",
    ],
)  # fmt: skip
def test_what_may_be_meant_is_none(text):
    assert placeholders(text) == []


def test_what_is_accepted_is_none_where_it_stands_as_it_is():
    assert placeholders("mirror.example.com/hub", ["mirror.example.com"]) == []
    assert placeholders("000000000000.dkr.ecr.eu-central-1.amazonaws.com/x", ["000000000000"]) == []
    assert placeholders("other.example.com/hub", ["mirror.example.com"]) == ["example.com"]


def test_an_inventory_without_any_has_none():
    assert rendered(**OWN)["placeholders"] == []
    assert rendered(**OWN, **GITOPS, platform_extra_annotations={"contact": "ml@example.com"})["placeholders"] == []


def test_the_value_and_what_it_makes_unpullable_are_told():
    lines = rendered(**{**OWN, "platform_aws_account_id": "000000000000"})["placeholders"]
    assert lines == [
        "platform_aws_account_id is '000000000000': an example's value: set your own",
        "vllm_init_image is '000000000000.dkr.ecr.eu-central-1.amazonaws.com/vllm-deployment-tools:latest': an image in a registry of "
        "'000000000000': build your own with make image (docs/adapters.md)",
    ]
    # Without adapters nobody pulls it, and one that is named is told as what it is.
    for own in ({"vllm_lora_enabled": False}, {"vllm_init_image": "ghcr.io/northwind/loader"}):
        assert len(rendered(**{**OWN, "platform_aws_account_id": "000000000000", **own})["placeholders"]) == 1
    (line,) = rendered(**OWN, vllm_init_image="000000000000.dkr.ecr.eu-central-1.amazonaws.com/loader")["placeholders"]
    assert line.startswith("vllm_init_image is '000000000000.dkr.ecr")
    assert "'000000000000' is an example's value" in line


def test_nested_values_and_those_of_a_profile_are_named_with_their_path():
    given = {
        "platform_image_registry_mirrors": {"docker.io": "mirror.example.com/hub"},
        "triton_profiles": {"gpu": {"image": "registry.example.com/triton:1"}},
        "vllm_access": [{"bucket": "artifacts", "kms_key_arn": "arn:aws:kms:eu-central-1:111122223333:key/1"}],
    }
    paths = [line.split(" ")[0] for line in rendered(**OWN, **given)["placeholders"]]
    assert paths == [
        "platform_image_registry_mirrors.docker.io",
        "triton_profiles.gpu.image",
        "vllm_access[0].kms_key_arn",
    ]
    meant = ["mirror.example.com", "registry.example.com", "111122223333"]
    assert rendered(**OWN, **given, platform_accepted_placeholders=meant)["placeholders"] == []


def test_the_applications_repository_counts_where_they_are_applied():
    assert rendered(**OWN)["placeholders"] == []
    default = rendered(**{**OWN, "platform_delivery": "gitops"})["placeholders"]
    assert default == [
        "argocd_apps_repo_url is 'https://github.com/your-org/mlops-on-kubernetes': 'your-org' is an example's value: set your own"
    ]
    assert rendered(("vllm",), **{**OWN, "platform_delivery": "gitops"})["placeholders"] == []


def test_what_is_off_does_not_count():
    mirrored = {"vllm_judge_image": "registry.example.com/vllm:1"}
    assert rendered(**OWN, **mirrored)["placeholders"] == []
    assert len(rendered(**OWN, **mirrored, vllm_judge_variant="judge")["placeholders"]) == 1


def test_a_credential_is_not_shown():
    given = {"platform_connection": {"host": "https://10.0.0.1", "api_key": "change-me-hush"}}
    (line,) = rendered(**OWN, **given)["placeholders"]
    assert line.startswith("platform_connection.api_key is (hidden): ")
    assert "hush" not in line


def test_it_is_no_problem_of_the_rendering():
    found = rendered(**{**OWN, "platform_aws_account_id": "000000000000"})
    assert (found["problems"], bool(found["parts"])) == ([], True)
