"""Role ARNs are composed in one place, and refused when AWS would; each account says what its role is and what it may use."""

import json

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import names, options
from rendering import rendered

ACCOUNT = "123456789012"
ROLE_ARN = "eks.amazonaws.com/role-arn"


@pytest.mark.parametrize(
    ("role", "platform", "arn"),
    [
        ("my-vllm-s3-read", {}, f"arn:aws:iam::{ACCOUNT}:role/my-vllm-s3-read"),
        ("r", {"aws_partition": "aws-cn", "aws_region": "cn-north-1"}, f"arn:aws-cn:iam::{ACCOUNT}:role/r"),
        ("r", {"irsa_role_path": "/team/ml/"}, f"arn:aws:iam::{ACCOUNT}:role/team/ml/r"),
        ("r", {"aws_account_id": int(ACCOUNT)}, f"arn:aws:iam::{ACCOUNT}:role/r"),
        ("arn:aws-us-gov:iam::999999999999:role/p/r", {}, "arn:aws-us-gov:iam::999999999999:role/p/r"),
        ("", {}, ""),
        ("r", {"irsa_enabled": False}, ""),
        ("", {"irsa_enabled": False, "aws_account_id": ""}, ""),
    ],
)
def test_a_role_is_composed_for_the_workflows_and_for_a_server_alike(role, platform, arn):
    variables = {f"platform_{name}": value for name, value in platform.items()}
    variables |= {"irsa_workflow_role_name": role, "triton_role_name": role, "triton_enabled_profiles": ["cpu"]}
    found = rendered(("irsa", "triton"), **variables)
    assert found["problems"] == []
    assert [(part["account"] or {}).get("role_arn", "") for part in found["parts"]] == [arn, arn]
    accounts = [item for part in found["parts"] for item in part["objects"] if item["kind"] == "ServiceAccount"]
    assert [item["metadata"].get("annotations", {}).get(ROLE_ARN, "") for item in accounts] == [arn, arn]
    assert len(options.of(found)["service_accounts"]) == (2 if arn else 0)


def test_a_whole_arn_needs_no_account():
    arn = "arn:aws-us-gov:iam::999999999999:role/p/r"
    assert names.compose_arn(arn, "", "aws", "/") == arn


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"platform_aws_account_id": ""}, "platform_aws_account_id is '': must be the 12 digits"),
        ({"platform_aws_account_id": "12345678901"}, "must be the 12 digits"),
        *(
            ({f"{prefix}role_name": role}, f"{prefix}role_name is {role!r}: {message}")
            for prefix in ("irsa_workflow_", "triton_", "vllm_", "vllm_judge_")
            for role, message in (
                ("a b", "must be up to 64 letters"),
                ("r" * 65, "must be up to 64 letters"),
                ("arn:aws:iam::1:role/x", "must be an ARN like"),
                ("arn:aws:iam::123456789012:user/x", "must be an ARN like"),
            )
        ),
    ],
)
def test_a_role_that_aws_would_refuse(variables, message):
    found = rendered(("irsa", "triton", "vllm", "vllm_judge"), vllm_judge_variant="judge", **variables)
    assert message in "\n".join(found["problems"])


def test_each_account_says_what_it_may_use_and_which_variable_says_so():
    far = {"account_id": "210987654321", "access_point": "arn:aws:s3:eu-central-1:210987654321:accesspoint/models"}
    entry = {"bucket": "gpu-models", "head_bucket": True, "kms_key_arn": "aws/s3", **far}
    gpu = {"access": [entry], "model_repository": "s3://gpu-models/x"}
    found = options.of(
        rendered(
            triton_access=[{"bucket": "models", "head_bucket": True}],
            triton_model_repository="s3://models",
            triton_profiles={"gpu": gpu},
            irsa_vllm_access=[{"bucket": "artifacts"}],
            vllm_judge_variant="judge",
            vllm_judge_role_name="judge",
        )
    )
    said = {item["name"]: (item["access"], item["variable"], item["reads"]) for item in found["service_accounts"]}
    workflows = said.pop("workflow-sa")
    assert said == {
        "triton-inference": ([{"bucket": "models", "head_bucket": True}], "triton_access", ["s3://models"]),
        "triton-inference-gpu": (gpu["access"], "triton_profiles.gpu.access", ["s3://gpu-models/x"]),
        "vllm-sa": ([{"bucket": "artifacts"}], "vllm_access", []),
        "judge-vllm-sa": ([], "vllm_judge_access", []),
    }
    assert [entry["bucket"] for entry in workflows[0]] == ["my-triton-models", "my-mlflow-artifacts", "my-vllm-data"]
    assert workflows[1:] == ("irsa_workflow_access", [])


def test_what_is_off_has_no_account_and_its_role_is_still_named():
    off = {"triton_enabled_profiles": ["cpu"], "vllm_enabled": False, "irsa_workflow_enabled": False}
    found = options.of(rendered(vllm_role_name="gone", **off))
    assert [item["name"] for item in found["service_accounts"]] == ["triton-inference"]
    roles = ("my-ml-models-argo-workflows", "my-triton-s3-read", "gone")
    assert found["role_arns"] == [f"arn:aws:iam::{ACCOUNT}:role/{role}" for role in roles]
    # Of MLServer only once it has models: a run must not need rights on a role that nobody asked for.
    models = {"m": {"registered_model": "m", "alias": "live"}}
    found = options.of(rendered(mlserver_models=models, **off))
    assert f"arn:aws:iam::{ACCOUNT}:role/my-mlserver-s3-read" in found["role_arns"]


def test_the_report_knows_which_containers_need_the_role_and_where_they_ask():
    beside = {"spec": {"template": {"spec": {"containers": [{"name": "beside", "image": "x"}]}}}}
    found = rendered(
        ("irsa", "triton", "vllm"),
        triton_enabled_profiles=["cpu"],
        triton_aws_region="eu-west-1",
        vllm_patch={"Deployment": beside},
        irsa_aws_profiles={ACCOUNT: "here", "210987654321": "there"},
        irsa_aws_profile="other",
    )
    assert found["problems"] == []
    assert '"beside"' in json.dumps(found["parts"])
    asked = options.of(found)
    items = {item["name"]: (item["containers"], item["region"]) for item in asked["service_accounts"]}
    assert items == {
        "workflow-sa": ([], "eu-central-1"),
        "triton-inference": (["triton"], "eu-west-1"),
        "vllm-sa": (["load-adapters", "vllm"], "eu-central-1"),
    }
    assert asked["profile"] == "here"
    assert options.of(rendered(irsa_aws_profile="other"))["profile"] == "other"
