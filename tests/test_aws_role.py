"""The AWS side of a cluster, made in moto: what is there afterwards, what is refused, and that nothing is left half-made."""

import copy
import json

import aws_api
import pytest
from ansible_collections.modelyard.core.plugins.module_utils import aws, aws_account, iam

ACCOUNT, OTHER, REGION = aws_api.ACCOUNT, aws_api.OTHER, aws_api.REGION
ROLES = ("my-triton-s3-read", "my-vllm-s3-read", "my-ml-models-argo-workflows")
ISSUER = f"https://oidc.eks.{REGION}.amazonaws.com/id/AAAA"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with aws_api.running(tmp_path_factory.mktemp("aws") / "moto.log") as found:
        yield found


@pytest.fixture
def cloud(service, monkeypatch):
    service.reset()
    for name in [name for name in aws_api.os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in service.env.items():
        monkeypatch.setenv(name, value)
    return service


def service_account(component, name, role, account=ACCOUNT, **more):
    arn = role if role.startswith("arn:") else f"arn:aws:iam::{account}:role/{role}"
    return {"component": component, "namespace": "ml-models", "name": name, "role_arn": arn, "reads": [], **more}


def options(cluster="staging", account=ACCOUNT, **given):
    accounts = [
        service_account("triton", "triton-inference", ROLES[0], account, reads=["s3://my-triton-models"]),
        service_account("triton", "triton-inference-gpu", ROLES[0], account, reads=["s3://my-triton-models"]),
        service_account("vllm", "vllm-sa", ROLES[1], account),
        service_account("workflow", "workflow-sa", ROLES[2], account),
    ]
    found = {
        "state": "present",
        "cluster_name": cluster,
        "cluster_account_id": account,
        "account_id": account,
        "partition": "aws",
        "region": REGION,
        "api_server": "",
        "namespace": "ml-models",
        "eks_cluster_name": cluster,
        "oidc_issuer": ISSUER,
        "pod_identity": False,
        "service_accounts": accounts,
        "role_arns": sorted({item["role_arn"] for item in accounts}),
        "access": {
            "triton": [{"bucket": "my-triton-models", "head_bucket": True}],
            "vllm": [{"bucket": "my-mlflow-artifacts", "prefixes": ["7/"]}],
            "vllm_judge": [],
            "workflow": [
                {"bucket": bucket, "write": True}
                for bucket in ("my-triton-models", "my-mlflow-artifacts", "my-vllm-data")
            ],
        },
        "buckets": {"my-triton-models": {}},
        "permissions_boundary": "",
        "max_session_seconds": 3600,
        "tags": {"team": "ml"},
        "adopt": [],
    }
    return {**copy.deepcopy(found), **given}


def run(check=False, denied=(), **given):
    """Plan and write as the action does; returns the account's watch, the changes and the notices."""
    wanted = options(**given)
    account = aws_account.Account("", wanted["region"])
    watch = aws_api.Watch(account, denied)
    plan = aws_account.Planner(account, wanted).make()
    if not check:
        aws_account.written(account, plan.writes)
    watch.changes = [write.summary for write in plan.writes]
    watch.notices, watch.plan = plan.notices, plan
    return watch


def everything(cloud, account=ACCOUNT):
    """All that an account holds, for comparing."""
    iam_, s3 = cloud.client("iam", account), cloud.client("s3", account)
    found = {"associations": copy.deepcopy(cloud.eks.associations)}
    for role in iam_.list_roles()["Roles"]:
        name = role["RoleName"]
        policies = iam_.list_role_policies(RoleName=name)["PolicyNames"]
        live = iam_.get_role(RoleName=name)["Role"]
        keys = ("Arn", "AssumeRolePolicyDocument", "MaxSessionDuration", "PermissionsBoundary", "Tags")
        found[name] = {key: live.get(key) for key in keys} | {
            policy: iam_.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"] for policy in policies
        }
    for provider in iam_.list_open_id_connect_providers()["OpenIDConnectProviderList"]:
        live = iam_.get_open_id_connect_provider(OpenIDConnectProviderArn=provider["Arn"])
        found[provider["Arn"]] = {key: live.get(key) for key in ("ClientIDList", "Tags", "Url")}
    for bucket in s3.list_buckets()["Buckets"]:
        found[bucket["Name"]] = bucket_settings(s3, bucket["Name"])
    return json.loads(json.dumps(found, default=str, sort_keys=True))


def bucket_settings(s3, name):
    calls = (
        "get_bucket_versioning",
        "get_bucket_encryption",
        "get_public_access_block",
        "get_bucket_policy",
        "get_bucket_lifecycle_configuration",
        "get_bucket_tagging",
    )
    found = {}
    for call in calls:
        try:
            answer = getattr(s3, call)(Bucket=name)
            found[call] = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
        except s3.exceptions.ClientError as error:
            found[call] = error.response["Error"]["Code"]
    return found


def trust_of(cloud, role, account=ACCOUNT):
    return cloud.client("iam", account).get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]


def policy_of(cloud, role, cluster="staging", account=ACCOUNT):
    found = cloud.client("iam", account).get_role_policy(RoleName=role, PolicyName=f"modelyard-{cluster}")
    return found["PolicyDocument"]


def token(name, namespace="ml-models", issuer=ISSUER, account=ACCOUNT, audience="sts.amazonaws.com"):
    provider = aws.provider_arn(issuer, account, "aws")
    return iam.web_identity(provider, {"sub": aws.subject(namespace, name), "aud": [audience]})


def trusted(cloud, role, request, account=ACCOUNT):
    return iam.decide([trust_of(cloud, role, account)], request).allowed


# --- What is made -----------------------------------------------------------------------------------


def test_a_first_run_makes_everything(cloud):
    run()
    found = everything(cloud)
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER.removeprefix('https://')}"
    assert {*ROLES, provider, "my-triton-models"} == set(found) - {"associations"}
    assert found[provider]["ClientIDList"] == ["sts.amazonaws.com"]
    tags = {pair["Key"]: pair["Value"] for pair in found[ROLES[0]]["Tags"]}
    assert tags == {"managed-by": "modelyard", "modelyard/cluster/staging": "true", "team": "ml"}
    bucket = found["my-triton-models"]
    assert bucket["get_bucket_versioning"]["Status"] == "Enabled"
    assert set(bucket["get_public_access_block"]["PublicAccessBlockConfiguration"].values()) == {True}
    rule = bucket["get_bucket_encryption"]["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    rules = {rule["ID"]: rule for rule in bucket["get_bucket_lifecycle_configuration"]["Rules"]}
    assert rules["modelyard-noncurrent-versions"]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 30
    assert rules["modelyard-multipart-uploads"]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 7


def test_a_role_trusts_exactly_who_carries_it(cloud):
    run()
    for role, names in zip(
        ROLES, (("triton-inference", "triton-inference-gpu"), ("vllm-sa",), ("workflow-sa",)), strict=True
    ):
        assert len(trust_of(cloud, role)["Statement"]) == 1
        for name in (
            "triton-inference",
            "triton-inference-gpu",
            "vllm-sa",
            "workflow-sa",
            "default",
            "triton-inference-g",
        ):
            assert trusted(cloud, role, token(name)) is (name in names)
            assert not trusted(cloud, role, token(name, "default"))
            assert not trusted(cloud, role, token(name, audience="https://kubernetes.default.svc"))
            assert not trusted(cloud, role, token(name, issuer=ISSUER + "B"))
            assert not trusted(cloud, role, token(name, account=OTHER))


def allowed(cloud, role, operation, bucket, key="", **more):
    return iam.decide([policy_of(cloud, role)], iam.s3(operation, bucket, key, account=ACCOUNT, **more)).allowed


def test_a_policy_allows_what_its_client_does_and_no_more(cloud):
    run()
    triton, vllm, workflow = ROLES
    assert allowed(cloud, triton, "HeadBucket", "my-triton-models")
    assert allowed(cloud, triton, "GetObject", "my-triton-models", "m/1/model.onnx")
    assert not allowed(cloud, triton, "PutObject", "my-triton-models", "m/1/model.onnx")
    assert not allowed(cloud, triton, "GetObject", "my-mlflow-artifacts", "7/a")
    assert not allowed(cloud, vllm, "HeadBucket", "my-mlflow-artifacts")
    assert allowed(cloud, vllm, "ListObjectsV2", "my-mlflow-artifacts", prefix="7/a/")
    assert not allowed(cloud, vllm, "ListObjectsV2", "my-mlflow-artifacts", prefix="8/")
    assert not allowed(cloud, vllm, "ListObjectsV2", "my-mlflow-artifacts", prefix="")
    assert allowed(cloud, vllm, "GetObject", "my-mlflow-artifacts", "7/a/adapter.safetensors")
    assert not allowed(cloud, vllm, "GetObject", "my-mlflow-artifacts", "77/a")
    for bucket in ("my-triton-models", "my-mlflow-artifacts", "my-vllm-data"):
        for operation in ("GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload", "ListParts"):
            assert allowed(cloud, workflow, operation, bucket, "k")
        assert allowed(cloud, workflow, "ListObjectsV2", bucket, prefix="")
        assert not allowed(cloud, workflow, "HeadBucket", bucket)
    # A bucket of that name in someone else's account.
    stolen = iam.s3("PutObject", "my-vllm-data", "k", account=OTHER)
    assert not iam.decide([policy_of(cloud, workflow)], stolen).allowed


def test_no_wildcard_but_in_the_object_key(cloud):
    run()
    for role in ROLES:
        for statement in policy_of(cloud, role)["Statement"]:
            assert not any("*" in action for action in iam.listed(statement["Action"]))
            for resource in iam.listed(statement["Resource"]):
                bucket, _, key = resource.partition("/")
                assert "*" not in bucket
                assert resource == bucket or key.endswith("*")


# --- Again, and in check mode -----------------------------------------------------------------------


def test_a_second_run_writes_nothing(cloud):
    assert run().writes
    again = run()
    assert (again.writes, again.changes) == ([], [])


def test_check_mode_writes_nothing_and_foretells_the_run(cloud):
    empty = everything(cloud)
    foretold = run(check=True)
    assert foretold.writes == []
    assert everything(cloud) == empty
    done = run()
    assert done.changes == foretold.changes
    assert len(done.writes) == len(foretold.changes)
    assert len(set(done.changes)) == len(done.changes)


def test_a_manual_edit_is_taken_back_with_a_notice(cloud):
    run()
    wanted = everything(cloud)
    client, s3 = cloud.client("iam"), cloud.client("s3")
    hole = {"Sid": "Anyone", "Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}
    trust = trust_of(cloud, ROLES[1])
    trust["Statement"].append(hole)
    client.update_assume_role_policy(RoleName=ROLES[1], PolicyDocument=json.dumps(trust))
    client.put_role_policy(
        RoleName=ROLES[1], PolicyName="modelyard-staging", PolicyDocument=json.dumps(policy_of(cloud, ROLES[2]))
    )
    client.update_role(RoleName=ROLES[0], MaxSessionDuration=7200)
    client.untag_role(RoleName=ROLES[0], TagKeys=["team"])
    s3.delete_public_access_block(Bucket="my-triton-models")
    s3.put_bucket_versioning(Bucket="my-triton-models", VersioningConfiguration={"Status": "Suspended"})
    s3.delete_bucket_policy(Bucket="my-triton-models")
    s3.delete_bucket_lifecycle(Bucket="my-triton-models")
    again = run()
    assert everything(cloud) == wanted
    assert "Anyone" in " ".join(again.notices)
    assert len(again.writes) == 8


def test_foreign_statements_rules_and_tags_of_a_bucket_stay(cloud):
    run()
    s3, name = cloud.client("s3"), "my-triton-models"
    policy = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])
    audit = {
        "Sid": "Audit",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutBucketAcl",
        "Resource": f"arn:aws:s3:::{name}",
    }
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps({**policy, "Statement": [audit]}))
    rule = {"ID": "old-logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 9}}
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
    s3.put_bucket_tagging(
        Bucket=name, Tagging={"TagSet": [{"Key": "managed-by", "Value": "modelyard"}, {"Key": "cost", "Value": "1"}]}
    )
    run()
    assert {item["Sid"] for item in json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]} == {
        "Audit",
        "ModelyardTlsOnly",
    }
    assert {item["ID"] for item in s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]} == {
        "old-logs",
        "modelyard-noncurrent-versions",
        "modelyard-multipart-uploads",
    }
    assert {pair["Key"] for pair in s3.get_bucket_tagging(Bucket=name)["TagSet"]} >= {
        "cost",
        "modelyard/cluster/staging",
    }
    assert run().writes == []
