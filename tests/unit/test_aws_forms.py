"""Whether a run may have written what a role has: documents of any form are judged, and only the exact form passes."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import drift, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import Owner

ACCOUNT = "123456789012"
OWNER = Owner(ACCOUNT, "eu-west-1", "prod")
PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/issuer.example.com/id/A"
CLUSTER = f"arn:aws:eks:eu-west-1:{ACCOUNT}:cluster/prod"
WEB = policies.web_identity_statement(OWNER.sid, PROVIDER, ["system:serviceaccount:ml:a", "system:serviceaccount:ml:b"])
POD = policies.pod_identity_statement(OWNER.sid, CLUSTER, [("ml", "a"), ("ml", "b")])


@pytest.mark.parametrize("owner", [OWNER, "prod"])
@pytest.mark.parametrize("statement", [WEB, POD, {**WEB, "Action": ["sts:AssumeRoleWithWebIdentity"]}])
def test_what_a_run_writes_passes(statement, owner):
    assert drift.is_as_written(statement, owner, ACCOUNT)


STRINGS = WEB["Condition"]["StringEquals"]
TAGS = POD["Condition"]["StringEquals"]
OTHERS = {
    "nothing": {},
    "no principal": {key: value for key, value in WEB.items() if key != "Principal"},
    "everyone": {**WEB, "Principal": "*"},
    "no kind": {**WEB, "Principal": []},
    "two providers": {**WEB, "Principal": {"Federated": [PROVIDER, PROVIDER]}},
    "one more principal": {**WEB, "Principal": {"Federated": PROVIDER, "AWS": "*"}},
    "no ARN": {**WEB, "Principal": {"Federated": "accounts.google.com"}},
    "another account's provider": {**WEB, "Principal": {"Federated": PROVIDER.replace(ACCOUNT, "210987654321")}},
    "SAML": {**WEB, "Principal": {"Federated": PROVIDER.replace("oidc-provider", "saml-provider")}},
    "no condition": {**WEB, "Condition": None},
    "an empty condition": {**WEB, "Condition": {}},
    "one more operator": {**WEB, "Condition": {**WEB["Condition"], "Bool": {"aws:SecureTransport": "true"}}},
    "another operator": {**WEB, "Condition": {"StringLike": STRINGS}},
    "a subject with a wildcard": {
        **WEB, "Condition": {"StringEquals": {**STRINGS, "issuer.example.com/id/A:sub": "system:serviceaccount:*:*"}},
    },
    "a subject that is none": {**WEB, "Condition": {"StringEquals": {**STRINGS, "issuer.example.com/id/A:sub": 7}}},
    "a Deny": {**WEB, "Effect": "Deny"},
    "another service": {**POD, "Principal": {"Service": "ec2.amazonaws.com"}},
    "another region's cluster": {
        **POD, "Condition": {"StringEquals": {**TAGS, "aws:RequestTag/eks-cluster-arn": CLUSTER.replace("eu-west-1", "x")}},
    },
    "any cluster": {**POD, "Condition": {"StringEquals": {**TAGS, "aws:RequestTag/eks-cluster-arn": "*"}}},
    "a tag less": {
        **POD, "Condition": {"StringEquals": {key: value for key, value in TAGS.items() if "account" not in key}},
    },
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_what_a_run_does_not_write_does_not(case):
    assert not drift.is_as_written(OTHERS[case], OWNER, ACCOUNT)
    assert drift.said_statement(OTHERS[case]).startswith("it trusts ")


def test_a_policy_of_a_run_has_nothing_beyond():
    key = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/1234"
    access = [
        {"bucket": "a", "prefixes": ["x"], "write": True},
        {"bucket": "b", "head_bucket": True, "kms_key_arn": key, "write": True},
        {"bucket": "c", "account_id": "210987654321", "kms_key_arn": "aws/s3"},
        {"bucket": "d", "access_point": f"arn:aws:s3:eu-west-1:{ACCOUNT}:accesspoint/d-point", "prefixes": ["x"]},
    ]
    for partition in ("aws", "aws-cn", "aws-us-gov"):
        document = policies.permissions(access, ACCOUNT, partition)
        assert drift.not_of_a_run(document)["Statement"] == []


def test_a_long_policy_is_cut():
    many = policies.document([{"Effect": "Allow", "Action": "s3:*", "Resource": f"arn:aws:s3:::{n}"} for n in range(5)])
    assert drift.said_policy(many).endswith("s3:* on arn:aws:s3:::2; and 2 more")
    assert drift.said_policy(policies.document([])) == "allows nothing"
    assert drift.said_policy({}) == "allows nothing"
