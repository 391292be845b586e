"""Each permission that a run uses is denied in turn: the message names it, and nothing has changed."""

import json
import re

import aws_api
import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import ACTIONS, Account, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused
from aws_api import ROLES, everything, options, policy_name, replay, run, service_account
from botocore.client import BaseClient
from botocore.exceptions import ClientError

RIGHTS = json.loads((aws_api.ROOT / "docs" / "aws-policy.json").read_text(encoding="utf-8"))
LISTED = {
    action
    for statement in RIGHTS["Statement"]
    for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
}
# AWS asks for these along with another call, moto never does: CreateBucket with ObjectOwnership and tags, associations with a role.
ALONG = {"s3:PutBucketOwnershipControls", "s3:TagResource", "iam:PassRole"}
# tests/test_aws_reach.py denies them.
REPORT = {"iam:GetPolicy", "iam:GetPolicyVersion", "kms:DescribeKey", "kms:GetKeyPolicy"}
# A run does without: tests/test_aws_leftovers.py.
OPTIONAL = {"iam:ListOpenIDConnectProviders", "iam:ListRoles", "tag:GetResources"}
# tests/test_aws_quota.py denies them.
QUOTAS = {
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "servicequotas:GetAWSDefaultServiceQuota",
    "servicequotas:GetServiceQuota",
}
NOTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
BOUNDARY = "arn:aws:iam::123456789012:policy/limit"
ONE = {"service_accounts": [service_account("vllm", "vllm-sa", ROLES[1])], "role_arns": []}
POD = {**ONE, "oidc_issuer": "", "pod_identity": True, "buckets": {}}


def nothing(_cloud):
    """Leave the account empty."""


def made(cloud):
    run(**ONE)
    # Taking back keeps what others wrote.
    cloud.client("iam").update_role_description(RoleName=ROLES[1], Description="by hand")


def limited(cloud):
    cloud.client("iam").create_policy(PolicyName="limit", PolicyDocument=json.dumps(NOTHING))
    made(cloud)


def edited(cloud):
    """Ours, and somebody changed all of it."""
    run(**ONE)
    iam, s3, bucket = cloud.client("iam"), cloud.client("s3"), "my-triton-models"
    everyone = {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}
    iam.update_assume_role_policy(
        RoleName=ROLES[1], PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [everyone]})
    )
    iam.put_role_policy(
        RoleName=ROLES[1],
        PolicyName=policy_name(),
        PolicyDocument=json.dumps(NOTHING),
    )
    iam.update_role(RoleName=ROLES[1], MaxSessionDuration=7200)
    provider = iam.list_open_id_connect_providers()["OpenIDConnectProviderList"][0]["Arn"]
    tags = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=provider)["Tags"]
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=provider)
    left = [tag for tag in tags if tag["Key"] != "team"]
    iam.create_open_id_connect_provider(Url=aws_api.ISSUER, ClientIDList=["other"], Tags=left)
    iam.untag_role(RoleName=ROLES[1], TagKeys=["team"])
    s3.delete_public_access_block(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    s3.delete_bucket_lifecycle(Bucket=bucket)
    s3.delete_bucket_policy(Bucket=bucket)


def bounded(cloud):
    limited(cloud)
    run(**ONE, permissions_boundary=BOUNDARY)


def shared(_cloud):
    run(**ONE)
    run(**ONE, cluster="prod-eu", oidc_issuer=f"{aws_api.ISSUER}2")


def associated(cloud):
    cloud.eks.cluster("staging")
    run(**POD)


def earlier(cloud):
    """What 0.1.0 wrote."""
    replay(cloud, "prod")


def earlier_associations(cloud):
    cloud.eks.cluster("prod")
    replay(cloud, "pods")


def elsewhere(cloud):
    """Associated with another role."""
    associated(cloud)
    for item in cloud.eks.associations.values():
        item["roleArn"] += "-old"


def cluster(cloud):
    cloud.eks.cluster("staging")


LARGE = [{"bucket": "my-mlflow-artifacts", "prefixes": [f"experiment-{number}/" for number in range(500)]}]

# Before, and the run.
SITUATIONS = {
    "first run": (nothing, ONE),
    "a policy that may be too large": (
        nothing,
        {**ONE, "service_accounts": [service_account("vllm", "vllm-sa", ROLES[1], access=LARGE)]},
    ),
    "edited": (edited, ONE),
    "with a boundary": (limited, {**ONE, "permissions_boundary": BOUNDARY}),
    "without a boundary": (bounded, ONE),
    "teardown": (made, {**ONE, "state": "absent"}),
    "teardown of one of two": (shared, {**ONE, "state": "absent"}),
    "taken over": (earlier, {"cluster": "prod"}),
    "associations taken over": (earlier_associations, {**POD, "cluster": "prod"}),
    "first association": (cluster, POD),
    "another association": (elsewhere, POD),
    "no association": (associated, {**POD, "state": "absent"}),
}
# In which situation a right is denied: the first that uses it.
CASES = {
    "first run": [
        "iam:GetOpenIDConnectProvider", "iam:GetRole", "iam:CreateOpenIDConnectProvider", "iam:CreateRole", "iam:PutRolePolicy",
        "s3:CreateBucket", "s3:PutBucketPublicAccessBlock", "s3:PutBucketTagging", "s3:PutEncryptionConfiguration",
        "s3:PutBucketVersioning", "s3:PutLifecycleConfiguration", "s3:PutBucketPolicy", "eks:ListPodIdentityAssociations",
    ],
    "a policy that may be too large": ["iam:GetAccountSummary"],
    "edited": [
        "iam:GetRolePolicy", "iam:ListRolePolicies", "iam:ListAttachedRolePolicies", "iam:UpdateRole", "iam:UpdateAssumeRolePolicy",
        "iam:TagRole", "iam:AddClientIDToOpenIDConnectProvider", "iam:TagOpenIDConnectProvider", "s3:GetBucketTagging",
        "s3:GetBucketPublicAccessBlock", "s3:GetEncryptionConfiguration", "s3:GetBucketVersioning", "s3:GetLifecycleConfiguration",
        "s3:GetBucketPolicy", "s3:ListBucket",
    ],
    "with a boundary": ["iam:PutRolePermissionsBoundary"],
    "without a boundary": ["iam:DeleteRolePermissionsBoundary"],
    "teardown": [
        "iam:DeleteRolePolicy", "iam:DeleteRole", "iam:DeleteOpenIDConnectProvider", "s3:DeleteBucket", "s3:ListBucketVersions",
        "s3:ListBucketMultipartUploads",
    ],
    "teardown of one of two": ["iam:UntagRole"],
    "associations taken over": ["eks:TagResource"],
    "first association": ["eks:DescribeCluster", "eks:CreatePodIdentityAssociation"],
    "another association": ["eks:DescribePodIdentityAssociation", "eks:UpdatePodIdentityAssociation"],
    "no association": ["eks:DeletePodIdentityAssociation"],
}  # fmt: skip
# Taking back needs it too, so what came before it stays.
UNTAG = {
    "taken over": "iam:UntagOpenIDConnectProvider",
    "associations taken over": "eks:UntagResource",
}
# Used only to take back.
UNDO = {"iam:RemoveClientIDFromOpenIDConnectProvider", "s3:DeleteBucketPolicy"}


@pytest.mark.parametrize(
    ("situation", "action"), [(name, action) for name, actions in CASES.items() for action in actions]
)
def test_a_denied_right_changes_nothing(cloud, situation, action):
    prepare, given = SITUATIONS[situation]
    prepare(cloud)
    before = everything(cloud)
    with pytest.raises((AwsError, Refused), match=re.escape(action)) as error:
        run(**given, denied=[action])
    assert "aws-policy.json" in str(error.value)
    assert without_ids(everything(cloud)) == without_ids(before)


@pytest.mark.parametrize("situation", UNTAG)
def test_without_the_right_to_untag_what_stays_is_named(cloud, situation):
    prepare, given = SITUATIONS[situation]
    prepare(cloud)
    with pytest.raises(AwsError, match=rf"{UNTAG[situation]}.* Not rolled back: tag ") as error:
        run(**given, denied=[UNTAG[situation]])
    assert "aws-policy.json" in str(error.value)
    run(**given)
    assert run(**given).writes == []


def without_ids(found):
    """An association that was deleted and made again has another id."""
    return {
        **found,
        "associations": sorted(
            json.dumps({**item, "associationId": ""}, sort_keys=True) for item in found["associations"].values()
        ),
    }


def test_the_listed_rights_are_those_that_are_denied():
    tried = {action for actions in CASES.values() for action in actions}
    assert tried | {*UNTAG.values()} | UNDO | ALONG | REPORT | OPTIONAL | QUOTAS == LISTED


def test_what_could_not_be_taken_back_is_named(cloud):
    with pytest.raises(AwsError, match=f"Not rolled back: create role .*{ROLES[1]} .*iam:DeleteRole"):
        run(**ONE, buckets={}, denied=["iam:PutRolePolicy", "iam:DeleteRole"])


def test_a_right_is_asked_for_nothing_that_is_not_needed(cloud):
    """The calls of a first and a second run stay within the listed rights."""
    for _ in range(2):
        watch = run(**options())
        asked = {ACTIONS.get(name, name) for name in watch.calls}
        assert asked - {"sts:GetCallerIdentity"} <= LISTED


DENIALS = {
    "iam:CreateRole": "is not authorized to perform: iam:TagRole on resource: r because no identity-based policy allows the iam:TagRole action",
    "iam:PutRolePolicy": "is not authorized to perform: iam:PutRolePolicy on resource: r with an explicit deny in a service control policy",
    "iam:CreateOpenIDConnectProvider": "is not authorized to perform: iam:CreateOpenIDConnectProvider on resource: p because no "
    "permissions boundary allows the iam:CreateOpenIDConnectProvider action",
    "s3:PutBucketEncryption": "is not authorized to perform: s3:PutEncryptionConfiguration on resource: b because no identity-based "
    "policy allows the s3:PutEncryptionConfiguration action",
}


@pytest.mark.parametrize("operation", DENIALS)
def test_a_denial_is_in_the_words_of_aws(cloud, operation):
    before = everything(cloud)
    with pytest.raises(AwsError, match=re.escape(DENIALS[operation])) as error:
        run(**ONE, faults={operation: [f"AccessDenied: User: me {DENIALS[operation]}"]})
    # No advice on the run's own rights where they are not what is missing.
    assert ("docs/aws-policy" in str(error.value)) == ("identity-based" in DENIALS[operation])
    assert everything(cloud) == before


def test_a_role_that_may_not_be_passed_is_told(cloud):
    cloud.eks.cluster("staging")
    denial = (
        "User: me is not authorized to perform: iam:PassRole on resource: r because no identity-based policy allows it"
    )
    with pytest.raises(AwsError, match=denial) as error:
        run(**POD, faults={"eks:CreatePodIdentityAssociation": [f"AccessDeniedException: {denial}"]})
    assert "eks:CreatePodIdentityAssociation" not in str(error.value)


def test_a_denial_is_not_tried_again(cloud):
    """Whatever its sentence has in common with those of what AWS does not know yet."""
    denial = (
        "User: me is not authorized to perform: kms:X on resource: k because the resource does not exist in this Region"
    )
    with pytest.raises(AwsError, match="in this Region") as error:
        run(**ONE, faults={"iam:PutRolePolicy": [f"AccessDenied: {denial}", ""]})
    assert "Nothing else has changed" in str(error.value)


def test_the_role_of_a_profile_that_may_not_be_assumed_is_told(cloud, tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.write_text(
        "[profile run]\nrole_arn = arn:aws:iam::123456789012:role/run\ncredential_source = Environment\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    call = BaseClient._make_api_call

    def denied(client, operation, arguments):
        if operation == "AssumeRole":
            raise ClientError({"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {}}, operation)
        return call(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", denied)
    with pytest.raises(AwsError, match="sts:AssumeRole is denied to the credentials"):
        Account("run", aws_api.REGION)
